"""Which layers gain most from 16 bits: each one promoted alone, measured on executed integers, no labels needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...dialects.core.interpreter import run
from ...dialects.core.operation import Module
from ...dialects.core.types import Array
from ..framework.environment import Baseline, CalibrationData, Progress, silent_progress
from .accuracy import top1
from .calibration_table import tensor_names
from .measure import Fidelity
from .network import FloatNetwork
from .sampling import Samples, runs


@dataclass(frozen=True)
class Gain:
    """What promoting one layer alone takes off the error of the all-int8 network; `Fidelity` says what an error is."""

    layer: str
    error: float


class Sensitivity:
    """Trials of one float network with some layers promoted to int16, at the ranges that its baseline holds.

    The baseline is that of a pipeline through insert-quantization for precision mixed, without promoted layers.
    """

    def __init__(self, baseline: Baseline) -> None:
        assert baseline.module is not None and baseline.measured is not None and baseline.table is not None
        self.network = FloatNetwork(baseline.module.clone())
        self.fidelity = Fidelity(baseline.module, baseline.measured, recalls=True)
        names, tensors = tensor_names(self.network.sources, self.network.prologue), baseline.table.tensors
        self._ranges = {value: tensors[name].range for value, name in names.items()}

    @property
    def layers(self) -> list[str]:
        """The names of all layers, in order."""
        return list(self.network.layers)

    def error(self, promoted: Collection[str]) -> float:
        """The error with these layers in int16, before any refinement of weights and biases."""
        return self.fidelity.error(self.network.trial(self._ranges, promoted))

    def gains(self, *, progress: Progress = silent_progress) -> list[Gain]:
        """The gain of every layer, in the order of the network."""
        with progress("measuring layers in 16 bits", len(self.layers)) as advance:
            plain = self.error(())
            self.fidelity.keep()
            gains: list[Gain] = []
            for layer in self.layers:
                gains.append(Gain(layer, plain - self.error((layer,))))
                advance(1)
        return gains


def promotion_order(gains: Sequence[Gain], cycles: Mapping[str, float]) -> list[str]:
    """The layers by measured gain for each added cycle (`cycles` by layer), the best first.

    A layer that costs nothing comes before all that cost something; of equal ones the earlier comes first.
    """

    def rate(gain: Gain) -> float:
        return gain.error / max(cycles.get(gain.layer, 0.0), 1e-9)

    return [gain.layer for gain in sorted(gains, key=rate, reverse=True)]


def label_flips(reference: Module, module: Module, data: CalibrationData) -> float:
    """The share of samples (0 to 1) whose largest first output is another one: no accuracy can drop by more."""
    samples = Samples(reference.main, data)
    expected, found = _classes(reference, samples), _classes(module, samples)
    return float((expected != found).mean())


def _classes(module: Module, samples: Samples) -> Array:
    with np.errstate(all="ignore"):
        outputs = [next(iter(run(each.module, each.inputs).values())) for each in runs(module, samples)]
    return np.concatenate([top1(output) for output in outputs])

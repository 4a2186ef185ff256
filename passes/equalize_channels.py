"""The pass `equalize-channels`: channels of one tensor become about equally large, and their weights make up for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module, Terminator
from ..dialects.core.types import Array
from .equalization.absorption import absorb_factors
from .equalization.balance import balance
from .equalization.classes import ChannelClasses
from .equalization.extremes import channel_extremes
from .framework.base import Pass, at_least
from .framework.environment import CalibrationData, Environment
from .framework.synthetic import synthetic_count, synthetic_samples
from .insert_quantization import InsertQuantization
from .quantization.calibration_table import CalibrationTable
from .quantization.formats import FORMATS
from .quantization.grouping import TypeGroups
from .quantization.legality import is_quantizable
from .quantization.lockstep import walk_capacity
from .quantization.measure import Fidelity, decibels, held_back

INTEGERS = tuple(FORMATS)
"""Precisions at which it matters how large the channels of one tensor are beside each other: in 16 bits too a channel
that is a hundredth of the largest one has few steps."""


MOST_TRIED = 32
"""Samples that ranges on trial come from: both networks that are compared take theirs from the same ones."""


@dataclass(frozen=True)
class EqualizeChannels(Pass):
    """Scale channels so that one 8-bit range suits all channels of a tensor, and undo it in the weights that read them.

    The float network computes the same as before. Factors go through whatever commutes with them: ReLU, PRelu, pooling,
    data movement, depthwise convolutions, and sums whose operands share them. Channels that a clamp other than ReLU
    touches on the calibration samples (a ReLU6 at 6) keep their scale, and so do inputs and outputs.

    With `check` the factors are kept only if the network, quantized on trial, comes closer to the float network on
    held-back samples. `samples` limits how many others the factors come from. Without calibration data nothing happens,
    unless `noise` lets standard normal noise stand in; nor at precisions that are no integers, or if the network has
    no integer form.
    """

    name: ClassVar[str] = "equalize-channels"

    samples: int = at_least(1, 64)
    check: bool = True
    noise: bool = False

    def run(self, module: Module, environment: Environment) -> None:
        main = module.main
        if environment.table is not None:
            self._repeat(module, environment, environment.table)
            return
        data = environment.calibration
        if data is None and self.noise:
            data = synthetic_samples(main, synthetic_count(main), 0)
        operations = [op for op in main.body if not op.has_trait(Terminator)]
        if data is None or environment.precision not in INTEGERS or not is_quantizable(operations):
            return
        seen, measured = held_back(module, data)
        count = min(self.samples, walk_capacity(module))
        seen = CalibrationData({name: array[:count] for name, array in seen.samples.items()})
        classes = ChannelClasses(main)
        lows, highs = channel_extremes(module, seen)
        if not all(np.isfinite(each).all() for each in (*lows.values(), *highs.values())):
            return  # insert-quantization refuses such a network by name
        factors = balance(classes, TypeGroups(operations), lows, highs)
        if (factors == 1.0).all():
            return
        facts: dict[str, Any] = {}
        suffix = ""
        if self.check:
            few = CalibrationData({name: array[:MOST_TRIED] for name, array in seen.samples.items()})
            trial = Environment(calibration=few, precision=environment.precision)
            before, after = _errors(module, factors, trial, Fidelity(module, measured))
            facts = {"error_before": before, "error_after": after}
            ratios = f"SQNR {decibels(before):.1f} dB before, {decibels(after):.1f} dB after"
            suffix = f": {ratios}"
            if after >= before:
                message = f"took back what did not help (equalized channels): {ratios}"
                environment.remark(self.name, "missed", message, **facts)
                return
        count = absorb_factors(module, classes, factors)
        environment.baseline.factors = tuple(factors.tolist())
        message = f"equalized the channels of {count} operations{suffix}"
        environment.remark(self.name, "applied", message, operations=count, **facts)

    def _repeat(self, module: Module, environment: Environment, table: CalibrationTable) -> None:
        """Divide by the factors of an earlier calibration, whose ranges are those of the equalized network."""
        if not table.factors:
            return
        classes, factors = ChannelClasses(module.main), np.asarray(table.factors)
        if factors.shape != (classes.count,):
            message = f"the calibration has {len(factors)} channel factors, this network takes {classes.count}"
            raise CompileError(f"{message}; calibrate it again")
        count = absorb_factors(module, classes, factors)
        environment.baseline.factors = table.factors
        message = f"equalized the channels of {count} operations as an earlier calibration did"
        environment.remark(self.name, "applied", message, operations=count)


def _errors(module: Module, factors: Array, trial: Environment, fidelity: Fidelity) -> tuple[float, float]:
    """The error of the network as it is and under the factors, quantized on trial with ranges from its samples.

    Where there is none as it is, it counts as the same under the factors.
    """

    def error(candidate: Module) -> float:
        InsertQuantization(method="percentile").run(candidate, trial)
        return fidelity.error(candidate)

    before = error(module.clone())
    if before == 0.0:
        return before, before
    candidate = module.clone()
    absorb_factors(candidate, ChannelClasses(candidate.main), factors)
    return before, error(candidate)

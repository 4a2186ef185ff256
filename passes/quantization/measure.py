"""The label-free measure: how far a module is from the float network on the same samples, as it is executed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ...dialects.core.interpreter import run
from ...dialects.core.operation import Constant, Function, Module, Value
from ...dialects.core.types import Array
from ...dialects.nn.movement import ReshapeOp, TransposeOp
from ...dialects.nn.softmax import SoftmaxOp
from ...dialects.quant.ops import DequantizeOp, RequantizeOp
from ...dialects.quant.types import QuantizedType
from ..framework.environment import CalibrationData
from .recall import Recall
from .sampling import Run, Samples, runs

MEASURED_MACS = 1 << 32
"""Multiply-accumulates that one measurement may cost: a fraction of a second on one core."""

FEWEST_MEASURED, MOST_MEASURED = 8, 112
"""Samples that are measured at least, and at most, where there are as many."""

FIRST_MEASURED = 16
"""Samples of the first run: what is far off is so on these already."""

LEAST_SHARE = 2.0**-9
"""Probabilities below this share of the largest one count as equal: half a step of a quantized softmax that is sure."""

LARGEST_SHARE = 0.25
"""Of the calibration samples that is held back to be measured; with fewer than 4 * FEWEST_MEASURED it is more."""


class Fidelity:
    """Measures modules against the float module `reference` on `data`; smaller is better, 0 is equal.

    The error of a sample is the power of the noise over the power of the signal, sum((r - y)^2) / mean over the samples
    of sum(r^2), r being the output of `reference` and y that of the module, summed over all outputs: 10^(-SQNR / 10)
    with SQNR in decibels. An output that is a softmax counts by the logarithms of its real probabilities, because
    probabilities near 0 and 1 hide most errors, but below `LEAST_SHARE` of the largest no error counts.
    Integer modules are measured as they execute, bit for bit.
    """

    def __init__(self, reference: Module, data: CalibrationData, *, recalls: bool = False) -> None:
        """Run `reference` on all of `data`; raises CompileError if they do not fit its inputs.

        With `recalls` a module is executed from where it differs from the one that was measured when `keep` was called.
        """
        self._recall = Recall() if recalls else None
        self._samples = Samples(reference.main, data)
        runs = _outputs(reference, self._samples)
        self._expected = [np.concatenate(rows) for rows in zip(*runs, strict=True)]
        powers = [float(np.square(rows).sum(axis=1).mean()) for rows in self._expected]
        self._powers = [power or 1.0 for power in powers]

    @property
    def count(self) -> int:
        """How many samples are measured."""
        return self._samples.count

    def errors(self, module: Module, limit: float = math.inf) -> Array:
        """The error of every sample, float64 [count]. `module` has the inputs and outputs of the reference.

        Once those of the first samples make the mean no less than `limit`, the others are infinite.
        """
        errors, start = np.full(self.count, np.inf), 0
        for outputs in _outputs(module, self._samples, self._recall):
            found = self.errors_of(outputs, start)
            errors[start : start + len(found)] = found
            start += len(found)
            if errors[:start].sum() >= limit * self.count:
                break
        return errors

    def keep(self) -> None:
        """The module that was measured last is the one that others will differ little from."""
        if self._recall is not None:
            self._recall.keep()

    def forget(self) -> None:
        """Execute every module as a whole from now on; frees what `recalls` needs."""
        self._recall = None

    def runs(self, module: Module) -> Iterator[Run]:
        """The samples cut into runs of `module`."""
        return runs(module, self._samples)

    def errors_of(self, found: Sequence[Array], start: int = 0) -> Array:
        """The error of samples from `start` on, from what is `compared` of every output, [samples, elements] each.

        NaN, which is no improvement on anything, for a sample whose outputs overflow in float32.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [
                np.square(actual - expected[start : start + len(actual)]).sum(axis=1) / power
                for actual, expected, power in zip(found, self._expected, self._powers, strict=True)
            ]
        return np.sum(parts, axis=0)

    def error(self, module: Module, limit: float = math.inf) -> float:
        """The mean error over the samples; infinite, and known sooner, if the first ones make it at least `limit`."""
        return float(self.errors(module, limit).mean())


def decibels(error: float) -> float:
    """An error of `Fidelity` as a signal-to-quantization-noise ratio; at most 300 dB."""
    return -10.0 * math.log10(max(error, 1e-30))


def held_back(module: Module, data: CalibrationData) -> tuple[CalibrationData, CalibrationData]:
    """(samples to calibrate on, samples to measure on), a split of `data` that is the same every time.

    As many are held back as `MEASURED_MACS` pays for, within the limits above, spread evenly over the data; where
    there are only a few samples all of them serve both purposes.
    """
    count = min(_affordable(module), max(int(data.count * LARGEST_SHARE), FEWEST_MEASURED))
    if data.count < 2 * count:
        return data, CalibrationData({name: array[:count] for name, array in data.samples.items()})
    measured = np.arange(count) * data.count // count
    rest = np.delete(np.arange(data.count), measured)
    samples = data.samples.items()
    return (
        CalibrationData({name: array[rest] for name, array in samples}),
        CalibrationData({name: array[measured] for name, array in samples}),
    )


def _affordable(module: Module) -> int:
    """How many samples may be measured."""
    macs = sum(getattr(op, "macs_total", 0) for op in module.main.body)
    return min(max(MEASURED_MACS // max(macs, 1), FEWEST_MEASURED), MOST_MEASURED)


def judging(module: Module, fitted: CalibrationData | None, held: CalibrationData) -> CalibrationData:
    """The samples that networks are compared on: those held back, and others.

    As many others as `MEASURED_MACS` pays for, at least FEWEST_MEASURED. Whether one of a few samples is loud decides
    about clipping: what is measured on more of them clips less by chance. Ranges are no more than two numbers a
    tensor, which hardly fit the others by chance. Where `held_back` split nothing there are no others.
    """
    if fitted is None or any(np.shares_memory(rows, fitted.samples[name]) for name, rows in held.samples.items()):
        return held
    others = max(_affordable(module) - held.count, FEWEST_MEASURED)
    samples = {name: np.concatenate([rows, fitted.samples[name][:others]]) for name, rows in held.samples.items()}
    return CalibrationData(samples)


def expose_logits(module: Module) -> Module:
    """A copy of `module` that returns, for each output that is a softmax, the real logits that the softmax reads."""
    copy = module.clone()
    return_logits(copy)
    return copy


def return_logits(module: Module) -> list[int | None]:
    """Make `module` return what softmaxes read as reals; for every output the axis of its softmax, None without."""
    terminator = module.main.body.terminator
    softmaxes = [_softmax(value) for value in terminator.operands]
    for index, softmax in enumerate(softmaxes):
        if softmax is None:
            continue
        logits: Value[Any] = softmax.data
        if isinstance(logits.type.element, QuantizedType):
            logits = module.main.body.insert_before(terminator, DequantizeOp.build(logits)).result
        terminator.set_operand(index, logits)
    module.main.result_types = tuple(value.type for value in terminator.operands)
    _erase_unread(module.main)
    return [None if softmax is None else softmax.axis for softmax in softmaxes]


def _softmax(value: Value[Any]) -> SoftmaxOp | None:
    """The softmax whose result is returned as `value`, converted and rearranged or not."""
    op = value.defining_op
    while isinstance(op, (DequantizeOp, RequantizeOp, ReshapeOp, TransposeOp)):
        op = op.operands[0].defining_op
    return op if isinstance(op, SoftmaxOp) and not isinstance(op.data, Constant) else None


def _erase_unread(function: Function) -> None:
    for op in reversed(list(function.body)):
        if op.results and all(result.is_unused for result in op.results):
            op.erase()


def _outputs(module: Module, samples: Samples, recall: Recall | None = None) -> Iterator[list[Array]]:
    """What is compared of every output, float64 [samples, elements], run by run."""
    exposed = module.clone()
    axes = return_logits(exposed)
    if recall is not None:
        recall.begin()
    first = min(FIRST_MEASURED, samples.count)
    for index, each in enumerate(chain(runs(exposed, samples, 0, first), runs(exposed, samples, first))):
        with np.errstate(all="ignore"):
            if recall is None:
                outputs = list(run(each.module, each.inputs).values())
            else:
                outputs = recall.run(each.module.main, each.inputs, index)
            rows = compared(outputs, axes, each.size)
        yield rows


def compared(outputs: Iterable[Array], axes: Iterable[int | None], size: int) -> list[Array]:
    """What counts of every output of a run of `size` samples, float64 [size, elements]; `axes` of `return_logits`."""
    reals = [np.asarray(array, np.float64) for array in outputs]
    rows = [a if axis is None else _visible_logarithms(a, axis) for a, axis in zip(reals, axes, strict=True)]
    return [array.reshape(size, -1) for array in rows]


def _visible_logarithms(logits: Array, axis: int) -> Array:
    """Ln max(p, LEAST_SHARE * the largest p) of the probabilities p = softmax(logits)."""
    shifted = logits - logits.max(axis=axis, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return np.maximum(shifted, math.log(LEAST_SHARE)) - total

"""Runs sample inputs through the float module, in constant memory, and collects the range of every value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError, Diagnostic
from ...dialects.core.interpreter import run
from ...dialects.core.operation import Function, Module, Operation, Value
from ...dialects.core.types import F32, Array, TensorType
from ..framework.environment import CalibrationData, Progress, silent_progress
from .batching import batched
from .ranges import Range
from .statistics import Statistic, StatisticFactory

LARGEST_BATCH = 64
"""Samples that are run at once, at most."""

BATCH_ELEMENTS = 1 << 22
"""Elements of the widest activation over all samples of a batch, at most: keeps them near the cache."""


def calibrate(
    module: Module,
    data: CalibrationData,
    values: Iterable[Value[Any]],
    statistic: StatisticFactory,
    *,
    progress: Progress = silent_progress,
) -> dict[Value[Any], Range]:
    """The range of each of `values` (of @main, f32) over all samples of `data`.

    Sample i of an input is row i of its array; an input of the model with a first axis of B takes B rows at a time.
    Raises CompileError if the samples do not fit the inputs, or at the operation that first yields NaN or infinity.
    """
    samples = model_samples(module.main, data)
    statistics = {value: statistic() for value in values}
    size = _batch_size(module, samples)
    with progress("calibrating", samples.count) as advance:
        start = 0
        while start < samples.count:
            count = min(size, samples.count - start)
            wide = batched(module, count) if count > 1 else None
            if wide is None:
                # One by one from here on; a model with a fixed batch takes that many samples.
                size = count = _own_batch(module.main)
            _observe(module, wide or module, samples.batch(start, count), statistics)
            advance(min(count, samples.count - start))
            start += count
    return {value: seen.range() for value, seen in statistics.items()}


def synthetic_samples(function: Function, count: int, seed: int) -> CalibrationData:
    """`count` samples of independent standard normal numbers for every argument of `function`, from `seed`."""
    generator = np.random.default_rng(seed)
    samples: dict[str, Array] = {}
    for argument in function.arguments:
        shape = argument.type.shape
        rows = count * (shape[0] if shape else 1)
        samples[str(argument.name)] = generator.standard_normal((rows, *shape[1:]), dtype=np.float32)
    return CalibrationData(samples)


def model_samples(function: Function, data: CalibrationData) -> CalibrationData:
    """The arrays of `data` that are inputs, as float32, first axis = sample; CompileError for missing or unfit ones."""
    fitting: dict[str, Array] = {}
    for argument in function.arguments:
        name, shape = str(argument.name), argument.type.shape
        if name not in data.samples:
            known = ", ".join(f"'{known}'" for known in data.samples)
            raise CompileError(f"calibration data has no array '{name}' for that input of the model, found {known}")
        array = data.samples[name]
        if array.shape[1:] != shape[1:] or array.dtype.kind not in "fiu":
            expected = f"float32[samples{''.join(f', {n}' for n in shape[1:])}]"
            raise CompileError(f"calibration array '{name}' is {array.dtype}{list(array.shape)}, expected {expected}")
        fitting[name] = array.astype(np.float32, copy=False)
    return CalibrationData(fitting)


def _own_batch(function: Function) -> int:
    return max((a.type.shape[0] for a in function.arguments if a.type.shape), default=1)


def _batch_size(module: Module, samples: CalibrationData) -> int:
    widest = max((r.type.size for op in module.main.body for r in op.results), default=1)
    return max(1, min(LARGEST_BATCH, samples.count, BATCH_ELEMENTS // max(widest, 1)))


def _observe(
    original: Module, executed: Module, batch: Mapping[str, Array], statistics: Mapping[Value[Any], Statistic]
) -> None:
    """Run one batch and show every wanted value of `original` to its statistic."""
    twins = dict(zip(executed.main.body, original.main.body, strict=True))
    for argument in original.main.arguments:
        array = batch[str(argument.name)]
        if not _is_finite(array):
            raise CompileError(f"calibration data of input '{argument.name}' hold NaN or infinity, expected numbers")
        if argument in statistics:
            statistics[argument].update(array)

    def observer(op: Operation, results: tuple[Any, ...]) -> None:
        twin = twins[op]
        for value, array in zip(twin.results, results, strict=True):
            if not isinstance(value.type, TensorType) or value.type.element != F32:
                continue
            if not _is_finite(array):
                message = f"'{op.name}': the result holds NaN or infinity for the calibration data"
                raise CompileError(Diagnostic(message, twin.location, ("its range cannot be quantized",)))
            if value in statistics:
                statistics[value].update(array)

    with np.errstate(all="ignore"):
        run(executed, batch, observer=observer)


def _is_finite(array: Array) -> bool:
    # A sum is finite unless an element is not, or it overflows, which the slower check sorts out.
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())

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

SYNTHETIC_ELEMENTS = 1 << 18
"""Input numbers that make the ranges of synthetic calibration steady: two images of 224x224x3, 64 small ones."""


def calibrate(
    module: Module,
    data: CalibrationData,
    values: Iterable[Value[Any]],
    statistic: StatisticFactory,
    *,
    progress: Progress = silent_progress,
) -> dict[Value[Any], Range]:
    """The range of each of `values` (of @main, f32) over all samples of `data`.

    Samples are run side by side where that is certain to change nothing (see `batched`), otherwise one by one. Raises
    CompileError if they do not fit the inputs, or at the operation that first yields NaN or infinity.
    """
    samples = Samples(module.main, data)
    statistics = {value: statistic() for value in values}
    size = _batch_size(module, samples)
    with progress("calibrating", samples.count) as advance:
        start = 0
        while start < samples.count:
            count = min(size, samples.count - start)
            wide = batched(module, count) if count > 1 else None
            if wide is None:
                size = count = 1
            _observe(module, wide or module, samples.take(start, count), statistics)
            advance(count)
            start += count
    return {value: seen.range() for value, seen in statistics.items()}


def synthetic_samples(function: Function, count: int, seed: int) -> CalibrationData:
    """`count` samples of independent standard normal numbers for every argument of `function`, from `seed`."""
    generator = np.random.default_rng(seed)
    return CalibrationData(
        {
            str(argument.name): generator.standard_normal((count, *argument.type.shape), dtype=np.float32)
            for argument in function.arguments
        }
    )


def synthetic_count(function: Function) -> int:
    """How many synthetic samples are enough: about `SYNTHETIC_ELEMENTS` numbers in all, 2 to 64 samples."""
    elements = sum(argument.type.size for argument in function.arguments)
    return min(max(SYNTHETIC_ELEMENTS // max(elements, 1), 2), LARGEST_BATCH)


class Samples:
    """Calibration data cut into what one run of the model takes.

    An input of shape [B, ...] is given as rows [samples, ...], of which a run takes B (the last one is repeated to fill
    the last run), or as whole inputs [samples, B, ...]. Raises CompileError for an input that is missing or unfit.
    """

    def __init__(self, function: Function, data: CalibrationData) -> None:
        self._runs: dict[str, Array] = {}
        self._rows = True
        for argument in function.arguments:
            name, shape = str(argument.name), argument.type.shape
            if name not in data.samples:
                known = ", ".join(f"'{known}'" for known in data.samples)
                raise CompileError(f"calibration data has no array '{name}' for that input of the model, found {known}")
            array = data.samples[name]
            whole = array.shape[1:] == shape
            if array.dtype.kind not in "fiu" or not (whole or (shape and array.shape[1:] == shape[1:])):
                expected = f"float32[samples{''.join(f', {n}' for n in shape[1:])}]"
                raise CompileError(
                    f"calibration array '{name}' is {array.dtype}{list(array.shape)}, expected {expected}"
                )
            rows = array.astype(np.float32, copy=False)
            self._runs[name] = rows if whole else _runs_of(rows, shape[0])
            self._rows = self._rows and shape[:1] == (1,)
        counts = {name: len(runs) for name, runs in self._runs.items()}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"'{name}' {count}" for name, count in counts.items())
            raise CompileError(f"calibration data must be enough for the same number of runs, found {found}")
        self.count = next(iter(counts.values()), 0)

    @property
    def can_batch(self) -> bool:
        """True if every input has a first axis of 1, along which samples can be put side by side."""
        return self._rows

    def take(self, start: int, count: int) -> dict[str, Array]:
        """The inputs of one run, or of `count` runs side by side along axis 0."""
        if count == 1:
            return {name: runs[start] for name, runs in self._runs.items()}
        return {name: runs[start : start + count, 0] for name, runs in self._runs.items()}


def _runs_of(rows: Array, batch: int) -> Array:
    """[runs, batch, ...] from rows [samples, ...]; the last row fills the last run up."""
    missing = -len(rows) % batch
    filled = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
    return filled.reshape(-1, batch, *rows.shape[1:])


def _batch_size(module: Module, samples: Samples) -> int:
    if not samples.can_batch:
        return 1
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

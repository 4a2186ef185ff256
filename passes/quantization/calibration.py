"""Runs sample inputs through the float module, in constant memory, and collects the range of every value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError, Diagnostic
from ...dialects.core.interpreter import run
from ...dialects.core.operation import Module, Operation, Value
from ...dialects.core.types import F32, Array, TensorType
from ..framework.environment import CalibrationData, Progress, silent_progress
from .ranges import Range
from .sampling import Samples, runs
from .statistics import Statistic, StatisticFactory


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
    with progress("calibrating", samples.count) as advance:
        for each in runs(module, samples):
            _observe(module, each.module, each.inputs, statistics)
            advance(each.count)
    return {value: seen.range() for value, seen in statistics.items()}


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

"""Runs sample inputs through the float module, in constant memory, and collects statistics of its values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError, Diagnostic
from ...dialects.core.interpreter import run
from ...dialects.core.operation import Module, Operation, Value
from ...dialects.core.types import F32, Array, TensorType
from ...dialects.nn.onnx import HostOp, OnnxOp
from ..framework.environment import CalibrationData, Progress, silent_progress
from .sampling import Run, Samples, runs
from .statistics import TensorStatistics
from .visibility import Visibility


def calibrate(
    module: Module, data: CalibrationData, values: Iterable[Value[Any]], *, progress: Progress = silent_progress
) -> dict[Value[Any], TensorStatistics]:
    """The statistics of each of `values` (of @main, f32) over all samples of `data`, from one run of each sample.

    Raises as `observe` does.
    """
    statistics = {value: TensorStatistics() for value in values}
    observe(module, data, statistics, progress=progress)
    return statistics


def observe(
    module: Module,
    data: CalibrationData,
    statistics: Mapping[Value[Any], TensorStatistics],
    *,
    progress: Progress = silent_progress,
) -> None:
    """Run all samples of `data` and show what counts of every value of `statistics` (`Visibility`) to its statistics.

    Samples are run side by side where that is certain to change nothing (see `batched`), otherwise one by one. Raises
    CompileError if they do not fit the inputs, or at the operation that first yields NaN or infinity.
    """
    samples, visibility = Samples(module.main, data), Visibility(statistics)
    with progress("calibrating", samples.count) as advance:
        for each in runs(module, samples):
            _observe_run(module, each, statistics, visibility)
            advance(each.size)


def _observe_run(
    original: Module, executed: Run, statistics: Mapping[Value[Any], TensorStatistics], visibility: Visibility
) -> None:
    """Run once and show what counts of every wanted value of `original` to its statistics."""

    def see(value: Value[Any], array: Array) -> None:
        statistics[value].update(array, executed.size)

    twins = dict(zip(executed.module.main.body, original.main.body, strict=True))
    for argument in original.main.arguments:
        array = executed.inputs[str(argument.name)]
        if not _is_finite(array):
            raise CompileError(f"calibration data of input '{argument.name}' hold NaN or infinity, expected numbers")
        visibility.show(argument, array, see)

    def observer(op: Operation, results: tuple[Any, ...]) -> None:
        twin = twins[op]
        for value, array in zip(twin.results, results, strict=True):
            if not isinstance(value.type, TensorType) or value.type.element != F32:
                continue
            if isinstance(op, (OnnxOp, HostOp)) and value not in statistics:
                continue  # the host may pass on to itself what it likes
            if not _is_finite(array):
                message = f"'{op.name}': the result holds NaN or infinity for the calibration data"
                raise CompileError(Diagnostic(message, twin.location, ("its range cannot be quantized",)))
            visibility.show(value, array, see)

    with np.errstate(all="ignore"):
        run(executed.module, executed.inputs, observer=observer)


def _is_finite(array: Array) -> bool:
    # A sum is finite unless an element is not, or it overflows, which the slower check sorts out.
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())

"""The smallest and the largest number that every channel takes over the calibration samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects.core.interpreter import run
from ...dialects.core.operation import Module, Operation, Value
from ...dialects.core.types import Array
from ..framework.environment import CalibrationData
from ..quantization.sampling import Samples, runs


def channel_extremes(module: Module, data: CalibrationData) -> tuple[dict[Value[Any], Array], dict[Value[Any], Array]]:
    """(lows, highs), float [channels] for every value of @main: its extremes along the last axis over all of `data`.

    Raises CompileError if the samples do not fit the inputs.
    """
    lows: dict[Value[Any], Array] = {}
    highs: dict[Value[Any], Array] = {}

    def see(value: Value[Any], array: Array) -> None:
        # The type, not the array, says how many channels there are: several samples of [1] are an array of [samples].
        rows = array.reshape(-1, value.type.shape[-1] if value.type.rank else 1)
        low, high = rows.min(axis=0), rows.max(axis=0)
        lows[value] = np.minimum(lows[value], low) if value in lows else low
        highs[value] = np.maximum(highs[value], high) if value in highs else high

    for each in runs(module, Samples(module.main, data)):
        twins = dict(zip(each.module.main.body, module.main.body, strict=True))
        for argument in module.main.arguments:
            see(argument, each.inputs[str(argument.name)])

        def observer(op: Operation, results: tuple[Any, ...], twins: dict[Operation, Operation] = twins) -> None:
            for value, array in zip(twins[op].results, results, strict=True):
                see(value, array)

        with np.errstate(all="ignore"):
            run(each.module, each.inputs, observer=observer)
    return lows, highs

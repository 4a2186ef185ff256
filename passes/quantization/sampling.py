"""Cuts sample inputs into runs of a model, several samples side by side where that is certain to change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Function, Module
from ...dialects.core.types import Array, TensorType
from ..framework.environment import CalibrationData
from .batching import batched

LARGEST_BATCH = 64
"""Samples that are run at once, at most."""

BATCH_ELEMENTS = 1 << 22
"""Elements of the widest activation over all samples of a batch, at most: keeps them near the cache."""


class Run(NamedTuple):
    """One execution: `module` takes `size` samples side by side, `inputs` are these."""

    module: Module
    inputs: dict[str, Array]
    size: int


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
            if array.dtype.kind not in "fiub" or not (whole or (shape and array.shape[1:] == shape[1:])):
                expected = f"float32[samples{''.join(f', {n}' for n in shape[1:])}]"
                raise CompileError(
                    f"calibration array '{name}' is {array.dtype}{list(array.shape)}, expected {expected}"
                )
            rows = array.astype(argument.type.element.dtype, copy=False)
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


def runs(module: Module, samples: Samples, start: int = 0, stop: int | None = None) -> Iterator[Run]:
    """The runs that take samples `start` up to `stop` (all), in order.

    Operation i of a run's @main is operation i of `module`'s. Samples are side by side along axis 0 where `batched` is
    certain that this changes nothing, otherwise they come one by one.
    """
    end = samples.count if stop is None else stop
    size = min(_batch_size(module, samples), max(end - start, 1))
    wide: dict[int, Module] = {1: module}
    while start < end:
        count = min(size, end - start)
        if count not in wide:
            copy = batched(module, count)
            if copy is None:
                size = 1
                continue
            wide[count] = copy
        yield Run(wide[count], samples.take(start, count), count)
        start += count


def _batch_size(module: Module, samples: Samples) -> int:
    if not samples.can_batch:
        return 1
    tensors = [r.type.size for op in module.main.body for r in op.results if isinstance(r.type, TensorType)]
    return max(1, min(LARGEST_BATCH, BATCH_ELEMENTS // max(tensors, default=1)))

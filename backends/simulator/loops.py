"""Loops over elements as machine code (see kernels.py, which binds them). Needs Numba: import it only where that is.

A geometry is int64 [1 + arrays, RANK]: the shape, then the strides of every array in elements. The last axis is a run:
dense in all arrays, unless a kernel says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from ...dialects.core.types import Array

Function = TypeVar("Function", bound=Callable[..., Any])

_numba: Any = import_module("numba")


def machine_code(function: Function) -> Function:
    """The function compiled at its first call; the code is kept on disk where there is a folder for it."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return _numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return _numba.njit(**options)(function)


@machine_code
def _outer(shape: Array) -> tuple[int, int, int, int]:
    return shape[0], shape[1], shape[2], shape[3]


@machine_code
def _run(array: Array, place: tuple[int, int, int, int], strides: Array, length: int) -> Array:
    """The run of an array at a place of the outer axes."""
    at = place[0] * strides[0] + place[1] * strides[1] + place[2] * strides[2] + place[3] * strides[3]
    return array[at : at + length]


@machine_code
def round_runs(
    values: Array, out: Array, factor: Array, offset: Array, geometry: Array, zero: float, low: float, high: float
) -> None:
    """Out = clip(rint(values * factor + offset) + zero, low, high)."""
    shape, reads, writes, scales, starts = geometry
    length = shape[4]
    for place in np.ndindex(_outer(shape)):
        value, result = _run(values, place, reads, length), _run(out, place, writes, length)
        scale, start = _run(factor, place, scales, length), _run(offset, place, starts, length)
        for i in range(length):
            rounded = np.rint(value[i] * scale[i] + start[i]) + zero
            result[i] = np.int32(min(max(rounded, low), high))


@machine_code
def quantize_runs(
    reals: Array, out: Array, geometry: Array, scale: float, zero: float, low: float, high: float
) -> None:
    """Out = clip(rint(reals / scale) + zero, low, high), all in float32; runs are dense in `reals` only."""
    shape, reads, writes = geometry
    length, step = shape[4], writes[4]
    for place in np.ndindex(_outer(shape)):
        real, result = _run(reals, place, reads, length), _run(out, place, writes, (length - 1) * step + 1)
        for i in range(length):
            rounded = np.rint(real[i] / scale) + zero
            result[i * step] = np.int32(min(max(rounded, low), high))


@machine_code
def add_runs(
    left: Array,
    right: Array,
    out: Array,
    geometry: Array,
    first: float,
    second: float,
    offset: float,
    zero: float,
    low: float,
    high: float,
) -> None:
    """Out = clip(rint(left * first + right * second + offset) + zero, low, high); the output may be an input."""
    shape, lefts, rights, writes = geometry
    length = shape[4]
    row = np.empty(length, out.dtype)  # nothing is stored before all of a run is read
    for place in np.ndindex(_outer(shape)):
        one, two = _run(left, place, lefts, length), _run(right, place, rights, length)
        for i in range(length):
            rounded = np.rint(one[i] * first + two[i] * second + offset) + zero
            row[i] = np.int32(min(max(rounded, low), high))
        result = _run(out, place, writes, length)
        for i in range(length):
            result[i] = row[i]


@machine_code
def round_and_add_runs(
    values: Array,
    residual: Array,
    out: Array,
    factor: Array,
    offset: Array,
    geometry: Array,
    zero: float,
    low: float,
    high: float,
    first: float,
    second: float,
    addend: float,
    last_zero: float,
    last_low: float,
    last_high: float,
) -> None:
    """What `round_runs` and behind it `add_runs` of its result and `residual` compute; these may be the output."""
    shape, reads, others, writes, scales, starts = geometry
    length = shape[4]
    row = np.empty(length, out.dtype)  # as in `add_runs`
    for place in np.ndindex(_outer(shape)):
        value, other = _run(values, place, reads, length), _run(residual, place, others, length)
        scale, start = _run(factor, place, scales, length), _run(offset, place, starts, length)
        for i in range(length):
            rounded = min(max(np.rint(value[i] * scale[i] + start[i]) + zero, low), high)
            rounded = np.rint(rounded * first + other[i] * second + addend) + last_zero
            row[i] = np.int32(min(max(rounded, last_low), last_high))
        result = _run(out, place, writes, length)
        for i in range(length):
            result[i] = row[i]


@machine_code
def copy_runs(source: Array, target: Array, geometry: Array) -> None:
    """Target = source, converted."""
    shape, reads, writes = geometry
    length = shape[4]
    for place in np.ndindex(_outer(shape)):
        found, copied = _run(source, place, reads, length), _run(target, place, writes, length)
        for i in range(length):
            copied[i] = found[i]

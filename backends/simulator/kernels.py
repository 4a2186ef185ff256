"""Inner loops of the fast path as machine code, compiled by Numba where it is installed (the extra `fast`).

Each computes what the numpy steps beside it compute, by the same operations in float64 or on integers that floats hold
exactly, so the bits are the same; one pass over the data takes the place of a numpy call for each operation.

Numba takes half a second to load, and the first run after an installation some seconds to compile (it keeps the machine
code beside this file or in the user's cache): a simulator turns to these kernels once numpy would take longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from ...dialects.core.types import Array
from .plain import Step

RANK = 5
"""Axes of the geometry of a kernel: all but the last may have any stride."""

WORTHWHILE = 1 << 28
"""Results of vector instructions from which on the kernels pay: half a second in numpy, at 2 ns a result."""

Clip = tuple[int, int, int]


@cache
def has_kernels() -> bool:
    """True if Numba is installed."""
    return find_spec("numba") is not None


@cache
def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """The function as machine code; its loops are over elements, so it must never run as Python."""
    numba: Any = import_module("numba")
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder to keep the machine code in
        return numba.njit(**options)(function)


def rounding_kernel(values: Array, out: Array, factor: Array, offset: Array, clip: Clip) -> Step | None:
    """Bind out = clip(rint(values * factor + offset) + zero point, low, high); None for a layout without a kernel.

    `factor` and `offset` float64 broadcast against the values.
    """
    factor, offset = (_dense_run(a, values.shape) for a in (factor, offset))
    arrays = (values, out, factor, offset)
    geometry = _geometry(values.shape, arrays)
    if geometry is None:
        return None
    return partial(compiled(_round), *(_flat(a) for a in arrays), geometry, *map(float, clip))


def sum_kernel(
    left: Array, right: Array, out: Array, factors: tuple[float, float], offset: float, clip: Clip
) -> Step | None:
    """Bind out = clip(rint(left * factor + right * factor + offset) + zero point); None without a kernel.

    The output may be one of the inputs.
    """
    arrays = (left, right, out)
    geometry = _geometry(out.shape, arrays)
    if geometry is None:
        return None
    return partial(compiled(_add), *(_flat(a) for a in arrays), geometry, *factors, offset, *map(float, clip))


def residual_kernel(
    values: Array,
    out: Array,
    factor: Array,
    offset: Array,
    clip: Clip,
    residual: Array,
    addition: tuple[float, float, float, Clip],
) -> Step | None:
    """Bind the results of `rounding_kernel` and their sums with `residual` as of `sum_kernel` in one pass.

    `addition` is (factor of the result, factor of the residual, offset, clip). The output may be the residual.
    """
    factor, offset = (_dense_run(a, values.shape) for a in (factor, offset))
    arrays = (values, residual, out, factor, offset)
    geometry = _geometry(out.shape, arrays)
    if geometry is None:
        return None
    *factors, start, last = addition
    scalars = [*map(float, clip), *factors, start, *map(float, last)]
    return partial(compiled(_round_and_add), *(_flat(a) for a in arrays), geometry, *scalars)


def copy_kernel(source: Array, target: Array) -> Step | None:
    """Bind a copy to an array of any type that holds the numbers; None for a layout without a kernel."""
    arrays = (source, target)
    geometry = _geometry(target.shape, arrays)
    return None if geometry is None else partial(compiled(_copy), *(_flat(a) for a in arrays), geometry)


def taps_kernel(padded: Array, offsets: Sequence[int], weights: Array, out: Array, *, accumulate: bool) -> Step | None:
    """Bind out (+)= the sum over taps of `padded` shifted by `offsets` (elements) times weights [taps, run].

    `padded` has the shape of `out` and the strides of the windows' first tap; sums must be exact in the type of `out`.
    """
    geometry = _geometry(out.shape, (padded, out, np.broadcast_to(weights[0], out.shape)))
    if geometry is None:
        return None
    reach = np.array(offsets, np.int64)
    flat = _flat(padded, int(reach.max()))
    return partial(compiled(_multiply_taps), flat, reach, weights, _flat(out), geometry[:3], accumulate)


def _dense_run(parameter: Array, shape: Sequence[int]) -> Array:
    """A broadcast array whose last axis is spelt out, so that the innermost loop has one stride."""
    parameter = parameter.reshape((1,) * (len(shape) - parameter.ndim) + parameter.shape)
    return np.ascontiguousarray(np.broadcast_to(parameter, (*parameter.shape[:-1], shape[-1])))


def _geometry(shape: Sequence[int], arrays: Sequence[Array]) -> Array | None:
    """int64 [1 + arrays, RANK]: the shape, then the strides of every array in elements, 0 where it repeats.

    Axes that follow each other in all arrays become one. None if more than RANK are left, or the last is not dense.
    """
    sizes: list[int] = []
    strides: list[list[int]] = []
    for axis, size in enumerate(shape):
        steps = [a.strides[axis] // a.itemsize if a.shape[axis] > 1 else 0 for a in arrays]
        if size == 1:
            continue
        if sizes and all(outer == size * inner for outer, inner in zip(strides[-1], steps, strict=True)):
            sizes[-1] *= size
            strides[-1] = steps
        else:
            sizes.append(size)
            strides.append(steps)
    if not sizes or any(step != 1 for step in strides[-1]):
        sizes.append(1)
        strides.append([0] * len(arrays))
    missing = RANK - len(sizes)
    if missing < 0 or (sizes[-1] == 1 and len(sizes) > 1):
        return None
    rows = np.array([sizes, *map(list, zip(*strides, strict=True))], np.int64)
    return np.concatenate([np.tile([[1]] + [[0]] * len(arrays), missing), rows], axis=1)


def _flat(array: Array, beyond: int = 0) -> Array:
    """The memory from the first element of a view to its last, and `beyond` elements more, as one axis."""
    if not array.size:
        return np.empty(0, array.dtype)
    reach = sum(s * (n - 1) for s, n in zip(array.strides, array.shape, strict=True)) // array.itemsize
    return np.lib.stride_tricks.as_strided(array, (reach + 1 + beyond,), (array.itemsize,))


def _round(
    values: Array, out: Array, factor: Array, offset: Array, geometry: Array, zero: float, low: float, high: float
) -> None:
    shape, reads, writes, scales, starts = geometry
    run = shape[4]
    for a in range(shape[0]):
        for b in range(shape[1]):
            for c in range(shape[2]):
                for d in range(shape[3]):
                    at = a * reads[0] + b * reads[1] + c * reads[2] + d * reads[3]
                    value = values[at : at + run]
                    at = a * writes[0] + b * writes[1] + c * writes[2] + d * writes[3]
                    result = out[at : at + run]
                    at = a * scales[0] + b * scales[1] + c * scales[2] + d * scales[3]
                    scale = factor[at : at + run]
                    at = a * starts[0] + b * starts[1] + c * starts[2] + d * starts[3]
                    start = offset[at : at + run]
                    for i in range(run):
                        rounded = np.rint(value[i] * scale[i] + start[i]) + zero
                        result[i] = np.int32(min(max(rounded, low), high))


def _add(
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
    shape, lefts, rights, writes = geometry
    run = shape[4]
    row = np.empty(run, out.dtype)  # the output may be an input: nothing is stored before all of a run is read
    for a in range(shape[0]):
        for b in range(shape[1]):
            for c in range(shape[2]):
                for d in range(shape[3]):
                    at = a * lefts[0] + b * lefts[1] + c * lefts[2] + d * lefts[3]
                    one = left[at : at + run]
                    at = a * rights[0] + b * rights[1] + c * rights[2] + d * rights[3]
                    two = right[at : at + run]
                    for i in range(run):
                        rounded = np.rint(one[i] * first + two[i] * second + offset) + zero
                        row[i] = np.int32(min(max(rounded, low), high))
                    at = a * writes[0] + b * writes[1] + c * writes[2] + d * writes[3]
                    result = out[at : at + run]
                    for i in range(run):
                        result[i] = row[i]


def _round_and_add(
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
    shape, reads, others, writes, scales, starts = geometry
    run = shape[4]
    row = np.empty(run, out.dtype)  # as in `_add`
    for a in range(shape[0]):
        for b in range(shape[1]):
            for c in range(shape[2]):
                for d in range(shape[3]):
                    at = a * reads[0] + b * reads[1] + c * reads[2] + d * reads[3]
                    value = values[at : at + run]
                    at = a * others[0] + b * others[1] + c * others[2] + d * others[3]
                    other = residual[at : at + run]
                    at = a * scales[0] + b * scales[1] + c * scales[2] + d * scales[3]
                    scale = factor[at : at + run]
                    at = a * starts[0] + b * starts[1] + c * starts[2] + d * starts[3]
                    start = offset[at : at + run]
                    for i in range(run):
                        rounded = min(max(np.rint(value[i] * scale[i] + start[i]) + zero, low), high)
                        rounded = np.rint(rounded * first + other[i] * second + addend) + last_zero
                        row[i] = np.int32(min(max(rounded, last_low), last_high))
                    at = a * writes[0] + b * writes[1] + c * writes[2] + d * writes[3]
                    result = out[at : at + run]
                    for i in range(run):
                        result[i] = row[i]


def _copy(source: Array, target: Array, geometry: Array) -> None:
    shape, reads, writes = geometry
    run = shape[4]
    for a in range(shape[0]):
        for b in range(shape[1]):
            for c in range(shape[2]):
                for d in range(shape[3]):
                    at = a * reads[0] + b * reads[1] + c * reads[2] + d * reads[3]
                    found = source[at : at + run]
                    at = a * writes[0] + b * writes[1] + c * writes[2] + d * writes[3]
                    copied = target[at : at + run]
                    for i in range(run):
                        copied[i] = found[i]


def _multiply_taps(
    padded: Array, offsets: Array, weights: Array, out: Array, geometry: Array, accumulate: bool
) -> None:
    shape, reads, writes = geometry
    run = shape[4]
    taps = len(offsets)
    for a in range(shape[0]):
        for b in range(shape[1]):
            for c in range(shape[2]):
                for d in range(shape[3]):
                    at = a * writes[0] + b * writes[1] + c * writes[2] + d * writes[3]
                    total = out[at : at + run]
                    if not accumulate:
                        for i in range(run):
                            total[i] = 0
                    at = a * reads[0] + b * reads[1] + c * reads[2] + d * reads[3]
                    tap = 0
                    while tap + 3 <= taps:  # three at a time share one read and write of the sum
                        first, second, third = offsets[tap] + at, offsets[tap + 1] + at, offsets[tap + 2] + at
                        one, by_one = padded[first : first + run], weights[tap]
                        two, by_two = padded[second : second + run], weights[tap + 1]
                        three, by_three = padded[third : third + run], weights[tap + 2]
                        for i in range(run):
                            total[i] += one[i] * by_one[i] + two[i] * by_two[i] + three[i] * by_three[i]
                        tap += 3
                    while tap < taps:
                        first = offsets[tap] + at
                        one, by_one = padded[first : first + run], weights[tap]
                        for i in range(run):
                            total[i] += one[i] * by_one[i]
                        tap += 1

"""Inner loops of the fast path as machine code, compiled by Numba where it is installed (the extra `fast`).

Each computes what the numpy steps beside it compute, by the same operations in float64 or on integers that floats hold
exactly, so the bits are the same; one pass over the data takes the place of a numpy call for each operation.

Numba takes half a second to load, and the first run after an installation some seconds to compile (it keeps the machine
code beside this file or in the user's cache): a simulator turns to these kernels once numpy would take longer.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
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
    """True if Numba is installed and not told to compile nothing; nothing is loaded to find out."""
    return find_spec("numba") is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")


@cache
def load_kernels() -> bool:
    """Load the kernels; False, with a warning, where Numba is there but does not load (beside another numpy, say)."""
    if not has_kernels():
        return False
    try:
        _loops()
    except (ImportError, OSError, AttributeError) as error:
        warnings.warn(f"numba does not load, loops are not compiled: {error}", stacklevel=2)
        return False
    return True


@cache
def _loops() -> Any:
    """The module loops.py; loading it loads Numba."""
    return import_module(".loops", __package__)


@cache
def _depthwise() -> Any:
    """The module depthwise.py, in the same way."""
    return import_module(".depthwise", __package__)


def rounding_kernel(values: Array, out: Array, factor: Array, offset: Array, clip: Clip) -> Step | None:
    """Bind out = clip(rint(values * factor + offset) + zero point, low, high); None for a layout without a kernel.

    `factor` and `offset` float64 broadcast against the values.
    """
    factor, offset = (_dense_run(a, values.shape) for a in (factor, offset))
    arrays = (values, out, factor, offset)
    geometry = _geometry(values.shape, arrays)
    if geometry is None:
        return None
    return partial(_loops().round_runs, *(flat(a) for a in arrays), geometry, *map(float, clip))


def quantization_kernel(reals: Array, out: Array, scale: float, clip: Clip) -> Step | None:
    """Bind out = clip(rint(reals / scale) + zero point, low, high) in float32; None for a layout without a kernel.

    Of `reals` float32, which may be any view, none is NaN.
    """
    if any(stride < 0 or stride % reals.itemsize for stride in reals.strides) or not reals.flags.aligned:
        return None
    order = sorted(range(reals.ndim), key=lambda axis: -reals.strides[axis])
    arrays = reals.transpose(order), out.transpose(order)
    geometry = _geometry(arrays[0].shape, arrays, dense=1)
    if geometry is None:
        return None
    scalars = map(np.float32, (scale, *clip))
    return partial(_loops().quantize_runs, *(flat(a) for a in arrays), geometry, *scalars)


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
    return partial(_loops().add_runs, *(flat(a) for a in arrays), geometry, *factors, offset, *map(float, clip))


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
    return partial(_loops().round_and_add_runs, *(flat(a) for a in arrays), geometry, *scalars)


def copy_kernel(source: Array, target: Array) -> Step | None:
    """Bind a copy to an array of any type that holds the numbers; None for a layout without a kernel."""
    arrays = (source, target)
    geometry = _geometry(target.shape, arrays)
    return None if geometry is None else partial(_loops().copy_runs, *(flat(a) for a in arrays), geometry)


def taps_kernel(windows: Array, weights: Array, out: Array, *, accumulate: bool) -> Step:
    """Bind out [s, h, w, c] (+)= the sum over taps of windows [s, h, w, kernel_h, kernel_w, c] * weights [taps, c].

    Integers of 8 or 16 bits, weights and sums of one float type; every partial sum must be exact in it.
    """
    places = offset_pairs(windows, out)
    taps = offsets(windows.shape[3:5], windows.strides[3:5])
    return partial(_depthwise().multiply_taps, flat(windows), places, taps, weights, flat(out), accumulate)


def offset_pairs(source: Array, target: Array) -> Array:
    """The bytes from the first element of both arrays to each [sample, row, column], int64 [places, 2]."""
    return np.stack([offsets(a.shape[:3], a.strides[:3]) for a in (source, target)], axis=1)


def offsets(shape: Sequence[int], strides: Sequence[int]) -> Array:
    """The bytes from the first element to each, in order."""
    places = np.zeros((), np.int64)
    for size, stride in zip(shape, strides, strict=True):
        places = np.add.outer(places, np.arange(size, dtype=np.int64) * stride)
    return places.reshape(-1)


def _dense_run(parameter: Array, shape: Sequence[int]) -> Array:
    """A broadcast array whose last axis is spelt out, so that the innermost loop has one stride."""
    parameter = parameter.reshape((1,) * (len(shape) - parameter.ndim) + parameter.shape)
    return np.ascontiguousarray(np.broadcast_to(parameter, (*parameter.shape[:-1], shape[-1])))


def _geometry(shape: Sequence[int], arrays: Sequence[Array], dense: int | None = None) -> Array | None:
    """int64 [1 + arrays, RANK]: the shape, then the strides of every array in elements, 0 where it repeats.

    Axes that follow each other in all arrays become one. None if more than RANK are left, or the last is not dense in
    the first `dense` arrays (None: in all), or a stride is no whole number of elements.
    """
    sizes: list[int] = []
    strides: list[list[int]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if any(a.shape[axis] > 1 and a.strides[axis] % a.itemsize for a in arrays):
            return None
        steps = [a.strides[axis] // a.itemsize if a.shape[axis] > 1 else 0 for a in arrays]
        if sizes and all(outer == size * inner for outer, inner in zip(strides[-1], steps, strict=True)):
            sizes[-1] *= size
            strides[-1] = steps
        else:
            sizes.append(size)
            strides.append(steps)
    if not sizes or any(step != 1 for step in strides[-1][:dense]):
        sizes.append(1)
        strides.append([0] * len(arrays))
    missing = RANK - len(sizes)
    if missing < 0 or (sizes[-1] == 1 and len(sizes) > 1):
        return None
    rows = np.array([sizes, *map(list, zip(*strides, strict=True))], np.int64)
    return np.concatenate([np.tile([[1]] + [[0]] * len(arrays), missing), rows], axis=1)


def flat(array: Array, beyond: int = 0) -> Array:
    """The memory from the first element of a view to its last, and `beyond` elements more, as one axis."""
    if not array.size:
        return np.empty(0, array.dtype)
    reach = sum(s * (n - 1) for s, n in zip(array.strides, array.shape, strict=True)) // array.itemsize
    return np.lib.stride_tricks.as_strided(array, (reach + 1 + beyond,), (array.itemsize,))

"""Arrays in dense row-major order."""

from __future__ import annotations

import numpy as np

from .types import Array

STRIP = 16
"""Elements of the last axis that are copied together: the lines that they are read from stay in the cache."""

LARGE_BYTES = 1 << 18
"""Smaller arrays stay in the cache as a whole."""


def dense(array: Array) -> Array:
    """The array in row-major order: itself if it is so, else a copy, in strips where the last axis is far apart."""
    if array.flags.c_contiguous or array.nbytes < LARGE_BYTES or array.strides[-1] == array.itemsize:
        return np.ascontiguousarray(array)
    out = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[-1], STRIP):
        out[..., start : start + STRIP] = array[..., start : start + STRIP]
    return out

"""Indices as numbers of the machine: what they are stored as, which row they name, where the largest element is."""

from __future__ import annotations

import numpy as np

from ..core.types import I16, Array
from .types import QuantizedType

INDEX_TYPE = QuantizedType(I16, 1.0, 0)
"""What indices are stored as: each is exact."""

MOST_ROWS = 2**15
"""Indices are at most what `INDEX_TYPE` can hold: tables and searched axes are no longer."""


def rows_of(indices: Array, count: int) -> Array:
    """The rows from 0 to `count` - 1 that indices name: negative ones count from the end, others are clipped."""
    whole = indices.astype(np.int64)
    return np.clip(np.where(whole < 0, whole + count, whole), 0, count - 1)


def largest_index(values: Array, *, last: bool) -> Array:
    """The index of the first or last largest element along the last axis."""
    if last:
        return np.asarray(values.shape[-1] - 1 - values[..., ::-1].argmax(axis=-1))
    return np.asarray(values.argmax(axis=-1))

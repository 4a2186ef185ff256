"""Masks of attention scores: a constant of 0 and minus infinity, or a very negative number, that is added to them."""

from __future__ import annotations

import numpy as np

from .lowering import Imported, Known

MASKED = -1e30
"""What stands for minus infinity: sums with it stay finite, and its exponential beside any score is 0."""


def finite_mask(value: Imported) -> Imported:
    """The value; a float constant with MASKED in place of minus infinity, since constants are finite."""
    if not isinstance(value, Known) or value.array.dtype.kind != "f" or not np.isneginf(value.array).any():
        return value
    array = value.array.astype(np.float32, copy=False)
    return Known(value.name, np.where(np.isneginf(array), np.float32(MASKED), array))

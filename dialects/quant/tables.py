"""Builders of the tables that programs carry: the only place where a float exp or pow decides an integer.

numpy's exp and pow differ between CPUs in the last bits, so a table is built once, when a module is quantized, and is
data from there on: reading it needs integers only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.types import Array
from .arithmetic import common_fixed_point
from .types import QuantizedType

SOFTMAX_BITS = 20
"""exp(0) in a softmax table is at most 2 ** SOFTMAX_BITS."""

LRN_INDEX_BITS = 5
"""An LRN table has 2 ** LRN_INDEX_BITS entries for every octave of the sum of squares."""


def lookup_table(function: Callable[[Array], Array], source: QuantizedType, target: QuantizedType) -> Array:
    """table[q - source.low] = quantize(function(dequantize(q))) for all 256 q of an 8-bit type.

    `function` maps a float64 array of reals; where it is NaN (the root of a negative number) the table holds real 0.
    """
    if source.dtype.itemsize != 1:
        raise ValueError(f"a table is indexed by {source}, expected an 8-bit type")
    stored = np.arange(source.low, source.high + 1)
    with np.errstate(all="ignore"):
        reals = function((stored - source.zero_point) * np.float64(source.scale))
    return target.quantize(np.where(np.isnan(reals), 0.0, reals).astype(np.float64))


def softmax_table(scale: float, length: int = 2047) -> Array:
    """int32[256]: table[d] = rint(2^k * exp(-scale * d)) for d = maximum - q.

    k = 20, less for rows longer than 2047 elements, so that the sum over `length` elements stays below 2^31.
    """
    bits = min(SOFTMAX_BITS, 31 - length.bit_length())
    return np.rint(np.ldexp(np.exp(-np.float64(scale) * np.arange(256)), bits)).astype(np.int32)


def lrn_table(
    source: QuantizedType, target: QuantizedType, *, size: int, alpha: float, beta: float, bias: float
) -> tuple[Array, int]:
    """(table, shift) of the gain G(S) = (bias + alpha / size * source.scale^2 * S)^-beta * source.scale / target.scale.

    S is the integer sum of squares of `size` neighbours. Entry i holds rint(G(S_i) * 2^shift), below 2^22 in
    magnitude, at the knots S_i of `lrn_knots`; `lrn_gain` interpolates linearly between them.
    """
    knots = lrn_knots(size * source.magnitude**2)
    base = bias + alpha / size * source.scale**2 * knots
    if not np.all(base > 0):
        raise ValueError(f"bias + alpha * mean square is {base.min()}, expected a positive number")
    return common_fixed_point(base**-beta * (source.scale / target.scale))


def lrn_knots(largest: int) -> Array:
    """The sums of squares, float64, at which an LRN table has its entries, up to and beyond `largest`.

    0 .. 31 one by one, then 32 equal steps in every octave [2^e, 2^(e+1)).
    """
    count = 1 << LRN_INDEX_BITS
    octaves = max(largest.bit_length() - LRN_INDEX_BITS, 0)
    steps = np.ldexp(1.0, np.arange(octaves))[:, None] * np.arange(count, 2 * count)
    end = float(2 ** (LRN_INDEX_BITS + octaves))
    return np.concatenate([np.arange(count, dtype=np.float64), steps.reshape(-1), [end]])


def lrn_gain(table: Array, sums: Array) -> Array:
    """G(S) * 2^shift as an integer (float64 array): t[i] + floor((t[i+1] - t[i]) * fraction), all in integers.

    The exponent of S selects the octave, its next five bits the entry i, the rest is the fraction. The relative error
    is at most beta * (beta + 1) / 8 * 2^-10 from the straight line (0.00016 for beta = 0.75), plus 2 units of
    2^-shift from rounding entries and from the floor. Slope times fraction fits the 32 x 22 bit multiplier.
    """
    _, exponent = np.frexp(sums.astype(np.float64))
    octave = np.maximum(exponent - 1 - LRN_INDEX_BITS, 0)
    high_bits = sums.astype(np.int64) >> octave
    index = (octave << LRN_INDEX_BITS) + high_bits
    fraction = sums - (high_bits << octave)
    below = table.astype(np.int64)
    slope = np.append(below[1:] - below[:-1], 0)
    return (below[index] + ((slope[index] * fraction) >> octave)).astype(np.float64)

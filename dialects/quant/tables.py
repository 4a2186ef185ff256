"""Builders of the tables that programs carry: the only place where a float exp or pow decides an integer.

numpy's exp and pow differ between CPUs in the last bits, so a table is built once, when a module is quantized, and is
data from there on: reading it needs integers only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.types import I8, I16, U8, Array, ScalarType
from .arithmetic import common_fixed_point, round_to_range
from .types import QuantizedType

SOFTMAX_BITS = 20
"""exp(0) in a softmax table is at most 2 ** SOFTMAX_BITS."""

KNOT_BITS = 9
"""A table for 16-bit numbers has 2 ** KNOT_BITS straight pieces."""

LRN_FRACTION_BITS = 26
"""The fraction between two entries of an LRN table has at most this many bits, so that the multiplier holds it."""

LRN_INDEX_BITS = 5
"""An LRN table has 2 ** LRN_INDEX_BITS entries for every octave of the sum of squares."""


def lookup_entries(storage: ScalarType) -> int:
    """The length of a table for numbers of this type: 256 (one an integer), or 513 knots for 16 bits."""
    return 256 if storage in (I8, U8) else (1 << KNOT_BITS) + 1


def lookup_table(function: Callable[[Array], Array], source: QuantizedType, target: QuantizedType) -> Array:
    """What `looked_up` reads: quantize(function(dequantize(q))) at all q of 8 bits, or the knots of 16 bits.

    `function` maps a float64 array of reals; where it is NaN (the root of a negative number) it counts as 0. The 513
    knots, of which the last lies one beyond the largest integer, are those of the straight lines that are closest to
    the function at all integers: see `_closest_knots`.
    """
    stored = np.arange(source.low, source.high + 1)
    with np.errstate(all="ignore"):
        reals = function((stored - source.zero_point) * np.float64(source.scale))
    reals = np.where(np.isnan(reals), 0.0, reals).astype(np.float64)
    if lookup_entries(source.storage) == 256:
        return target.quantize(reals)
    steps = np.clip(reals / target.scale, target.low - target.zero_point, target.high - target.zero_point)
    return target.quantize(_closest_knots(steps) * target.scale)


def _closest_knots(steps: Array) -> Array:
    """The knots, float64, of the straight lines over 65,536 `steps` with the least sum of squared differences.

    Lines through the function itself lie on the inside of every bend: their mean error adds up in whatever sums the
    results, and their largest one is up to twice that of the best lines (C. de Boor, "A Practical Guide to Splines",
    chapter III). Beside a corner a knot stays within the neighbouring steps, so that nothing rings.
    """
    cells = steps.reshape(1 << KNOT_BITS, -1)
    count, width = cells.shape
    fractions = np.arange(width) / width
    system, wanted = np.zeros((count + 1, count + 1)), np.zeros(count + 1)
    cell = np.arange(count)
    weights = np.stack([1.0 - fractions, fractions])
    for row in (0, 1):
        wanted[row : row + count] += cells @ weights[row]
        for column in (0, 1):
            system[cell + row, cell + column] += weights[row] @ weights[column]
    knots = np.linalg.solve(system, wanted)
    lows, highs = cells.min(axis=1), cells.max(axis=1)
    knots[1:-1] = np.clip(knots[1:-1], np.minimum(lows[1:], lows[:-1]), np.maximum(highs[1:], highs[:-1]))
    return knots


def looked_up(stored: Array, table: Array) -> Array:
    """The results of a table for integers of 8 bits (t[q - low]) or 16 bits, by straight lines between knots.

    16 bits: the high nine bits choose entry i, the low seven are the fraction f of 128, and the result is
    t[i] + ((t[i+1] - t[i]) * f + 64 >> 7), in integers. TensorFlow Lite's 16-bit tables have the same 513 entries.
    """
    if table.size == 256:
        return table[stored.astype(np.intp) - np.iinfo(stored.dtype).min]
    wide = stored.astype(np.int32) + (1 << 15)
    index, fraction = wide >> 7, wide & 127
    below = table[:-1].astype(np.int32)
    slope = np.diff(table.astype(np.int32))
    return (below[index] + ((slope[index] * fraction + 64) >> 7)).astype(table.dtype)


def softmax_entries(storage: ScalarType) -> int:
    """The int32 words of a softmax table for numbers of this type."""
    return 256 if storage in (I8, U8) else 512


def softmax_type(storage: ScalarType) -> QuantizedType:
    """The one result type of a softmax: 0 to 255/256 in 256 steps, or 0 to 32767/32768 in 32768."""
    return QuantizedType(I16, 2.0**-15, 0) if storage == I16 else QuantizedType(I8, 2.0**-8, -128)


def softmax_table(scale: float, length: int = 2047, storage: ScalarType = I8) -> Array:
    """int32 powers of exp(-scale * d), d = maximum - q; see `softmax_steps`.

    8 bits: rint(2^k * exp(-scale * d)) for d = 0 .. 255. 16 bits: 256 words rint(2^k * exp(-scale * 256 * h)), then 256
    words rint(2^20 * exp(-scale * l)), for d = 256 h + l. k = 20, less for rows longer than 2047 elements, so that the
    sum over `length` elements stays below 2^31.
    """
    bits = min(SOFTMAX_BITS, 31 - length.bit_length())
    steps = np.arange(256, dtype=np.float64)
    if softmax_entries(storage) == 256:
        return np.rint(np.ldexp(np.exp(-np.float64(scale) * steps), bits)).astype(np.int32)
    high = np.ldexp(np.exp(-np.float64(scale) * 256 * steps), bits)
    low = np.ldexp(np.exp(-np.float64(scale) * steps), SOFTMAX_BITS)
    return np.rint(np.concatenate([high, low])).astype(np.int32)


def softmax_steps(stored: Array, table: Array, axis: int, mask: Array | None = None) -> Array:
    """The stored softmax of integers along an axis: one rounded division of integers.

    With d = maximum - q, e = table[d], or for 16 bits (table[d >> 8] * table[256 + d % 256] + 2^19) >> 20; the result
    is min(rint(2^b * e / sum(e)), 2^b - 1) + low, b = 8 and low = -128, or b = 15 and low = 0. 2^b * e < 2^37 and
    sum(e) < 2^31, so a quotient that is no tie is at least 2^-32 from one: rounding the float64 quotient is exact.
    Where `mask` is 0, an element is no candidate for the maximum and its e is 0; a row that is all hidden is all 0.
    """
    wide = stored.astype(np.intp)
    if mask is not None:
        wide = np.where(mask != 0, wide, np.iinfo(stored.dtype).min)
    distance = wide.max(axis=axis, keepdims=True) - wide
    words = table.astype(np.int64)
    if words.size == 256:
        powers, bits, low, dtype = words[distance], 8, -128, np.int8
    else:
        powers = (words[distance >> 8] * words[256 + (distance & 255)] + (1 << 19)) >> SOFTMAX_BITS
        bits, low, dtype = 15, 0, np.int16
    if mask is not None:
        powers = np.where(mask != 0, powers, 0)
    quotient = powers * (1 << bits) / np.maximum(powers.sum(axis=axis, keepdims=True), 1)
    return round_to_range(quotient, low, low, low + (1 << bits) - 1, dtype)


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
    2^-shift from rounding entries and from the floor. Of the fraction 26 bits count, so that slope times fraction fits
    the 32 x 22 bit multiplier for sums of 16-bit squares as well.
    """
    _, exponent = np.frexp(sums.astype(np.float64))
    octave = np.maximum(exponent - 1 - LRN_INDEX_BITS, 0)
    high_bits = sums.astype(np.int64) >> octave
    index = (octave << LRN_INDEX_BITS) + high_bits
    dropped = np.maximum(octave - LRN_FRACTION_BITS, 0)
    fraction = (sums - (high_bits << octave)) >> dropped
    below = table.astype(np.int64)
    slope = np.append(below[1:] - below[:-1], 0)
    return (below[index] + ((slope[index] * fraction) >> (octave - dropped))).astype(np.float64)


def window_sums(values: Array, size: int) -> Array:
    """Sums over `size` neighbours along the last axis, (size - 1) // 2 of them before; nothing outside counts."""
    before, length = (size - 1) // 2, values.shape[-1]
    padded = np.zeros((*values.shape[:-1], length + size - 1), values.dtype)
    padded[..., before : before + length] = values
    total = padded[..., :length].copy()
    for offset in range(1, size):
        total += padded[..., offset : offset + length]
    return total

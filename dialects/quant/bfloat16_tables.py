"""Functions of bfloat16 numbers that are no IEEE operations: by tables that a program carries, read by integers.

As with `tables`, exp and the like are computed when a table is built and never when a program runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ..core.types import Array
from .bfloat16 import BFLOAT16, finished, from_ordinals, ordered_sum, ordinals, rounded
from .tables import window_sums

SEGMENTS, SEGMENT = 512, 128
"""A number is a segment (sign and exponent) and a place in it (the mantissa)."""

HEADER_ENTRIES = 2 * SEGMENTS

LARGEST_PAGES = SEGMENTS
"""No table needs more."""

STEPS_BITS = 8
"""The exponential of a softmax is tabulated at multiples of 2 ** -STEPS_BITS."""


def brain_float_table(function: Callable[[Array], Array]) -> Array:
    """What `looked_up_brain_float` reads, int16: function(x) rounded to bfloat16 at all of the 65,536 numbers x.

    A segment is a page of 128 entries, to which its base is added modulo 2^16: first come (page, base) of the 512
    segments, then the pages. Where a function is a constant, or x, or x times a power of two, segments share a page,
    so that the usual activations take 3 to 11 KiB. `function` maps a float64 array without NaN, which stays NaN; a
    result of -0 counts as +0.
    """
    with np.errstate(all="ignore"):
        numbers = np.arange(SEGMENTS * SEGMENT, dtype=np.uint16).view(BFLOAT16).astype(np.float64)
        real, reals = ~np.isnan(numbers), np.full(numbers.shape, np.nan, np.float32)
        reals[real] = np.asarray(function(numbers[real])).astype(np.float32) + np.float32(0)
    patterns = rounded(reals).view(np.int16).reshape(SEGMENTS, SEGMENT)
    bases = patterns[:, 0]
    pages, index = np.unique(patterns - bases[:, None], axis=0, return_inverse=True)
    header = np.stack([index.reshape(-1).astype(np.int16), bases], axis=-1)
    return np.concatenate([header.reshape(-1), pages.reshape(-1)])


def page_count(entries: int) -> int | None:
    """The pages of a table of so many entries; None if no table has that many."""
    pages, rest = divmod(entries - HEADER_ENTRIES, SEGMENT)
    return pages if not rest and 1 <= pages <= LARGEST_PAGES else None


def looked_up_brain_float(numbers: Array, table: Array) -> Array:
    """The results of a table of `brain_float_table` for bfloat16 numbers; an IndexError for a page it does not have."""
    whole = _expanded(np.ascontiguousarray(table, "<i2").tobytes())
    return whole[np.ascontiguousarray(numbers).reshape(numbers.shape).view(np.uint16)]


@lru_cache(maxsize=16)
def _expanded(table: bytes) -> Array:
    """The results for all bit patterns, bfloat16 [65536]."""
    entries = np.frombuffer(table, "<i2")
    header, pages = entries[:HEADER_ENTRIES].reshape(SEGMENTS, 2), entries[HEADER_ENTRIES:].reshape(-1, SEGMENT)
    if header[:, 0].min() < 0:
        raise IndexError(f"page {header[:, 0].min()} of a table of {len(pages)}")
    return (pages[header[:, 0]] + header[:, 1:]).astype(np.int16).reshape(-1).view(BFLOAT16)


def exponential_table() -> Array:
    """float32 [512]: exp(-h) for h = 0 .. 255, then exp(-l / 256) for l = 0 .. 255; see `brain_float_softmax`."""
    steps = np.arange(256, dtype=np.float64)
    return np.concatenate([np.exp(-steps), np.exp(-steps / 256)]).astype(np.float32)


def brain_float_softmax(numbers: Array, table: Array, axis: int, mask: Array | None = None) -> Array:
    """The softmax of bfloat16 numbers along an axis, in float32 operations and with one rounding at the end.

    With d = min(maximum - x, 255), q = rint(256 d) and r = d - q / 256 (exact), |r| <= 2^-9,

        e = (table[q >> 8] * table[256 + q % 256]) * (1 - r * (1 - r / 2)),    result = e / sum(e)

    The polynomial is exp(-r) within 2^-29. The maximum is the one by ordinals; the sum takes the elements in order.
    Where `mask` is 0, an element is no candidate for the maximum and its e is 0; a row that is all hidden is all 0.
    """
    order = ordinals(numbers)
    if mask is not None:
        order = np.where(mask != 0, order, np.iinfo(np.int16).min)
    highest = from_ordinals(order.max(axis=axis, keepdims=True))
    with np.errstate(all="ignore"):
        distance = highest.astype(np.float32) - numbers.astype(np.float32)
        if mask is not None:
            distance = np.where(mask != 0, distance, np.float32(0))
        distance = np.minimum(distance, np.float32(255))
        steps = np.rint(np.where(np.isnan(distance), np.float32(0), distance) * np.float32(256))
        rest = distance - steps / np.float32(256)
        index = steps.astype(np.intp)
        powers = table[index >> STEPS_BITS] * table[256 + (index & 255)]
        powers = powers * (np.float32(1) - rest * (np.float32(1) - rest * np.float32(0.5)))
        if mask is not None:
            powers = np.where(mask != 0, powers, np.float32(0))
        total = ordered_sum(powers, axis)
        return finished(powers / np.where(total == 0, np.float32(1), total))


def brain_float_layer_norm(numbers: Array, gain: Array, offset: Array, epsilon: float, *, centred: bool) -> Array:
    """Layer normalisation (RMS normalisation unless `centred`) of bfloat16 rows [..., n], in float32 operations.

        m = sum(x) / n, or 0 where nothing is centred;    c = x - m
        out = (c / sqrt(sum(c * c) / n + epsilon)) * gain + offset

    Sums take the elements in order; every operation rounds to float32, the last result to bfloat16.
    """
    length = np.float32(numbers.shape[-1])
    with np.errstate(all="ignore"):
        real = numbers.astype(np.float32)
        row = real - ordered_sum(real, -1) / length if centred else real
        root = np.sqrt(ordered_sum(row * row, -1) / length + np.float32(epsilon))
        return rounded(row / root * gain + offset)


POWER_PIECES, LEAST_EXPONENT, LARGEST_EXPONENT = 128, -148, 128
"""A float32 is f * 2^k with 1/2 <= f < 1 and k from LEAST_EXPONENT to LARGEST_EXPONENT."""

LRN_ENTRIES = 2 + 2 * POWER_PIECES + LARGEST_EXPONENT - LEAST_EXPONENT + 1


def brain_float_lrn_table(*, size: int, alpha: float, beta: float, bias: float) -> Array:
    """What `brain_float_lrn` reads, float32 [LRN_ENTRIES]; ValueError unless bias + alpha * squares is positive.

    First alpha / size and bias, then f^-beta at the knots f = 1/2 + i / 256, then the slopes from each knot to the
    next, then 2^(-beta k) for all exponents k.
    """
    if not (bias > 0 and alpha >= 0):
        raise ValueError(f"bias is {bias} and alpha {alpha}, expected a positive bias and alpha at least 0")
    knots = (0.5 + np.arange(POWER_PIECES + 1) / (2 * POWER_PIECES)) ** -np.float64(beta)
    exponents = np.arange(LEAST_EXPONENT, LARGEST_EXPONENT + 1)
    with np.errstate(over="ignore", under="ignore"):
        scales = np.exp2(-np.float64(beta) * exponents)
        table = np.concatenate([[alpha / size, bias], knots[:-1], np.diff(knots) * 2 * POWER_PIECES, scales])
        return table.astype(np.float32)


def brain_float_lrn(numbers: Array, table: Array, size: int) -> Array:
    """Local response normalisation of bfloat16 over the last axis, in float32 operations.

    S = the sum of the squares of `size` neighbours, (size - 1) // 2 of them before, in order; b = bias + alpha / size *
    S, at most the largest float32; with b = f * 2^k, i = floor(256 f) - 128 and t = f - (1/2 + i / 256) (exact):

        out = x * ((knot[i] + t * slope[i]) * scale[k])

    The straight lines are off by at most beta * (beta + 1) * 2^-17 of the power.
    """
    knots, slopes, scales = np.split(table[2:], [POWER_PIECES, 2 * POWER_PIECES])
    with np.errstate(all="ignore"):
        real = numbers.astype(np.float32)
        base = np.minimum(table[1] + table[0] * window_sums(real * real, size), np.finfo(np.float32).max)
        fraction, exponent = np.frexp(np.where(np.isnan(base), np.float32(1), base))
        piece = np.floor(fraction * np.float32(2 * POWER_PIECES)).astype(np.intp) - POWER_PIECES
        rest = fraction - (np.float32(0.5) + piece.astype(np.float32) / np.float32(2 * POWER_PIECES))
        power = (knots[piece] + rest * slopes[piece]) * scales[exponent - LEAST_EXPONENT]
        return rounded(np.where(np.isnan(base), base, real * power))

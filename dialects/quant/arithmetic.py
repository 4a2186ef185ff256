"""The numeric contract: how real scales become integer multipliers, and the one rescaling rule everything uses.

A real factor is M * 2^-s with an integer M below 2^22, so that a 32 x 22 bit multiplier, a shift and a rounding do
it in hardware, and one float64 multiplication (a product below 2^53 is exact) does it in numpy. Accumulators of 48
bits meet the same multiplier behind an arithmetic shift to the right that the instruction fixes (`pre_shifted`): the
bits it drops are far below the step of a 16-bit result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core.types import Array
from .types import Number

MULTIPLIER_BITS = 22
"""Multipliers are below 2 ** MULTIPLIER_BITS in magnitude."""

SHIFT_LIMIT = 54
"""From this shift on |acc * M| < 2^53 rounds to 0 for every 32-bit acc, so multiplier and shift become 0."""


def fixed_point(scale: npt.ArrayLike) -> tuple[Array, Array]:
    """(M, s), int32 arrays of the shape of `scale`, with scale ~= M * 2^-s, 2^21 <= M < 2^22, 0 <= s < 54.

    The relative error is at most 2^-22. A scale so small that every 32-bit accumulator rounds to 0 (below about
    2^-32) gives M = 0, s = 0, as scale 0 does. ValueError if a scale is negative, not finite or not below 2^21.
    """
    values = np.asarray(scale, dtype=np.float64)
    _check_scales(values, negative=False)
    mantissa, exponent = np.frexp(values)
    multiplier = np.rint(np.ldexp(mantissa, MULTIPLIER_BITS))
    carried = multiplier == 2**MULTIPLIER_BITS
    multiplier = np.where(carried, 2 ** (MULTIPLIER_BITS - 1), multiplier)
    shift = MULTIPLIER_BITS - exponent - carried
    vanishes = (multiplier == 0) | (shift >= SHIFT_LIMIT)
    return (np.where(vanishes, 0, multiplier).astype(np.int32), np.where(vanishes, 0, shift).astype(np.int32))


def common_fixed_point(scales: Sequence[float] | Array) -> tuple[Array, int]:
    """(M, s): int32 multipliers and the one shift they share, scales[i] ~= M[i] * 2^-s, |M| < 2^22.

    The largest |M| is at least 2^21; scales may be negative. The error of each is at most 2^-(s+1). As in
    `fixed_point`, scales that all vanish give zeros. ValueError if one is not finite or not below 2^21 in magnitude.
    """
    values = np.asarray(scales, dtype=np.float64)
    _check_scales(values, negative=True)
    largest = float(np.max(np.abs(values), initial=0.0))
    top, top_shift = fixed_point(largest)
    if not top:
        return np.zeros(values.shape, np.int32), 0
    shift = int(top_shift)
    return np.rint(np.ldexp(values, shift)).astype(np.int32), shift


def _check_scales(values: Array, *, negative: bool) -> None:
    limit = 2.0 ** (MULTIPLIER_BITS - 1)
    bad = ~(np.abs(values) < limit) if negative else ~((values >= 0) & (values < limit))
    if np.any(bad):
        low = "above -2^21" if negative else "at least 0"
        raise ValueError(f"scale is {values[bad].flat[0]}, expected {low} and below 2^21")


def rescale(
    accumulator: Array,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: int,
    low: int,
    high: int,
    dtype: npt.DTypeLike,
) -> Array:
    """clip(rint(accumulator * multiplier * 2^-shift) + zero_point, low, high), rounding half to even.

    `multiplier` and `shift` broadcast against `accumulator` (integers, as any numpy type). Exact, hence the same on
    every CPU, while |accumulator * multiplier| < 2^53, which |accumulator| < 2^31 guarantees.
    """
    factor = np.ldexp(np.asarray(multiplier, dtype=np.float64), -np.asarray(shift, dtype=np.int32))
    product = np.asarray(np.multiply(accumulator, factor, dtype=np.float64))
    return round_to_range(product, zero_point, low, high, dtype)


def pre_shifted(accumulator: Array, bits: int) -> Array:
    """The integers floor(accumulator * 2^-bits), int64: what brings a 48-bit accumulator to the 32-bit multiplier.

    With 2^(bits-1) added before (the compiler folds it into the bias) this rounds to nearest, ties up.
    """
    return np.asarray(accumulator).astype(np.int64) >> bits if bits else accumulator


def half_of(bits: int) -> int:
    """What must be added for a shift by `bits` to round to nearest: 2^(bits-1), or 0."""
    return 1 << bits >> 1


def pre_shift_for(largest: int) -> int:
    """The least shift that brings accumulators of magnitude `largest`, rounding included, below 2^31."""
    bits = max(0, largest.bit_length() - 31)
    return bits if (largest + half_of(bits)) >> bits < 2**31 else bits + 1


def round_to_range(steps: Array, zero_point: int, low: int, high: int, dtype: npt.DTypeLike) -> Array:
    """clip(rint(steps) + zero_point, low, high) of a float64 array, which is overwritten."""
    np.rint(steps, out=steps)
    steps += zero_point
    return np.clip(steps, low, high, out=steps).astype(dtype)


def clamp_bounds(type: Number, clamp_min: float | None, clamp_max: float | None) -> tuple[int, int]:
    """The integer (low, high) of `type` under a real clamp: each bound is quantized and kept within the type."""
    low = type.low if clamp_min is None else type.integer(clamp_min)
    high = type.high if clamp_max is None else type.integer(clamp_max)
    return low, max(low, high)

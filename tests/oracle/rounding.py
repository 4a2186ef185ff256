"""Rounding and multipliers of the oracle, in whole numbers and exact fractions only."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import numpy as np

MULTIPLIER_BITS = 22
LARGEST_SHIFT = 53


def rounded(value: Fraction) -> int:
    """The nearest integer, ties to even."""
    floor, rest = divmod(value.numerator, value.denominator)
    twice = 2 * rest
    return floor + int(twice > value.denominator or (twice == value.denominator and floor % 2 == 1))


def divided(numerator: np.ndarray, denominator: np.ndarray | int) -> np.ndarray:
    """The integers nearest to numerator / denominator, ties to even; int64, the denominator positive."""
    floor = numerator // denominator
    twice = 2 * (numerator - floor * denominator)
    return floor + ((twice > denominator) | ((twice == denominator) & (floor % 2 == 1)))


def shifted(value: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """The integers nearest to value * 2^-shift, ties to even; int64."""
    return divided(value, np.int64(1) << np.asarray(shift, np.int64))


@cache
def fixed_point(scale: Fraction) -> tuple[int, int]:
    """(M, s) with M * 2^-s nearest to the scale, 2^21 <= M < 2^22; (0, 0) where s would leave the shifter."""
    multipliers, shift = common_fixed_point([scale])
    return multipliers[0], shift


def common_fixed_point(scales: Sequence[Fraction]) -> tuple[list[int], int]:
    """Multipliers with one shift, the largest of 22 bits; all zero where the shift would leave the shifter."""
    largest = max(abs(scale) for scale in scales)
    if largest == 0:
        return [0] * len(scales), 0
    size = largest.numerator.bit_length() - largest.denominator.bit_length()
    shift = max(MULTIPLIER_BITS - 2 - size, 0)
    while rounded(largest * Fraction(2) ** (shift + 1)) < 2**MULTIPLIER_BITS:
        shift += 1
    if shift > LARGEST_SHIFT:
        return [0] * len(scales), 0
    multipliers = [rounded(scale * 2**shift) for scale in scales]
    if max(map(abs, multipliers)) >= 2**MULTIPLIER_BITS:
        raise ValueError(f"scale {float(largest)} is too large for a multiplier of {MULTIPLIER_BITS} bits")
    return multipliers, shift

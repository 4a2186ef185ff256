"""The integers of layer normalisation: exact sums, one 22-bit multiplier a row, one gain and one offset a channel.

For a row of n integers x (less their zero point): S = sum(x), or 0 where nothing is centred, Q = sum(x^2),

    W = n * Q - S^2 + E        with E = max(1, rint(n^2 * epsilon / scale^2))
    m * 2^-e = 1 / sqrt(W)     m = rint(2^21 / f) for sqrt(W) = f * 2^k, 1/2 <= f < 1, e = 21 + k
    t = rint((n * x - S) * m * 2^(16 - e))      the normalised row with 16 bits behind the point
    out = clip(rint((t * G + B * 2^16) * 2^-(s + 16)) + zero point)

Root and quotient are IEEE float64, hence the same on every CPU; a machine finds them once a row in a digit-recurrence
unit (53 steps each), while the 32 x 22 bit multiplier of the requantizer does the elements: t is a requantization with
a multiplier of the row, out one with a multiplier and an offset of the channel. All other steps are exact integers:
W <= 2^53 and |n * x - S| <= 2^27 where n times the largest |x| is at most 2^26, |t| < 2^30, |G| < 2^22, |B| < 2^31.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..core.types import Array
from .arithmetic import common_fixed_point

FRACTION_BITS = 16
"""Bits of the normalised row behind the point."""

LARGEST_ROW = 2**26
"""Numbers in a row times the largest of them: beyond it W might leave float64's exact integers."""

LARGEST_EPSILON = 2**52
"""E is at most this; a row is then as good as divided by infinity."""


def layer_norm_epsilon(epsilon: float, scale: float, length: int) -> int:
    """E of the module docstring, at least 1, so that a row of equal numbers is 0 and not NaN."""
    return min(max(round(Fraction(epsilon) * length**2 / Fraction(scale) ** 2), 1), LARGEST_EPSILON)


def layer_norm_gains(scale: Array, bias: Array, target_scale: float) -> tuple[Array, Array, int]:
    """(G, B, s): int32 gains and offsets of the channels, and their shift, for a result of `target_scale`.

    One shift for all, as large as |G| < 2^22 and |B| < 2^31 allow. ValueError if a gain is not finite or too large.
    """
    gains = scale.astype(np.float64) / target_scale
    offsets = bias.astype(np.float64) / target_scale
    scaled, shift = common_fixed_point(np.concatenate([gains, offsets / 2**9]))
    return scaled[: len(gains)], np.rint(np.ldexp(offsets, shift)).astype(np.int32), shift


def layer_norm_steps(x: Array, gains: Array, offsets: Array, shift: int, epsilon: int, *, centred: bool) -> Array:
    """Unrounded steps of the result's scale, float64, for int64 rows `x` [..., n] less their zero point."""
    length = x.shape[-1]
    sums = x.sum(axis=-1, keepdims=True, dtype=np.int64) if centred else np.int64(0)
    squares = (x * x).sum(axis=-1, keepdims=True, dtype=np.int64)
    fraction, exponent = np.frexp(np.sqrt((length * squares - sums * sums + epsilon).astype(np.float64)))
    multiplier = np.rint(2.0**21 / fraction)
    normalised = np.rint(np.ldexp((length * x - sums) * multiplier, FRACTION_BITS - 21 - exponent))
    return np.ldexp(normalised * gains + offsets * 2.0**FRACTION_BITS, -(shift + FRACTION_BITS))

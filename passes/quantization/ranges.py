"""Real intervals and the quantized types that cover them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...dialects.core.types import I8, I16, ScalarType
from ...dialects.quant.types import QuantizedType

SMALLEST_SCALE = 2.0**-100
"""Scales are at least this, so that products of two of them are normal float64 and each is a normal float32."""

HEADROOM = 2.0
"""16-bit types hold numbers that are larger than those of the calibration samples by this factor: other images exceed
what the samples have reached, and one that is clipped costs more than a bit does."""

LARGEST_SCALE = 2.0**100
"""Scales are at most this; a network whose activations are wider is broken."""


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval of real numbers, low <= high, both finite.

    `final`: no number can be larger in magnitude, whatever the network reads.
    """

    low: float
    high: float
    final: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"range is [{self.low}, {self.high}], expected finite low <= high")

    def hull(self, other: Range) -> Range:
        """The smallest interval that holds both."""
        larger = self if self.magnitude >= other.magnitude else other
        return Range(min(self.low, other.low), max(self.high, other.high), larger.final)

    @property
    def widened(self) -> Range:
        """The interval with `HEADROOM` for what calibration has not seen; as it is where it is final."""
        return self if self.final else Range(self.low * HEADROOM, self.high * HEADROOM)

    def clamped(self, low: float | None, high: float | None) -> Range:
        """The image of the interval under x -> min(max(x, low), high); None does not limit."""
        bottom = -math.inf if low is None else low
        top = math.inf if high is None else high
        return Range(min(max(self.low, bottom), top), min(max(self.high, bottom), top), self.final)

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))


def activation_type(interval: Range, *, smallest_scale: float = 0.0, storage: ScalarType = I8) -> QuantizedType:
    """The type whose integers span `interval` extended to hold 0, which is represented exactly.

    int16 is symmetric: scale = float32(largest |x| / 32767), zero point 0. int8 is not: scale = float32((high - low) /
    255), zero point = rint(-128 - low / scale). An interval of width 0 (a tensor that was always zero) takes scale 1
    and zero point 0. `smallest_scale` is a floor that raises the scale, which is never below `SMALLEST_SCALE`.
    """
    smallest_scale = max(smallest_scale, SMALLEST_SCALE)
    low, high = min(interval.low, 0.0), max(interval.high, 0.0)
    if low == high:
        return QuantizedType(storage, max(1.0, representable(smallest_scale)), 0)
    if storage == I16:
        wide = max(-low, high) / 32767.0
        return QuantizedType(I16, representable(min(max(wide, smallest_scale), LARGEST_SCALE)), 0)
    scale = representable(min(max((high - low) / 255.0, smallest_scale), LARGEST_SCALE))
    zero_point = int(np.clip(np.rint(-128.0 - low / scale), -128, 127))
    return QuantizedType(I8, scale, zero_point)


def range_of(element: QuantizedType) -> Range:
    """The reals from the smallest to the largest integer of a type."""
    return Range(
        (element.low - element.zero_point) * element.scale, (element.high - element.zero_point) * element.scale
    )


def representable(scale: float) -> float:
    """The nearest float32, as a Python float: what a program stores is then exactly what was computed with."""
    return float(np.float32(scale))

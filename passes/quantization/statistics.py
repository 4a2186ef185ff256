"""What calibration remembers of a tensor, in constant memory, and the range that follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ...dialects.core.types import Array
from .ranges import Range

HISTOGRAM_BINS = 8192
"""Bins over [-R, R]: at least 16 of them fall on one step of an int8 type that covers one sign only."""

_CHUNK = 1 << 20


class Statistic(Protocol):
    """Sees every array that a value takes and names a range in the end."""

    def update(self, array: Array) -> None:
        """Take in one float array; every element is finite."""
        ...

    def range(self) -> Range:
        """The range to quantize; [0, 0] if nothing was seen."""
        ...


class MinMax:
    """The smallest and the largest element ever seen."""

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf

    def update(self, array: Array) -> None:
        if array.size:
            self.low = min(self.low, float(array.min()))
            self.high = max(self.high, float(array.max()))

    def range(self) -> Range:
        return Range(self.low, self.high) if self.low <= self.high else Range(0.0, 0.0)


class StreamingHistogram:
    """Counts of elements in `HISTOGRAM_BINS` equal bins over [-R, R], R a power of two.

    When an element lies outside, R doubles and neighbouring bins merge: memory is constant and nothing is read twice.
    """

    def __init__(self) -> None:
        self.limits = MinMax()
        self.radius = 0.0
        self.counts = np.zeros(HISTOGRAM_BINS, np.int64)

    def update(self, array: Array) -> None:
        if not array.size:
            return
        seen = MinMax()
        seen.update(array)
        self.limits.update(array)
        self._cover(max(abs(seen.low), abs(seen.high)))
        if not self.radius:
            self.counts[HISTOGRAM_BINS // 2] += array.size
            return
        flat = array.reshape(-1)
        half = HISTOGRAM_BINS / 2
        for start in range(0, flat.size, _CHUNK):
            # float64 keeps half / radius finite for the smallest float32.
            bins = (flat[start : start + _CHUNK] * np.float64(half / self.radius) + half).astype(np.int32)
            np.minimum(bins, HISTOGRAM_BINS - 1, out=bins)
            self.counts += np.bincount(bins, minlength=HISTOGRAM_BINS)

    def quantile(self, share: float) -> float:
        """The value below which `share` (0 to 1) of the elements lie, linear within a bin, within [min, max]."""
        cumulative = np.cumsum(self.counts)
        wanted = share * float(cumulative[-1])
        index = int(min(np.searchsorted(cumulative, wanted), HISTOGRAM_BINS - 1))
        before = float(cumulative[index - 1]) if index else 0.0
        inside = float(self.counts[index])
        fraction = (wanted - before) / inside if inside else 0.0
        value = (index + fraction) * (2.0 * self.radius / HISTOGRAM_BINS) - self.radius
        return min(max(value, self.limits.low), self.limits.high)

    def _cover(self, magnitude: float) -> None:
        if magnitude <= self.radius:
            return
        if not self.radius:
            # Until now every element was 0 and lies in the middle bin whatever the radius.
            self.radius = 2.0 ** math.ceil(math.log2(magnitude))
        quarter = HISTOGRAM_BINS // 4
        while magnitude > self.radius:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(HISTOGRAM_BINS, np.int64)
            self.counts[quarter:-quarter] = merged
            self.radius *= 2.0


class Percentile:
    """Leaves `100 - percentile` percent of the elements outside on either side."""

    def __init__(self, percentile: float) -> None:
        self.share = percentile / 100.0
        self.histogram = StreamingHistogram()

    def update(self, array: Array) -> None:
        self.histogram.update(array)

    def range(self) -> Range:
        limits = self.histogram.limits.range()
        if limits.low == limits.high:
            return limits
        low, high = self.histogram.quantile(1.0 - self.share), self.histogram.quantile(self.share)
        return Range(low, high) if low <= high else limits


StatisticFactory = Callable[[], Statistic]


def statistic_factory(method: str, percentile: float) -> StatisticFactory:
    """A maker of fresh statistics for calibration method `min-max` or `percentile`; ValueError for others."""
    if method == "min-max":
        return MinMax
    if method == "percentile":
        if not 50.0 < percentile <= 100.0:
            raise ValueError(f"percentile is {percentile}, expected above 50 and at most 100")
        return lambda: Percentile(percentile)
    raise ValueError(f"method is '{method}', expected min-max or percentile")

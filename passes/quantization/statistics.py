"""What calibration remembers of a tensor, in constant memory: its limits and a histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ...dialects.core.types import Array
from .ranges import Range

HISTOGRAM_BINS = 8192
"""Bins over [-R, R]: at least 8 of them fall on one step of an int8 type that covers one sign only."""

FEWEST_PEAKS = 4
"""So many samples with the same largest magnitude are no chance."""

_CHUNK = 1 << 14
"""Elements that are counted at once: their bin numbers stay in the cache (5 instead of 20 ns an element)."""


@dataclass
class TensorStatistics:
    """The smallest and largest element, their means over the samples, and counts in `HISTOGRAM_BINS` bins over [-R, R].

    R, `radius`, is a power of two. When an element lies outside, R doubles and neighbouring bins merge: memory is
    constant and nothing is read twice. `low_sum` and `high_sum` add up the smallest and the largest element of every
    sample. `peaks` counts the samples whose largest magnitude is exactly the largest of all.
    """

    low: float = math.inf
    high: float = -math.inf
    low_sum: float = 0.0
    high_sum: float = 0.0
    samples: int = 0
    peaks: int = 0
    radius: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(HISTOGRAM_BINS, np.int64))

    def update(self, array: Array, samples: int = 1) -> None:
        """Take in one float array that holds `samples` samples along axis 0; every element is finite."""
        if not array.size:
            return
        rows = array.reshape(samples, -1)
        lows, highs = rows.min(axis=1), rows.max(axis=1)
        peaks = np.maximum(-lows, highs)
        peak = max(float(peaks.max()), self.limits.magnitude)
        self.peaks = (self.peaks if self.limits.magnitude == peak else 0) + int(np.count_nonzero(peaks == peak))
        self.low, self.high = min(self.low, float(lows.min())), max(self.high, float(highs.max()))
        self.low_sum += float(lows.sum(dtype=np.float64))
        self.high_sum += float(highs.sum(dtype=np.float64))
        self.samples += samples
        self._cover(self.limits.magnitude)
        if not self.radius:
            self.counts[HISTOGRAM_BINS // 2] += array.size
            return
        flat, half = array.reshape(-1), HISTOGRAM_BINS / 2
        # A power of two scales float32 exactly; float64 keeps the factor finite beside the smallest float32.
        factor = np.float32(half / self.radius) if self.radius > 2.0**-100 else np.float64(half / self.radius)
        for start in range(0, flat.size, _CHUNK):
            places = flat[start : start + _CHUNK] * factor
            places += factor.dtype.type(half)
            bins = places.astype(np.intp)
            np.minimum(bins, HISTOGRAM_BINS - 1, out=bins)
            self.counts += np.bincount(bins, minlength=HISTOGRAM_BINS)

    @property
    def limits(self) -> Range:
        """The smallest interval that holds every element; [0, 0] if nothing was seen."""
        return Range(self.low, self.high) if self.low <= self.high else Range(0.0, 0.0)

    @property
    def is_saturated(self) -> bool:
        """True if several samples end at the very same number: what made them (8-bit pixels, a floor) ends there.

        That holds for inputs. Of computed values, samples with a silent part share what is computed of it.
        """
        return self.peaks >= FEWEST_PEAKS

    @property
    def mean_limits(self) -> Range:
        """From the mean of the samples' smallest elements to the mean of their largest; [0, 0] if nothing was seen."""
        if not self.samples:
            return Range(0.0, 0.0)
        low, high = self.low_sum / self.samples, self.high_sum / self.samples
        return Range(max(low, self.low), max(min(high, self.high), low))

    @property
    def bin_width(self) -> float:
        """The width of a bin; 0 while every element was 0."""
        return 2.0 * self.radius / HISTOGRAM_BINS

    @property
    def centers(self) -> Array:
        """The middle of every bin, float64 [HISTOGRAM_BINS]."""
        return (np.arange(HISTOGRAM_BINS) + 0.5) * self.bin_width - self.radius

    def quantile(self, share: float) -> float:
        """The value below which `share` (0 to 1) of the elements lie, linear within a bin, within [low, high]."""
        cumulative = np.cumsum(self.counts)
        wanted = share * float(cumulative[-1])
        index = int(min(np.searchsorted(cumulative, wanted), HISTOGRAM_BINS - 1))
        before = float(cumulative[index - 1]) if index else 0.0
        inside = float(self.counts[index])
        fraction = (wanted - before) / inside if inside else 0.0
        value = (index + fraction) * self.bin_width - self.radius
        return min(max(value, self.low), self.high)

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

"""The loss of information of int8 ranges: the divergence of what a range stores from what was seen."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...dialects.core.types import Array

LEVELS = 256
"""Stored integers of an int8 type: a range is cut into LEVELS - 1 steps."""

LEAST_SHARE = 1e-6
"""A bin that only outliers fill has no int8 mass of its own; this share of the real one keeps its price finite."""

PRECISION = 1e-9
"""Estimates are closer than this to what they stand for."""


class Divergences:
    """KL divergences, in nats, of int8 distributions from a histogram of `counts` around `centers`, which ascend.

    The real distribution keeps what lies outside at the ends of the range; the int8 one spreads each level evenly over
    the bins of the level that occur.
    """

    def __init__(self, counts: Array, centers: Array) -> None:
        self.counts, self.centers = counts, centers
        occurs = counts > 0.0
        logarithms = np.log(counts, out=np.zeros_like(counts), where=occurs)
        self._mass, self._bins, self._entropy = (
            np.append(0.0, np.cumsum(each)) for each in (counts, occurs, counts * logarithms)
        )

    def least(self, ranges: Iterable[tuple[float, float]]) -> tuple[float, float]:
        """The first of the ranges (low, high) with the smallest divergence.

        All are estimated; those that may be the smallest are computed as `exact` does.
        """
        tried = list(ranges)
        estimates = [self.estimate(*each) for each in tried]
        limit = min(estimates) + 2 * PRECISION
        return min((each for each, value in zip(tried, estimates, strict=True) if value <= limit), key=self._key)

    def exact(self, low: float, high: float) -> float:
        """The divergence of one range; infinite where the range is finer than the histogram."""
        first, last = self._bounds(low, high)
        inside = self.counts[first:last]
        if last - first < LEVELS or not inside.any():
            return float("inf")
        real = inside.copy()
        real[0] += self.counts[:first].sum()
        real[-1] += self.counts[last:].sum()
        levels = self._levels(first, last, low, high)
        occurs = real > 0.0
        masses = np.bincount(levels, inside, LEVELS)
        widths = np.bincount(levels, occurs, LEVELS)
        spread = (masses / np.maximum(widths, 1.0))[levels][occurs]
        present = real[occurs]
        spread = np.maximum(spread, LEAST_SHARE * present)
        return float(np.sum(present * np.log(present * spread.sum() / (spread * present.sum()))) / present.sum())

    def estimate(self, low: float, high: float) -> float:
        """As `exact`, but for the order of the sums: of levels instead of bins, except for the bins at the ends.

        sum p ln(p S / (s P)) = sum p ln p - sum p ln s + P ln(S / P), with the same s for all bins of a level.
        """
        first, last = self._bounds(low, high)
        if last - first < LEVELS or not self._mass[last] > self._mass[first]:
            return float("inf")
        levels = self._levels(first, last, low, high)
        edges = first + np.searchsorted(levels, np.arange(LEVELS + 1))
        masses, widths = np.diff(self._mass[edges]), np.diff(self._bins[edges])
        total = self._mass[-1]
        ends = [(levels[0], first, self._mass[first]), (levels[-1], last - 1, total - self._mass[last])]
        for level, place, outside in ends:
            widths[level] += outside > 0.0 and self.counts[place] == 0.0
        spread = masses / np.maximum(widths, 1.0)
        entropy, stored = self._entropy[last] - self._entropy[first], masses.sum()
        cross = float(np.sum(masses * np.log(spread, out=np.zeros_like(spread), where=masses > 0.0)))
        for level, place, outside in ends:
            own = float(self.counts[place])
            if outside > 0.0:
                value = max(float(spread[level]), LEAST_SHARE * (own + outside))
                stored += value - float(spread[level])
                entropy += _times_log(own + outside, own + outside) - _times_log(own, own)
                cross += _times_log(own + outside, value) - _times_log(own, float(spread[level]))
        return float((entropy - cross) / total + np.log(stored / total))

    def _key(self, tried: tuple[float, float]) -> float:
        return self.exact(*tried)

    def _bounds(self, low: float, high: float) -> tuple[int, int]:
        """The bins [first, last) of a range."""
        return int(np.searchsorted(self.centers, low)), int(np.searchsorted(self.centers, high))

    def _levels(self, first: int, last: int, low: float, high: float) -> Array:
        return np.rint((self.centers[first:last] - low) * ((LEVELS - 1) / (high - low))).astype(np.intp)


def _times_log(factor: float, value: float) -> float:
    """Factor * ln(value); 0 where the factor is."""
    return factor * float(np.log(value)) if factor else 0.0

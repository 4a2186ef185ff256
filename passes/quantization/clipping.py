"""Where to clip a tensor: the calibration methods, each a function from statistics to a range."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np

from ...dialects.core.types import Array
from .divergence import LEVELS, Divergences
from .ranges import Range
from .statistics import HISTOGRAM_BINS, TensorStatistics

Method = Literal["auto", "min-max", "mean-min-max", "percentile", "mse", "entropy"]
"""The names of the methods; `auto` chooses one of the others for every tensor."""

NAMED_METHODS: dict[str, tuple[Method, float]] = {
    "min-max": ("min-max", 100.0),
    "mean-min-max": ("mean-min-max", 100.0),
    "percentile-99.99": ("percentile", 99.99),
    "percentile-99.999": ("percentile", 99.999),
    "mse": ("mse", 100.0),
    "entropy": ("entropy", 100.0),
}
"""What a tensor may take: method and percentile by the name that users and remarks give them."""

CLIP_RATIO = 0.97
CLIP_CANDIDATES = 128
"""Limits that `mse` and `entropy` try: the extreme times CLIP_RATIO^k, k below CLIP_CANDIDATES (down to 1/48)."""

MeasuredRange = Callable[[TensorStatistics], Range]


def range_method(method: Method, percentile: float) -> MeasuredRange:
    """The function of a method other than `auto`; `percentile` (50 to 100) is for the method of that name."""
    return partial(percentile_range, percentile=percentile) if method == "percentile" else _METHODS[method]


def min_max_range(statistics: TensorStatistics) -> Range:
    """Everything that was seen."""
    return statistics.limits


def mean_min_max_range(statistics: TensorStatistics) -> Range:
    """What an average sample reaches."""
    return statistics.mean_limits


def percentile_range(statistics: TensorStatistics, percentile: float) -> Range:
    """Leaves `100 - percentile` percent of the elements outside on either side."""
    limits, share = statistics.limits, percentile / 100.0
    if limits.low == limits.high:
        return limits
    low, high = statistics.quantile(1.0 - share), statistics.quantile(share)
    return Range(low, high) if low <= high else limits


def mse_range(statistics: TensorStatistics) -> Range:
    """The range [l, h] with the smallest expected squared error of int8: rounding inside and clipping outside.

    error(l, h) = m * ((h - l) / 255)^2 / 12 + sum over x > h of (x - h)^2 + sum over x < l of (l - x)^2, m being the
    elements within the range that are not next to 0, which is exact in every type.
    """
    limits = statistics.limits
    if limits.low == limits.high:
        return limits
    counts, centers = statistics.counts.astype(np.float64), statistics.centers
    highs, lows = _candidates(limits.high), -_candidates(-limits.low)
    outside_high, mass_high = _beyond(counts, centers, highs)
    outside_low, mass_low = _beyond(counts[::-1], -centers[::-1], -lows)
    near_zero = counts[HISTOGRAM_BINS // 2 - 1 : HISTOGRAM_BINS // 2 + 1].sum()
    rounded = counts.sum() - near_zero - mass_high[:, None] - mass_low[None, :]
    steps = (highs[:, None] - lows[None, :]) / (LEVELS - 1)
    errors = rounded * np.square(steps) / 12.0 + outside_high[:, None] + outside_low[None, :]
    best_high, best_low = np.unravel_index(int(np.argmin(errors)), errors.shape)
    return Range(float(lows[best_low]), float(highs[best_high]))


def entropy_range(statistics: TensorStatistics) -> Range:
    """The range that loses the least information: smallest KL divergence of the int8 distribution from the real one.

    The limit farther from 0 is moved first, then the other (S. Migacz, "8-bit inference with TensorRT", GTC 2017).
    """
    limits = statistics.limits
    low, high = min(limits.low, 0.0), max(limits.high, 0.0)
    if low == high:
        return limits
    divergences = Divergences(statistics.counts.astype(np.float64), statistics.centers)
    highs, lows = _candidates(high).tolist(), (-_candidates(-low)).tolist()
    if high >= -low:
        _, high = divergences.least((low, limit) for limit in highs)
        return Range(*divergences.least((limit, high) for limit in lows))
    low, _ = divergences.least((limit, high) for limit in lows)
    return Range(*divergences.least((low, limit) for limit in highs))


_METHODS: dict[str, MeasuredRange] = {
    "min-max": min_max_range,
    "mean-min-max": mean_min_max_range,
    "mse": mse_range,
    "entropy": entropy_range,
}


def _candidates(extreme: float) -> Array:
    """Limits to try for a side whose extreme is `extreme`; 0 alone where the side holds nothing."""
    return extreme * CLIP_RATIO ** np.arange(CLIP_CANDIDATES) if extreme > 0.0 else np.zeros(1)


def _beyond(counts: Array, centers: Array, limits: Array) -> tuple[Array, Array]:
    """(sum of (x - limit)^2, number) of the elements above each of `limits` [L]; `centers` ascend."""
    first = np.searchsorted(centers, limits, side="right")
    moments = [np.append(np.cumsum((counts * centers**power)[::-1])[::-1], 0.0)[first] for power in (0, 1, 2)]
    squares = moments[2] - 2.0 * limits * moments[1] + np.square(limits) * moments[0]
    return np.maximum(squares, 0.0), moments[0]

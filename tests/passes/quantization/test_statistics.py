"""Calibration statistics against numpy on the whole data."""

import numpy as np
import pytest

from accelc.passes.quantization.ranges import Range
from accelc.passes.quantization.statistics import (
    HISTOGRAM_BINS,
    MinMax,
    Percentile,
    StreamingHistogram,
    statistic_factory,
)


def chunks_of(data: np.ndarray) -> list[np.ndarray]:
    return np.array_split(data, 7)


def test_min_max_sees_every_chunk() -> None:
    statistic = MinMax()
    for chunk in chunks_of(np.arange(-30, 51, dtype=np.float32)):
        statistic.update(chunk)
    assert statistic.range() == Range(-30.0, 50.0)


def test_nothing_seen_is_a_range_of_zero() -> None:
    empty = np.empty(0, np.float32)
    for statistic in (MinMax(), Percentile(99.0)):
        statistic.update(empty)
        assert statistic.range() == Range(0.0, 0.0)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.9999])
def test_streamed_quantiles_are_numpy_quantiles_to_a_bin(share: float) -> None:
    data = np.random.default_rng(0).standard_normal(200_000).astype(np.float32) * np.linspace(0.1, 3, 200_000)
    histogram = StreamingHistogram()
    for chunk in chunks_of(data.astype(np.float32)):
        histogram.update(chunk)
    bin_width = 2 * histogram.radius / HISTOGRAM_BINS
    assert histogram.quantile(share) == pytest.approx(np.quantile(data, share), abs=2 * bin_width)


def test_growing_keeps_every_count() -> None:
    histogram = StreamingHistogram()
    histogram.update(np.zeros(5, np.float32))
    histogram.update(np.array([1e-3, -1e-3], np.float32))
    histogram.update(np.array([1000.0], np.float32))
    assert histogram.counts.sum() == 8
    assert histogram.counts.size == HISTOGRAM_BINS
    assert histogram.quantile(0.5) == pytest.approx(0.0, abs=2 * histogram.radius / HISTOGRAM_BINS)
    assert histogram.limits.range() == Range(np.float32(-1e-3), 1000.0)


@pytest.mark.parametrize("size", [1e-44, 1e-38, 3e38])
def test_extreme_float32_numbers_are_counted(size: float) -> None:
    histogram = StreamingHistogram()
    histogram.update(np.array([size, -size / 2], np.float32))
    histogram.update(np.array([size], np.float32))
    assert histogram.counts.sum() == 3
    assert histogram.quantile(1.0) == pytest.approx(np.float32(size), rel=1e-3)


def test_percentile_leaves_outliers_outside() -> None:
    data = np.zeros(100_000, np.float32)
    data[:50_000] = np.linspace(-1, 1, 50_000)
    data[-3:] = 1000.0
    found = {}
    for percentile in (99.99, 100.0):
        statistic = Percentile(percentile)
        statistic.update(data)
        found[percentile] = statistic.range()
    assert found[100.0] == Range(-1.0, 1000.0)
    assert found[99.99].high == pytest.approx(1.0, abs=0.3)


def test_percentile_of_a_constant_is_the_constant() -> None:
    statistic = Percentile(99.99)
    statistic.update(np.full(10, 2.5, np.float32))
    assert statistic.range() == Range(2.5, 2.5)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="method is 'best'"):
        statistic_factory("best", 99.99)
    with pytest.raises(ValueError, match=r"percentile is 101\.0"):
        statistic_factory("percentile", 101.0)

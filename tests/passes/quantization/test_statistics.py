"""Calibration statistics against numpy on the whole data."""

import numpy as np
import pytest

from accelc.passes.quantization.ranges import Range
from accelc.passes.quantization.statistics import HISTOGRAM_BINS, TensorStatistics


def seen(*arrays: np.ndarray) -> TensorStatistics:
    statistics = TensorStatistics()
    for array in arrays:
        statistics.update(array.astype(np.float32))
    return statistics


def test_limits_hold_every_array() -> None:
    assert seen(*np.array_split(np.arange(-30, 51), 7)).limits == Range(-30.0, 50.0)


def test_nothing_seen_is_a_range_of_zero() -> None:
    empty = seen(np.empty(0))
    assert empty.limits == empty.mean_limits == Range(0.0, 0.0)
    assert empty.samples == 0


@pytest.mark.parametrize("size", [1, 3, 12])
def test_samples_that_end_at_the_same_number_are_counted(size: int) -> None:
    peaks = np.array([1, 2, -5, 4, 5, 3, -5, 2, 1, 5, -4, 4], np.float32)
    samples = np.stack([peaks / 2, peaks], axis=1)
    statistics = TensorStatistics()
    for start in range(0, len(samples), size):
        statistics.update(samples[start : start + size], size)
        assert statistics.is_saturated == (start + size > 9)
    assert statistics.peaks == 4


def test_means_are_over_samples_however_they_are_batched() -> None:
    samples = np.random.default_rng(3).standard_normal((12, 5, 2)).astype(np.float32)
    rows = samples.reshape(12, -1).astype(np.float64)
    together, alone = TensorStatistics(), seen(*samples)
    together.update(samples[:8], 8)
    together.update(samples[8:], 4)
    for statistics in (together, alone):
        assert statistics.samples == 12
        assert statistics.mean_limits.low == pytest.approx(rows.min(axis=1).mean(), rel=1e-9)
        assert statistics.mean_limits.high == pytest.approx(rows.max(axis=1).mean(), rel=1e-9)
    assert np.array_equal(together.counts, alone.counts)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.9999])
def test_streamed_quantiles_are_numpy_quantiles_to_a_bin(share: float) -> None:
    data = np.random.default_rng(0).standard_normal(200_000) * np.linspace(0.1, 3, 200_000)
    statistics = seen(*np.array_split(data, 7))
    assert statistics.quantile(share) == pytest.approx(np.quantile(data, share), abs=2 * statistics.bin_width)


def test_counts_are_those_of_numpy() -> None:
    data = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    statistics = seen(data)
    edges = np.linspace(-statistics.radius, statistics.radius, HISTOGRAM_BINS + 1)
    assert np.abs(np.cumsum(statistics.counts - np.histogram(data, edges)[0])).max() <= 2
    assert statistics.centers == pytest.approx((edges[1:] + edges[:-1]) / 2)


def test_growing_keeps_every_count() -> None:
    statistics = seen(np.zeros(5), np.array([1e-3, -1e-3]), np.array([1000.0]))
    assert statistics.counts.sum() == 8
    assert statistics.counts.size == HISTOGRAM_BINS
    assert statistics.quantile(0.5) == pytest.approx(0.0, abs=statistics.bin_width)
    assert statistics.limits == Range(np.float32(-1e-3), 1000.0)


@pytest.mark.parametrize("size", [1e-44, 1e-38, 3e38])
def test_extreme_float32_numbers_are_counted(size: float) -> None:
    statistics = seen(np.array([size, -size / 2]), np.array([size]))
    assert statistics.counts.sum() == 3
    assert statistics.quantile(1.0) == pytest.approx(np.float32(size), rel=1e-3)

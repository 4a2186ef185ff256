"""The calibration methods, each against the definition computed on the data themselves."""

import numpy as np
import pytest

from accelc.passes.quantization.clipping import (
    entropy_range,
    mean_min_max_range,
    min_max_range,
    mse_range,
    percentile_range,
    range_method,
)
from accelc.passes.quantization.ranges import Range, activation_type
from accelc.passes.quantization.statistics import TensorStatistics

METHODS = ("min-max", "mean-min-max", "percentile", "mse", "entropy")


def seen(data: np.ndarray) -> TensorStatistics:
    statistics = TensorStatistics()
    statistics.update(np.asarray(data, np.float32))
    return statistics


def squared_error(data: np.ndarray, interval: Range) -> float:
    type = activation_type(interval)
    return float(np.square(type.dequantize(type.quantize(data)) - data).mean())


DISTRIBUTIONS = {
    "normal": lambda rng: rng.standard_normal(100_000),
    "heavy": lambda rng: rng.standard_t(3, 100_000),
    "rectified": lambda rng: np.maximum(rng.standard_normal(100_000), 0.0),
    "skewed": lambda rng: rng.exponential(1.0, 100_000) - 0.2,
    "negative": lambda rng: -rng.exponential(1.0, 100_000),
    "outlier": lambda rng: np.append(rng.standard_normal(100_000), 300.0),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_is_the_best_of_many_ranges(name: str) -> None:
    data = DISTRIBUTIONS[name](np.random.default_rng(2)).astype(np.float32)
    statistics = seen(data)
    found = squared_error(data, mse_range(statistics))
    limits = statistics.limits
    for low in (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, 0.02):
        for high in (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, 0.02):
            assert found <= 1.02 * squared_error(data, Range(low * min(limits.low, 0.0), high * max(limits.high, 0.0)))


def test_mse_cuts_an_outlier_off_and_keeps_an_even_distribution_whole() -> None:
    assert mse_range(seen(np.append(np.random.default_rng(0).standard_normal(100_000), 1000.0))).high < 1000.0
    assert mse_range(seen(np.linspace(-1, 1, 100_000))) == Range(-1.0, 1.0)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_entropy_stays_within_the_limits_and_beats_a_far_outlier(name: str) -> None:
    statistics = seen(DISTRIBUTIONS[name](np.random.default_rng(2)))
    found = entropy_range(statistics)
    assert statistics.low - 1e-6 <= found.low <= 0.0 <= found.high <= max(statistics.high, 0.0) + 1e-6
    assert found.low < found.high
    if name == "outlier":
        assert found.high < 100.0
    if name == "negative":
        assert found.high == 0.0


def test_entropy_keeps_an_even_distribution_whole() -> None:
    assert entropy_range(seen(np.linspace(-1, 1, 1_000_000))) == Range(-1.0, 1.0)


def test_percentile_leaves_outliers_outside() -> None:
    data = np.zeros(100_000)
    data[:50_000] = np.linspace(-1, 1, 50_000)
    data[-3:] = 1000.0
    assert percentile_range(seen(data), 100.0) == Range(-1.0, 1000.0)
    assert percentile_range(seen(data), 99.99).high == pytest.approx(1.0, abs=0.3)


def test_mean_of_the_limits_is_less_than_the_limits() -> None:
    statistics = TensorStatistics()
    for high in (1.0, 2.0, 6.0):
        statistics.update(np.array([-high / 2, high], np.float32))
    assert min_max_range(statistics) == Range(-3.0, 6.0)
    assert mean_min_max_range(statistics) == Range(-1.5, 3.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [[], [0.0], [2.5] * 10, [-1e-30], [1e38, -1e38], [0.0] * 100 + [1.0]])
def test_every_method_has_an_answer_for_odd_tensors(method, data: list[float]) -> None:
    statistics = seen(np.array(data))
    found = range_method(method, 99.99)(statistics)
    limits = statistics.limits
    assert min(limits.low, 0.0) <= found.low <= found.high <= max(limits.high, 0.0)
    activation_type(found)

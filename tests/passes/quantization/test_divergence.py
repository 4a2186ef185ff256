"""Estimates of the loss of information never change which range is taken."""

import numpy as np
import pytest

from accelc.passes.quantization.clipping import CLIP_CANDIDATES, CLIP_RATIO
from accelc.passes.quantization.divergence import PRECISION, Divergences
from accelc.passes.quantization.statistics import TensorStatistics

DISTRIBUTIONS = {
    "normal": lambda rng: rng.standard_normal(30_000),
    "few": lambda rng: rng.standard_normal(200),
    "rectified": lambda rng: np.maximum(rng.standard_normal(10_000), 0.0),
    "outliers": lambda rng: np.append(rng.standard_normal(3_000), [300.0, 299.0, -80.0]),
    "steps": lambda rng: np.rint(rng.standard_normal(5_000) * 9.0) / 7.0,
    "two ends": lambda rng: np.append(np.full(4_000, 1.0), np.full(50, -0.3)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_least_of_all_by_the_exact_value_is_taken(name: str) -> None:
    statistics = TensorStatistics()
    statistics.update(DISTRIBUTIONS[name](np.random.default_rng(3)).astype(np.float32))
    divergences = Divergences(statistics.counts.astype(np.float64), statistics.centers)
    low, high = min(statistics.low, 0.0), statistics.high
    ranges = [(low, high * CLIP_RATIO**step) for step in range(0, CLIP_CANDIDATES, 3)]
    ranges += [(low * CLIP_RATIO**step, 0.9 * high) for step in range(0, CLIP_CANDIDATES, 3)]
    exact = [divergences.exact(*each) for each in ranges]
    np.testing.assert_allclose([divergences.estimate(*each) for each in ranges], exact, rtol=0, atol=PRECISION)
    assert divergences.least(ranges) == ranges[int(np.argmin(exact))]
    assert np.isfinite(exact).any()

"""Weights are rounded so that errors cancel, each to a number next to it."""

import numpy as np
import pytest

from accelc.dialects.quant.bfloat16 import ordinals, rounded
from accelc.passes.bfloat16.weights import balanced


@pytest.mark.parametrize("shape", [(3, 3, 8, 5), (1, 1, 40, 6), (64, 7), (5, 5, 1, 9)])
def test_errors_cancel_between_neighbouring_numbers(shape):
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found, nearest = balanced(weight), rounded(weight)
    assert found.dtype == nearest.dtype and found.shape == shape
    steps = ordinals(found).astype(int) - ordinals(nearest)
    assert set(np.unique(steps)) <= {-1, 0, 1} and steps.any()
    assert (np.abs(found.astype(np.float64) - weight) <= np.abs(weight) * 2.0**-7).all(), "one of the two next to it"
    axes = tuple(range(len(shape) - 1))
    errors = [np.abs((each.astype(np.float64) - weight).sum(axis=axes)) for each in (found, nearest)]
    assert errors[0].mean() < errors[1].mean() / 4


def test_numbers_of_bfloat16_stay():
    weight = rounded(np.random.default_rng(1).standard_normal((3, 3, 4, 4)).astype(np.float32))
    assert balanced(weight.astype(np.float32)).tobytes() == weight.tobytes()

"""One weight a channel: any integer stands for it, so the offset is rounded as little as possible."""

import numpy as np

from accelc.passes.quantization.factors import quantize_factors
from accelc.passes.quantization.weights import quantize_weights


def error_of_offsets(stored, offset, input_scale, factor):
    """In units of input step times factor."""
    reals = stored.bias * stored.accumulator_scales
    return np.abs(reals - offset) / (input_scale * np.abs(factor))


def test_the_factor_is_exact_and_the_offset_much_closer_than_half_a_step():
    rng = np.random.default_rng(0)
    factor, offset = rng.uniform(-2, 2, 500), rng.uniform(-5, 5, 500)
    stored = quantize_factors(factor.reshape(1, 1, 1, -1), offset, 0.05)
    np.testing.assert_allclose(stored.weight.reshape(-1) * stored.accumulator_scales / 0.05, factor, rtol=1e-12)
    assert np.abs(stored.weight).min() >= 64
    refined = error_of_offsets(stored, offset, 0.05, factor)
    plain = error_of_offsets(quantize_weights(factor.reshape(1, 1, 1, -1), offset, 0.05), offset, 0.05, factor)
    assert refined.max() <= plain.max()
    assert refined.mean() < plain.mean() / 10


def test_channels_without_a_factor_and_with_huge_offsets_are_as_before():
    factor, offset = np.array([0.0, 1e-9, 1.0]), np.array([1.0, 1e6, 0.0])
    stored = quantize_factors(factor.reshape(1, 3), offset, 0.05)
    plain = quantize_weights(factor.reshape(1, 3), offset, 0.05)
    np.testing.assert_array_equal(stored.weight[0, :2], plain.weight[0, :2])
    np.testing.assert_array_equal(stored.bias[:2], plain.bias[:2])
    np.testing.assert_array_equal(stored.accumulator_scales[:2], plain.accumulator_scales[:2])
    assert stored.bias[2] == 0
    assert stored.weight[0, 2] == 127

"""nn.layer_norm: floats against onnxruntime and the definition, integers within one step of the real result."""

import numpy as np
import pytest
from evaluation import Operand, constant, evaluate, i8, onnx_result
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelc.dialects.nn.layer_normalization import LayerNormOp


def rows(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 96), (1, 1)])
def test_floats_are_those_of_onnxruntime(shape):
    data, scale, bias = rows(0, *shape) * 4 + 3, rows(1, shape[-1]), rows(2, shape[-1])
    expected = onnx_result("LayerNormalization", data, scale, bias, axis=-1, epsilon=0.01)
    actual = evaluate(LayerNormOp, data, constant(scale), constant(bias), epsilon=0.01)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_without_centring_it_is_rms_normalisation():
    data, scale, bias = rows(0, 4, 7), rows(1, 7), rows(2, 7)
    expected = data / np.sqrt((data**2).mean(axis=-1, keepdims=True) + 0.1) * scale + bias
    actual = evaluate(LayerNormOp, data, constant(scale), constant(bias), epsilon=0.1, centred=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 96, 1000]),
    st.integers(-128, 127),
    st.sampled_from([1e-12, 1e-5, 0.1, 100.0]),
    st.sampled_from([1e-4, 0.03, 5.0]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_integers_are_one_step_from_the_real_result(length, zero_point, epsilon, scale, centred, seed):
    assume(length**2 * epsilon / scale**2 < 2**52)  # the largest integer epsilon
    rng = np.random.default_rng(seed)
    data = rng.integers(-128, 128, (5, length), np.int8)
    data[0] = data[0, 0]  # a row without variance
    source, target = i8(scale, zero_point), i8(0.05, 4)
    gain, offset = rng.uniform(-2, 2, length).astype(np.float32), rng.uniform(-3, 3, length).astype(np.float32)
    operands = Operand(data, source), constant(gain), constant(offset)
    actual = evaluate(LayerNormOp, *operands, out=target, epsilon=epsilon, centred=centred)
    x = (data.astype(np.float64) - zero_point) * np.float64(np.float32(scale))
    x -= x.mean(axis=-1, keepdims=True) if centred else 0
    square = (x * x).mean(axis=-1, keepdims=True)
    # The integer epsilon is at least 1 and rounded: it may be off by one in n^2 / scale^2.
    least = (np.float64(np.float32(scale)) / length) ** 2
    bounds = []
    for used in (max(epsilon - least, least / 2), epsilon + least):
        exact = x / np.sqrt(square + used) * gain + offset
        bounds.append(np.clip(exact / np.float64(np.float32(0.05)) + 4, -128, 127))
    low, high = np.minimum(*bounds), np.maximum(*bounds)
    assert np.all(actual >= low - 0.51) and np.all(actual <= high + 0.51)


def test_rows_without_variance_are_the_offset():
    data = np.full((2, 8), 100, np.int8)
    offset = np.float32([0.5, -0.5] * 4)
    operands = Operand(data, i8(0.1, 0)), constant(np.ones(8, np.float32)), constant(offset)
    actual = evaluate(LayerNormOp, *operands, out=i8(0.25, 3))
    assert actual.tolist() == [[5, 1] * 4] * 2

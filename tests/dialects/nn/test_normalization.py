"""Batch normalisation, LRN and softmax: floats against onnxruntime, integers against exact or float definitions."""

import math

import numpy as np
import pytest
from evaluation import Operand, constant, evaluate, half_even, i8, nchw, nhwc, onnx_result
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.dialects.nn.normalization import BatchNormOp, LrnOp
from accelc.dialects.nn.softmax import SOFTMAX_TYPE, MaskedSoftmaxOp, SoftmaxOp
from accelc.dialects.quant.tables import lrn_table, softmax_table


def test_batch_norm_is_that_of_onnxruntime():
    rng = np.random.default_rng(0)
    data, scale, bias, mean = (rng.standard_normal(s, np.float32) for s in ((2, 3, 5, 7), (7,), (7,), (7,)))
    variance = rng.uniform(0.1, 2, 7).astype(np.float32)
    actual = evaluate(BatchNormOp, data, *map(constant, (scale, bias, mean, variance)), epsilon=1e-3)
    expected = onnx_result("BatchNormalization", nchw(data), scale, bias, mean, variance, epsilon=1e-3)
    np.testing.assert_allclose(actual, nhwc(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_lrn_is_that_of_onnxruntime(size):
    data = np.random.default_rng(size).standard_normal((2, 3, 2, 7), np.float32) * 5
    options = {"size": size, "alpha": 0.01, "beta": 0.6, "bias": 1.5}
    expected = nhwc(onnx_result("LRN", nchw(data), **options))
    np.testing.assert_allclose(evaluate(LrnOp, data, **options), expected, rtol=1e-4, atol=1e-5)


def test_an_even_lrn_window_reaches_further_up():
    data = np.float32([[1, 10, 100, 1000]])
    actual = evaluate(LrnOp, data, size=2, alpha=2.0, beta=1.0, bias=1.0)
    expected = data / (1 + np.float32([[1 + 100, 100 + 10_000, 10_000 + 1_000_000, 1_000_000]]))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.floats(0, 0.5), st.floats(0.3, 1.0), st.integers(-128, 127), st.integers(0, 2**31))
def test_integer_lrn_is_within_its_stated_error(size, alpha, beta, zero_point, seed):
    data = np.random.default_rng(seed).integers(-128, 128, (3, 11), np.int8)
    source, target, options = i8(0.05, zero_point), i8(0.04, -5), {"size": size, "alpha": alpha, "beta": beta}
    table, shift = lrn_table(source, target, bias=1.0, **options)
    operands = Operand(data, source), constant(table)
    actual = evaluate(LrnOp, *operands, out=target, shift=shift, **options)
    offset = data.astype(np.int64) - zero_point
    for (row, channel), value in np.ndenumerate(actual):
        window = offset[row, max(channel - (size - 1) // 2, 0) : channel + size // 2 + 1]
        gain = (1 + alpha / size * 0.05**2 * float((window**2).sum())) ** -beta * 0.05 / 0.04
        exact = int(offset[row, channel]) * gain
        bound = (
            0.5 + abs(exact) * beta * (beta + 1) / 8 * 2.0**-10 + abs(int(offset[row, channel])) * 2.0 ** (1 - shift)
        )
        assert abs(int(value) + 5 - exact) <= bound or value in (-128, 127)
        if value in (-128, 127):
            assert abs(min(max(exact - 5, -128), 127) - value) <= bound


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_is_that_of_onnxruntime(axis):
    data = np.random.default_rng(axis).standard_normal((3, 5, 7), np.float32) * 40
    expected = onnx_result("Softmax", data, axis=axis)
    np.testing.assert_allclose(evaluate(SoftmaxOp, data, axis=axis), expected, rtol=1e-5, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 0.5), st.integers(1, 40), st.integers(0, 1), st.integers(0, 2**31))
def test_integer_softmax_is_one_rounded_division(scale, length, axis, seed):
    data = np.random.default_rng(seed).integers(-128, 128, (length, 3) if axis == 0 else (3, length), np.int8)
    table = softmax_table(scale, length)
    actual = evaluate(SoftmaxOp, Operand(data, i8(scale, 9)), constant(table), axis=axis)
    for row, integers in zip(np.moveaxis(data, axis, -1), np.moveaxis(actual, axis, -1), strict=True):
        powers = [int(table[int(row.max()) - int(q)]) for q in row]
        assert integers.tolist() == [min(half_even(256 * e, sum(powers)), 255) - 128 for e in powers]
        reals = [math.exp(scale * (int(q) - int(row.max()))) for q in row]
        error = max(
            abs(float(p) - e / sum(reals)) for p, e in zip(SOFTMAX_TYPE.dequantize(integers), reals, strict=True)
        )
        assert error <= (1.0 if length == 1 else 0.5 + 1e-2) / 256 or max(reals) / sum(reals) > 255 / 256


def test_a_masked_softmax_is_the_softmax_of_what_is_shown():
    data = np.random.default_rng(0).standard_normal((3, 5), np.float32)
    mask = np.float32([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    actual = evaluate(MaskedSoftmaxOp, data, constant(mask))
    shown = mask[0] != 0
    np.testing.assert_allclose(actual[0][shown], evaluate(SoftmaxOp, data[:1, shown], axis=1)[0], rtol=1e-6)
    assert not actual[0][~shown].any() and not actual[1].any()
    np.testing.assert_allclose(actual[2], evaluate(SoftmaxOp, data[2:], axis=1)[0], rtol=1e-6)


def test_an_integer_masked_softmax_does_not_look_at_what_is_hidden():
    data = np.int8([[127, 3, 5, -128]])
    table = constant(softmax_table(0.1, 4))
    hidden = evaluate(MaskedSoftmaxOp, Operand(data, i8(0.1, 0)), constant(np.int8([0, 1, 1, 1])), table)
    alone = evaluate(SoftmaxOp, Operand(data[:, 1:], i8(0.1, 0)), table, axis=1)
    assert hidden.tolist() == [[-128, *alone[0].tolist()]]

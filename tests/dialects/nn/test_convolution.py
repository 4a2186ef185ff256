"""nn.conv2d: floats against onnxruntime, integers against a loop over every product."""

import numpy as np
import pytest
from evaluation import Operand, constant, evaluate, i8, module_of, nchw, nhwc, onnx_result
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelc.dialects.core.types import I16
from accelc.dialects.nn import products
from accelc.dialects.nn.convolution import Conv2dOp
from accelc.dialects.quant.types import QuantizedType

pytestmark = pytest.mark.usefixtures("kernels")


@st.composite
def geometries(draw):
    """(data shape, weight shape, attributes): prime sizes, 1x1 images, strides above the kernel, groups, any pads."""
    groups = draw(st.sampled_from([1, 1, 2, 3, 5]))
    inputs, outputs = draw(st.sampled_from([1, 1, 2, 7])), draw(st.integers(1, 3)) * groups
    height, width = draw(st.sampled_from([1, 2, 5, 7, 11])), draw(st.sampled_from([1, 3, 6, 13]))
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    dilations = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pads = tuple(draw(st.integers(0, 3)) for _ in range(4))
    assume(height + pads[0] + pads[2] >= dilations[0] * (kernel[0] - 1) + 1)
    assume(width + pads[1] + pads[3] >= dilations[1] * (kernel[1] - 1) + 1)
    strides = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    return (draw(st.integers(1, 2)), height, width, inputs * groups), (*kernel, inputs, outputs), attributes


def slow_sum(data, zero_point, weight, strides, pads, dilations, groups):
    """Every accumulator by its definition, in Python integers."""
    batch, height, width, _ = data.shape
    kernel_height, kernel_width, inputs, outputs = weight.shape
    rows = (height + pads[0] + pads[2] - dilations[0] * (kernel_height - 1) - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - dilations[1] * (kernel_width - 1) - 1) // strides[1] + 1
    out = np.zeros((batch, rows, columns, outputs), np.int64)
    for n, r, c, o in np.ndindex(out.shape):
        first = o // (outputs // groups) * inputs
        for i in range(kernel_height):
            for j in range(kernel_width):
                y, x = r * strides[0] - pads[0] + i * dilations[0], c * strides[1] - pads[1] + j * dilations[1]
                if 0 <= y < height and 0 <= x < width:
                    pixel = data[n, y, x, first : first + inputs].astype(np.int64) - zero_point
                    out[n, r, c, o] += int(pixel @ weight[i, j, :, o].astype(np.int64))
    return out


@settings(max_examples=40, deadline=None)
@given(geometries(), st.integers(0, 2**31), st.booleans())
def test_float_convolution_is_that_of_onnxruntime(geometry, seed, with_bias):
    data_shape, weight_shape, attributes = geometry
    rng = np.random.default_rng(seed)
    data, weight = rng.standard_normal(data_shape, np.float32), rng.standard_normal(weight_shape, np.float32)
    bias = [rng.standard_normal(weight_shape[3], np.float32)] if with_bias else []
    actual = evaluate(Conv2dOp, data, constant(weight), *map(constant, bias), **attributes)
    options = {"strides": attributes["strides"], "pads": attributes["pads"], "dilations": attributes["dilations"]}
    oihw = np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
    expected = onnx_result("Conv", nchw(data), oihw, *bias, group=attributes["groups"], **options)
    np.testing.assert_allclose(actual, nhwc(expected), rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(geometries(), st.integers(0, 2**31), st.integers(-128, 127), st.booleans())
def test_integer_convolution_is_exact(geometry, seed, zero_point, with_bias):
    data_shape, weight_shape, attributes = geometry
    assume(np.prod(data_shape[:3]) * weight_shape[3] <= 400)
    rng = np.random.default_rng(seed)
    data = rng.integers(-128, 128, data_shape, np.int8)
    weight = rng.integers(-127, 128, weight_shape, np.int8)
    bias = [rng.integers(-(2**30), 2**30, weight_shape[3], np.int32)] if with_bias else []
    quantized = Operand(data, i8(0.1, zero_point))
    actual = evaluate(Conv2dOp, quantized, constant(weight), *map(constant, bias), **attributes)
    expected = slow_sum(data, zero_point, weight, **attributes) + (bias[0].astype(np.int64) if bias else 0)
    assert actual.dtype == np.int32
    assert np.array_equal(actual, expected)


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
def test_the_largest_sums_are_exact_however_long_the_reduction(zero_point):
    far = -128 if zero_point > 0 else 127
    data = np.full((1, 4, 4, 1111), far, np.int8)
    data[0, 1, 1, 5] -= np.sign(far)
    weight = np.full((3, 3, 1111, 2), 127, np.int8)
    weight[0, 0, 3, 1] = -126
    actual = evaluate(Conv2dOp, Operand(data, i8(1.0, zero_point)), constant(weight))
    assert np.array_equal(actual, slow_sum(data, zero_point, weight, (1, 1), (0, 0, 0, 0), (1, 1), 1))


def test_sixteen_bit_data_is_exact():
    rng = np.random.default_rng(1)
    data = rng.integers(30000, 32768, (1, 3, 3, 40), np.int16)
    weight = rng.integers(-127, 128, (3, 3, 40, 4), np.int8)
    actual = evaluate(Conv2dOp, Operand(data, QuantizedType(I16, 0.1, 0)), constant(weight))
    assert np.array_equal(actual, slow_sum(data, 0, weight, (1, 1), (0, 0, 0, 0), (1, 1), 1))


@pytest.mark.parametrize("groups", [1, 4, 12])
def test_strips_of_rows_make_no_difference(groups, monkeypatch):
    rng = np.random.default_rng(groups)
    data, weight = (
        rng.integers(-128, 128, (3, 7, 5, 12), np.int8),
        rng.integers(-9, 9, (2, 3, 12 // groups, 12), np.int8),
    )
    options = {"pads": (1, 0, 2, 1), "groups": groups}
    whole = evaluate(Conv2dOp, Operand(data, i8(0.1, 9)), constant(weight), **options)
    for size in (1, 2000, 9000):
        monkeypatch.setattr(products, "PATCH_BYTES", size)
        monkeypatch.setattr(products, "DEPTHWISE_BYTES", size)
        assert np.array_equal(evaluate(Conv2dOp, Operand(data, i8(0.1, 9)), constant(weight), **options), whole)


def test_a_clamp_bounds_the_float_result():
    data, weight = np.float32([[[[-3.0], [1.0], [9.0]]]]), np.ones((1, 1, 1, 1), np.float32)
    actual = evaluate(Conv2dOp, data, constant(weight), clamp_min=0.0, clamp_max=6.0)
    assert actual.reshape(-1).tolist() == [0, 1, 6]


def test_multiply_accumulates_are_those_of_the_model():
    operands = (np.zeros((1, 8, 8, 6), np.float32), np.zeros((3, 3, 2, 9), np.float32))
    _, op = module_of(Conv2dOp, *operands, groups=3, pads=(1, 1, 1, 1), strides=(2, 2))
    assert op.macs_total == 4 * 4 * 9 * 3 * 3 * 2
    op.macs = 5
    assert op.macs_total == 5
    assert not op.is_depthwise

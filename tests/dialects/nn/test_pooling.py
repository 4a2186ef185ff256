"""Pooling and means: floats against onnxruntime and numpy, integers against a loop over every window."""

import numpy as np
import pytest
from evaluation import Operand, evaluate, half_even, i8, nchw, nhwc, onnx_result
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelc.dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from accelc.dialects.nn.reduction import ReduceMeanOp
from accelc.dialects.quant.arithmetic import fixed_point


@st.composite
def geometries(draw):
    """(data shape, attributes) in which every window touches the image, as ONNX demands of pads."""
    height, width = draw(st.sampled_from([1, 2, 5, 7, 11])), draw(st.sampled_from([1, 3, 6, 13]))
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    dilations = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3)]))
    pads = tuple(draw(st.integers(0, kernel[axis % 2] - 1)) for axis in range(4))
    assume(height + pads[0] + pads[2] >= dilations[0] * (kernel[0] - 1) + 1)
    assume(width + pads[1] + pads[3] >= dilations[1] * (kernel[1] - 1) + 1)
    strides = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    shape = (draw(st.integers(1, 2)), height, width, draw(st.sampled_from([1, 3])))
    attributes = {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations}
    assume(all(len(taps) > 0 for _, taps, _ in every_window(shape, attributes, (0, 0, 0, 0))))
    return shape, attributes


def every_window(shape, attributes, counted):
    """((row, column), pixels inside the image, divisor) of each window, from the definition."""
    _, height, width, _ = shape
    kernel, strides, pads, dilations = (attributes[n] for n in ("kernel", "strides", "pads", "dilations"))
    rows = (height + pads[0] + pads[2] - dilations[0] * (kernel[0] - 1) - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - dilations[1] * (kernel[1] - 1) - 1) // strides[1] + 1
    found = []
    for r, c in np.ndindex(rows, columns):
        taps = [
            (r * strides[0] - pads[0] + i * dilations[0], c * strides[1] - pads[1] + j * dilations[1])
            for i, j in np.ndindex(kernel)
        ]
        inside = [(y, x) for y, x in taps if 0 <= y < height and 0 <= x < width]
        divisor = sum(-counted[0] <= y < height + counted[2] and -counted[1] <= x < width + counted[3] for y, x in taps)
        found.append(((r, c), inside, divisor))
    return found


@settings(max_examples=30, deadline=None)
@given(geometries(), st.integers(0, 2**31))
def test_float_max_pool_is_that_of_onnxruntime(geometry, seed):
    shape, attributes = geometry
    data = np.random.default_rng(seed).standard_normal(shape, np.float32) - 3
    actual = evaluate(MaxPoolOp, data, **attributes)
    onnx_names = {"kernel_shape": attributes["kernel"], **{k: v for k, v in attributes.items() if k != "kernel"}}
    assert np.array_equal(actual, nhwc(onnx_result("MaxPool", nchw(data), **onnx_names)))


@settings(max_examples=30, deadline=None)
@given(geometries(), st.integers(0, 2**31), st.booleans())
def test_float_average_pool_is_that_of_onnxruntime(geometry, seed, count_include_pad):
    shape, attributes = geometry
    assume(attributes["dilations"] == (1, 1))
    data = np.random.default_rng(seed).standard_normal(shape, np.float32)
    counted = attributes["pads"] if count_include_pad else (0, 0, 0, 0)
    actual = evaluate(AveragePoolOp, data, **attributes, counted_pads=counted)
    onnx_names = {"kernel_shape": attributes["kernel"], "strides": attributes["strides"], "pads": attributes["pads"]}
    expected = onnx_result("AveragePool", nchw(data), **onnx_names, count_include_pad=int(count_include_pad))
    np.testing.assert_allclose(actual, nhwc(expected), rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(geometries(), st.integers(0, 2**31))
def test_integer_max_pool_is_the_maximum_of_the_pixels(geometry, seed):
    shape, attributes = geometry
    data = np.random.default_rng(seed).integers(-128, -100, shape, np.int8)
    actual = evaluate(MaxPoolOp, Operand(data, i8(0.1, 5)), **attributes)
    for (row, column), inside, _ in every_window(shape, attributes, (0, 0, 0, 0)):
        expected = np.max([data[:, y, x] for y, x in inside], axis=0)
        assert np.array_equal(actual[:, row, column], expected)


@settings(max_examples=30, deadline=None)
@given(geometries(), st.integers(0, 2**31), st.integers(-128, 127), st.booleans(), st.booleans())
def test_integer_average_pool_rounds_once(geometry, seed, zero_point, same_type, counts_pads):
    shape, attributes = geometry
    counted = tuple(pad // 2 for pad in attributes["pads"]) if counts_pads else (0, 0, 0, 0)
    data = np.random.default_rng(seed).integers(-128, 128, shape, np.int8)
    source = i8(0.1, zero_point)
    target = source if same_type else i8(0.07, 11)
    options = {"counted_pads": counted, "clamp_min": -1.0}
    actual = evaluate(AveragePoolOp, Operand(data, source), out=target, **attributes, **options)
    low = max(-128, half_even(*(-1 / target.scale).as_integer_ratio()) + target.zero_point)
    for (row, column), inside, divisor in every_window(shape, attributes, counted):
        multiplier, shift = fixed_point(source.scale / (target.scale * divisor))
        for n, c in np.ndindex(shape[0], shape[3]):
            total = sum(int(data[n, y, x, c]) - zero_point for y, x in inside)
            exact = half_even(total * int(multiplier), 2 ** int(shift)) + target.zero_point
            assert actual[n, row, column, c] == min(max(exact, low), 127)


def test_an_average_keeps_the_type_of_its_data_by_default():
    data = np.full((1, 4, 4, 2), 100, np.int8)
    actual = evaluate(AveragePoolOp, Operand(data, i8(0.1, -128)), kernel=(4, 4))
    assert actual.reshape(-1).tolist() == [100, 100]


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axes", [(1, 2), (0,), (3,), (0, 1, 2, 3)])
def test_means(axes, keepdims):
    rng = np.random.default_rng(0)
    reals = rng.standard_normal((2, 7, 5, 3), np.float32)
    actual = evaluate(ReduceMeanOp, reals, axes=axes, keepdims=keepdims)
    expected = np.mean(reals.astype(np.float64), axis=axes, keepdims=keepdims)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    stored = rng.integers(-128, 128, reals.shape, np.int8)
    actual = evaluate(ReduceMeanOp, Operand(stored, i8(0.1, -7)), axes=axes, keepdims=keepdims, out=i8(0.03, 2))
    totals = (stored.astype(np.int64) + 7).sum(axis=axes, keepdims=keepdims)
    multiplier, shift = fixed_point(0.1 / (0.03 * (stored.size // totals.size)))
    expected = [min(max(half_even(int(t) * int(multiplier), 2 ** int(shift)) + 2, -128), 127) for t in totals.flat]
    assert actual.reshape(-1).tolist() == expected

"""nn.matmul: floats against numpy in float64, integers against numpy's int64 product."""

import numpy as np
import pytest
from evaluation import Operand, constant, evaluate, i8, module_of
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.dialects.nn.matmul import MatmulOp

pytestmark = pytest.mark.usefixtures("kernels")


shapes = st.tuples(
    st.sampled_from([((), ()), ((3,), ()), ((), (3,)), ((2, 1), (3,)), ((2, 3), (2, 1))]),
    st.sampled_from([1, 2, 7]),
    st.sampled_from([1, 5, 64, 600]),
    st.sampled_from([1, 3, 11]),
)


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(0, 2**31), st.booleans())
def test_float_products(shape, seed, with_bias):
    (left, right), rows, depth, columns = shape
    rng = np.random.default_rng(seed)
    lhs, rhs = rng.standard_normal((*left, rows, depth)), rng.standard_normal((*right, depth, columns))
    bias = rng.standard_normal(columns)
    operands = [array.astype(np.float32) for array in ((lhs, rhs, bias) if with_bias else (lhs, rhs))]
    expected = np.clip(lhs @ rhs + (bias if with_bias else 0), -1, 4)
    actual = evaluate(MatmulOp, *operands, clamp_min=-1.0, clamp_max=4.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(0, 2**31), st.integers(-128, 127), st.integers(-128, 127), st.booleans())
def test_integer_products_are_exact(shape, seed, zero_left, zero_right, activations):
    (left, right), rows, depth, columns = shape
    rng = np.random.default_rng(seed)
    lhs = rng.integers(-128, 128, (*left, rows, depth), np.int8)
    rhs = rng.integers(-127, 128, (*right, depth, columns), np.int8)
    bias = rng.integers(-(2**30), 2**30, columns, np.int32)
    second = Operand(rhs, i8(0.1, zero_right)) if activations else constant(rhs)
    actual = evaluate(MatmulOp, Operand(lhs, i8(0.3, zero_left)), second, constant(bias))
    wide = rhs.astype(np.int64) - (zero_right if activations else 0)
    assert actual.dtype == np.int32
    assert np.array_equal(actual, (lhs.astype(np.int64) - zero_left) @ wide + bias)


@pytest.mark.parametrize("zero_point", [None, 9])
def test_a_transposed_right_side_is_the_product_with_its_transpose(zero_point):
    rng = np.random.default_rng(0)
    lhs, rhs = rng.integers(-128, 128, (2, 3, 5), np.int8), rng.integers(-127, 128, (2, 4, 5), np.int8)
    second = constant(rhs) if zero_point is None else Operand(rhs, i8(0.1, zero_point))
    actual = evaluate(MatmulOp, Operand(lhs, i8(0.3, -7)), second, transpose_rhs=True)
    wide = (rhs.astype(np.int64) - (zero_point or 0)).swapaxes(1, 2)
    assert np.array_equal(actual, (lhs.astype(np.int64) + 7) @ wide)


def test_the_factor_scales_the_product_but_not_the_bias():
    lhs, rhs, bias = np.float32([[1, 2]]), np.float32([[3], [4]]), np.float32([10])
    assert evaluate(MatmulOp, lhs, rhs, bias, factor=0.5).tolist() == [[15.5]]


@pytest.mark.parametrize("depth", [514, 515, 5000])
def test_the_largest_sums_are_exact(depth):
    lhs, rhs = np.full((2, depth), 127, np.int8), np.full((depth, 3), 127, np.int8)
    rhs[0, 1] = 126
    actual = evaluate(MatmulOp, Operand(lhs, i8(1.0, -128)), constant(rhs))
    assert np.array_equal(actual, (lhs.astype(np.int64) + 128) @ rhs.astype(np.int64))


def test_multiply_accumulates_are_those_of_the_model():
    operands = np.zeros((5, 2, 7), np.float32), np.zeros((7, 3), np.float32)
    assert module_of(MatmulOp, *operands)[1].macs_total == 5 * 2 * 7 * 3
    assert module_of(MatmulOp, *operands, macs=11)[1].macs_total == 11

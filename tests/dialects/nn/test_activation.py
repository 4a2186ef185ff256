"""Unary functions against onnxruntime, their table form against the float form, and PRelu in both."""

import math

import numpy as np
import pytest
from evaluation import Operand, constant, evaluate, half_even, i8, module_of, onnx_result
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.dialects.nn.activation import (
    ClipOp,
    HardSigmoidOp,
    HardSwishOp,
    LeakyReluOp,
    PReluOp,
    ReluOp,
    SigmoidOp,
    TanhOp,
)
from accelc.dialects.quant.arithmetic import common_fixed_point
from accelc.dialects.quant.ops import LookupOp
from accelc.dialects.quant.tables import lookup_table

UNARY = [
    (ReluOp, "Relu", {}),
    (LeakyReluOp, "LeakyRelu", {"alpha": 0.1}),
    (LeakyReluOp, "LeakyRelu", {}),
    (SigmoidOp, "Sigmoid", {}),
    (HardSigmoidOp, "HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    (HardSigmoidOp, "HardSigmoid", {}),
    (HardSwishOp, "HardSwish", {}),
    (TanhOp, "Tanh", {}),
]
REALS = np.concatenate([np.linspace(-9, 9, 201), [-200, -88, 0, 88, 200]]).astype(np.float32)


@pytest.mark.parametrize(("op", "kind", "attributes"), UNARY)
def test_a_unary_function_is_that_of_onnxruntime(op, kind, attributes):
    actual = evaluate(op, REALS, **attributes)
    np.testing.assert_allclose(actual, onnx_result(kind, REALS, **attributes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (None, 2.0), (-1.0, None), (None, None)])
def test_clip_keeps_within_its_bounds(low, high):
    attributes = {name: bound for name, bound in (("min", low), ("max", high)) if bound is not None}
    expected = np.minimum(np.maximum(REALS, -math.inf if low is None else low), math.inf if high is None else high)
    assert np.array_equal(evaluate(ClipOp, REALS, **attributes), expected)


def test_a_table_is_built_from_the_operation_with_its_attributes():
    source, target = i8(0.05, -10), i8(0.04, 20)
    _, op = module_of(LeakyReluOp, REALS, alpha=0.25)
    stored = np.arange(-128, 128, dtype=np.int8)
    table = lookup_table(op.apply, source, target)
    actual = evaluate(LookupOp, Operand(stored, source), constant(table), out=target)
    reals = source.dequantize(stored)
    expected = target.quantize(np.where(reals >= 0, reals, reals * np.float32(0.25)))
    assert np.max(np.abs(actual.astype(int) - expected)) <= 1
    assert np.mean(actual != expected) < 0.05


@pytest.mark.parametrize("slope_shape", [(5,), (1,), (3, 1), (2, 3, 5), ()])
def test_float_prelu_broadcasts_its_slope(slope_shape):
    rng = np.random.default_rng(0)
    data, slope = rng.standard_normal((2, 3, 5), np.float32), rng.standard_normal(slope_shape, np.float32)
    expected = np.where(data >= 0, data, data * np.broadcast_to(slope, data.shape))
    assert np.array_equal(evaluate(PReluOp, data, constant(slope)), expected)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=4),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.integers(-128, 127),
    st.integers(-128, 127),
)
def test_integer_prelu_rounds_once(slopes, scale, out_scale, zero_in, zero_out):
    data = np.repeat(np.arange(-128, 128, 5, dtype=np.int8)[:, None], len(slopes), axis=1)
    source, target = i8(scale, zero_in), i8(out_scale, zero_out)
    actual = evaluate(PReluOp, Operand(data, source), constant(np.float32(slopes)), out=target)
    ratio = scale / out_scale
    multipliers, shift = common_fixed_point([*(slope * ratio for slope in slopes), ratio])
    for (row, channel), value in np.ndenumerate(actual):
        offset = int(data[row, channel]) - zero_in
        steps = offset * int(multipliers[-1 if offset >= 0 else channel])
        assert value == min(max(half_even(steps, 2**shift) + zero_out, -128), 127)

"""quantize, dequantize, requantize and lookup against their definitions in exact arithmetic."""

import numpy as np
from evaluation import Operand, constant, evaluate, half_even, i8
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.dialects.core.types import I16
from accelc.dialects.quant.arithmetic import fixed_point
from accelc.dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp, ScaleOp
from accelc.dialects.quant.types import QuantizedType


def test_quantize_then_dequantize_is_within_half_a_step():
    element = i8(0.04, 5)
    reals = np.linspace(-5, 4.5, 301, dtype=np.float32)
    stored = evaluate(QuantizeOp, reals, out=element)
    again = evaluate(DequantizeOp, Operand(stored, element))
    assert np.all(np.abs(again - reals) <= 0.02 + 1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([None, -20]))
def test_requantize_of_accumulators(seed, per_channel, low):
    rng = np.random.default_rng(seed)
    data = rng.integers(-(2**31) + 1, 2**31, (3, 5), dtype=np.int32) >> rng.integers(0, 24, (3, 5), dtype=np.int32)
    scale = rng.uniform(1e-6, 1e-2, 5 if per_channel else 1).astype(np.float32)
    bounds = {} if low is None else {"low": low, "high": 60}
    actual = evaluate(RequantizeOp, data, constant(scale), out=i8(0.1, 7), **bounds)
    for (row, channel), value in np.ndenumerate(data):
        factor = float(scale[channel if per_channel else 0])
        multiplier, shift = (int(v) for v in fixed_point(factor))
        exact = half_even(int(value) * multiplier, 1 << shift) + 7
        assert actual[row, channel] == min(max(exact, bounds.get("low", -128)), bounds.get("high", 127))


def test_requantize_between_types():
    source, target = QuantizedType(I16, 0.001, 0), i8(0.05, -3)
    data = np.array([-32768, -75, -25, 0, 25, 75, 32767], np.int16)
    actual = evaluate(RequantizeOp, Operand(data, source), constant(np.float32([0.02])), out=target)
    multiplier, shift = (int(v) for v in fixed_point(float(np.float32(0.02))))
    exact = [min(max(half_even(int(v) * multiplier, 1 << shift) - 3, -128), 127) for v in data]
    assert actual.tolist() == exact


def test_lookup_reads_the_entry_of_each_integer():
    table = np.random.default_rng(0).permutation(256).astype(np.uint8).view(np.int8)
    data = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    actual = evaluate(LookupOp, Operand(data, i8(0.5, 3)), constant(table), out=i8(0.25, 0))
    assert np.array_equal(actual.reshape(-1), table)


def test_scale_multiplies_along_its_axis():
    data = np.arange(-6, 6, dtype=np.int32).reshape(2, 3, 2)
    factors = np.float32([0.5, 1e-3, 3.0])
    actual = evaluate(ScaleOp, data, constant(factors), axis=1)
    np.testing.assert_array_equal(actual, data.astype(np.float32) * factors[None, :, None])
    np.testing.assert_array_equal(evaluate(ScaleOp, data, constant(factors[:1])), data.astype(np.float32) * factors[0])
    np.testing.assert_array_equal(evaluate(ScaleOp, np.int8(3), constant(factors[:1])), np.float32(1.5))

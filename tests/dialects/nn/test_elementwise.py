"""nn.add, sub, mul, div: floats against numpy, integers against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from evaluation import Operand, evaluate, half_even, i8
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelc.dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from accelc.dialects.quant.arithmetic import common_fixed_point, fixed_point

FLOATS = {AddOp: np.add, SubOp: np.subtract, MulOp: np.multiply, DivOp: np.divide}
scales = st.floats(1e-3, 2.0)
zero_points = st.integers(-128, 127)
PAIRS = [((2, 3, 1, 5), (2, 3, 4, 5)), ((1,), (3, 4)), ((3, 1), (4,)), ((2, 1, 1, 7), (2, 5, 3, 7)), ((), (2, 2))]


def every_pair():
    values = np.array([-128, -127, -65, -3, -1, 0, 1, 2, 7, 64, 126, 127], np.int8)
    return values[:, None], values[None, :]


def exact(op, a, b, scales):
    """The fraction of a result step that the documented equation gives."""
    lhs, rhs, out = scales
    if op in (AddOp, SubOp):
        (left, right), shift = common_fixed_point((lhs / out, rhs / out))
        return Fraction(a * int(left) + (b if op is AddOp else -b) * int(right), 2**shift)
    multiplier, shift = fixed_point(lhs * rhs / out if op is MulOp else lhs / (rhs * out))
    factor = Fraction(int(multiplier), 2 ** int(shift))
    return a * b * factor if op is MulOp else a * factor / b


@pytest.mark.parametrize("op", FLOATS)
@pytest.mark.parametrize("shapes", PAIRS)
def test_float_operations_broadcast_and_clamp(op, shapes):
    rng = np.random.default_rng(0)
    lhs, rhs = (rng.uniform(0.5, 3, shape).astype(np.float32) for shape in shapes)
    expected = FLOATS[op](lhs, rhs)
    assert np.array_equal(evaluate(op, lhs, rhs), expected)
    assert np.array_equal(evaluate(op, lhs, rhs, clamp_min=0.0), np.maximum(expected, 0))
    assert np.array_equal(evaluate(op, lhs, rhs, clamp_max=1.5), np.minimum(expected, 1.5))


@pytest.mark.parametrize("op", FLOATS)
@settings(max_examples=25, deadline=None)
@given(scales=st.tuples(scales, scales, scales), zeros=st.tuples(zero_points, zero_points, zero_points))
def test_integer_operations_round_the_exact_result_once(op, scales, zeros):
    lhs, rhs = every_pair()
    actual = evaluate(op, Operand(lhs, i8(scales[0], zeros[0])), Operand(rhs, i8(scales[1], zeros[1])),
                      out=i8(scales[2], zeros[2]))  # fmt: skip
    for (i, j), value in np.ndenumerate(actual):
        a, b = int(lhs[i, 0]) - zeros[0], int(rhs[0, j]) - zeros[1]
        if op is DivOp and b == 0:
            expected = 127 if a > 0 else -128 if a < 0 else zeros[2]
        else:
            steps = exact(op, a, b, scales)
            expected = min(max(half_even(steps.numerator, steps.denominator) + zeros[2], -128), 127)
        assert value == expected


@settings(max_examples=25, deadline=None)
@given(st.tuples(scales, scales), zero_points, st.floats(-2, 2), st.floats(-2, 2))
def test_an_integer_clamp_is_the_quantized_real_clamp(scales, zero_point, low, high):
    assume(low <= high)
    lhs, rhs = every_pair()
    element, out = i8(scales[0], zero_point), i8(scales[1], 3)
    operands = Operand(lhs, element), Operand(rhs, element)
    free = evaluate(AddOp, *operands, out=out)
    bounds = out.quantize(low), out.quantize(high)
    assert np.array_equal(evaluate(AddOp, *operands, out=out, clamp_min=low, clamp_max=high), np.clip(free, *bounds))

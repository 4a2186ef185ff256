"""The fixed-point rules against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from evaluation import half_even, i8
from hypothesis import example, given
from hypothesis import strategies as st

from accelc.dialects.core.types import I16
from accelc.dialects.quant.arithmetic import clamp_bounds, common_fixed_point, fixed_point, rescale
from accelc.dialects.quant.types import QuantizedType

scales = st.floats(2.0**-32, 2.0**21, exclude_max=True, allow_subnormal=False)
int32 = st.integers(-(2**31) + 1, 2**31 - 1)


@given(scales)
@example(2.0**21 * (1 - 2.0**-30))
@example(2.0**-32)
@example(1.0)
def test_a_multiplier_has_22_bits_and_is_within_half_a_unit_of_the_scale(scale):
    multiplier, shift = (int(v) for v in fixed_point(scale))
    assert 2**21 <= multiplier < 2**22
    assert 0 <= shift < 54
    assert abs(Fraction(multiplier, 2**shift) - Fraction(scale)) <= Fraction(scale) / 2**22


@given(st.floats(0, 2.0**-33), int32)
def test_a_vanishing_scale_loses_nothing(scale, accumulator):
    multiplier, shift = fixed_point(scale)
    assert (int(multiplier), int(shift)) == (0, 0)
    assert half_even((Fraction(scale) * accumulator).numerator, (Fraction(scale) * accumulator).denominator) == 0


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 2.0**21, -(2.0**-60)])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale is .* expected"):
        fixed_point([1.0, scale])


@given(st.lists(scales.flatmap(lambda s: st.sampled_from([s, -s])), min_size=1, max_size=5))
def test_common_multipliers_share_the_shift_of_the_largest(values):
    multipliers, shift = common_fixed_point(values)
    assert 2**21 <= int(np.abs(multipliers).max()) < 2**22
    for value, multiplier in zip(values, multipliers.tolist(), strict=True):
        assert abs(Fraction(multiplier, 2**shift) - Fraction(value)) <= Fraction(1, 2 ** (shift + 1))


def test_common_multipliers_of_nothing_are_zero():
    multipliers, shift = common_fixed_point([0.0, 2.0**-60])
    assert (multipliers.tolist(), shift) == ([0, 0], 0)
    with pytest.raises(ValueError, match="below 2"):
        common_fixed_point([1.0, -(2.0**21)])


@given(int32, scales, st.integers(-128, 127))
@example(5, 0.5, 0)
@example(-7, 0.5, 3)
def test_rescale_is_the_exact_product_rounded_half_to_even(accumulator, scale, zero_point):
    multiplier, shift = fixed_point(scale)
    exact = half_even(accumulator * int(multiplier), 2 ** int(shift)) + zero_point
    actual = rescale(np.array([accumulator], np.int32), multiplier, shift, zero_point, -(2**62), 2**62, np.int64)
    if abs(exact) < 2**53:
        assert actual.tolist() == [exact]
    clipped = rescale(np.array([accumulator], np.int32), multiplier, shift, zero_point, -100, 100, np.int8)
    assert clipped.tolist() == [min(max(exact, -100), 100)]


def test_rescale_takes_one_factor_per_channel():
    multiplier, shift = fixed_point([0.5, 1.0, 2.0, 0.0])
    actual = rescale(np.full((2, 4), 9), multiplier, shift, 1, -128, 127, np.int8)
    assert actual.tolist() == [[5, 10, 19, 1]] * 2


def test_clamp_bounds_are_quantized_and_stay_in_the_type():
    element = i8(0.05, -10)
    assert clamp_bounds(element, None, None) == (-128, 127)
    assert clamp_bounds(element, 0.0, 6.0) == (-10, 110)
    assert clamp_bounds(element, -100.0, 100.0) == (-128, 127)
    assert clamp_bounds(element, 50.0, 60.0) == (127, 127)
    assert clamp_bounds(QuantizedType(I16, 0.001, 0), 0.0, 6.0) == (0, 6000)

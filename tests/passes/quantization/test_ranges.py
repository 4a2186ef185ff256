"""The types that cover ranges of activations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelc.dialects.core.types import I16
from accelc.passes.quantization.ranges import SMALLEST_SCALE, Range, activation_type

numbers = st.floats(-(2.0**60), 2.0**60, width=32)


@given(numbers, numbers)
def test_a_type_holds_zero_exactly_and_both_ends_to_half_a_step(first: float, second: float) -> None:
    interval = Range(min(first, second), max(first, second))
    element = activation_type(interval)
    assert element.scale == float(np.float32(element.scale))
    assert element.quantize(0.0) == element.zero_point
    for end in (min(interval.low, 0.0), max(interval.high, 0.0)):
        restored = (int(element.quantize(end)) - element.zero_point) * element.scale
        assert abs(restored - end) <= element.scale * 0.51


def test_one_sided_ranges_use_all_256_values() -> None:
    assert activation_type(Range(0.0, 2.55)).zero_point == -128
    assert activation_type(Range(1.0, 2.55)).zero_point == -128
    assert activation_type(Range(-2.55, -1.0)).zero_point == 127


def test_sixteen_bits_are_symmetric_and_just_hold_the_range() -> None:
    element = activation_type(Range(-1.0, 32767.0), storage=I16)
    assert str(element) == "!quant.i16<1.0:0>"


def test_headroom_is_for_what_may_still_be_larger() -> None:
    assert Range(-1.0, 3.0).widened == Range(-2.0, 6.0)
    assert Range(-1.0, 3.0, final=True).widened == Range(-1.0, 3.0, final=True)
    joined = Range(-1.0, 3.0, final=True).hull(Range(-2.0, 1.0))
    assert joined == Range(-2.0, 3.0, final=True)
    assert not Range(-1.0, 3.0, final=True).hull(Range(-4.0, 1.0)).final


def test_a_tensor_that_is_always_zero_has_a_type() -> None:
    assert str(activation_type(Range(0.0, 0.0))) == "!quant.i8<1.0:0>"


def test_ranges_too_small_for_a_scale_take_the_smallest() -> None:
    assert activation_type(Range(-1e-38, 1e-38)).scale == SMALLEST_SCALE
    assert activation_type(Range(-1e-38, 1e-38), smallest_scale=0.0, storage=I16).scale == SMALLEST_SCALE


def test_a_floor_raises_the_scale() -> None:
    assert activation_type(Range(0.0, 1e-30), smallest_scale=0.5).scale == 0.5


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 6.0, Range(0, 5)), (None, 1.0, Range(-4, 1)), (7.0, 9.0, Range(7, 7)), (-9.0, -8.0, Range(-8, -8))],
)
def test_a_clamp_is_the_image_of_the_range(low: float | None, high: float | None, expected: Range) -> None:
    assert Range(-4.0, 5.0).clamped(low, high) == expected


@pytest.mark.parametrize(("low", "high"), [(float("nan"), 1.0), (0.0, float("inf")), (2.0, 1.0)])
def test_what_is_no_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="expected finite low <= high"):
        Range(low, high)

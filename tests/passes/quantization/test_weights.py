"""Weight quantization: resolution where possible, int32 accumulators always."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accelc.passes.quantization.weights import quantize_weights


def test_weights_are_symmetric_with_one_scale_per_output_channel() -> None:
    weight = np.array([[1.0, -10.0], [-0.5, 5.0]], np.float32)
    stored = quantize_weights(weight, None, 0.5)
    assert stored.weight.tolist() == [[127, -127], [-64, 64]]
    assert stored.accumulator_scales == pytest.approx([0.5 / 127, 5.0 / 127])
    assert stored.bias is None
    assert stored.raised == 0


def test_bias_is_in_steps_of_the_accumulator() -> None:
    stored = quantize_weights(np.array([[1.27]], np.float32), np.array([0.5], np.float32), 0.1)
    assert stored.bias is not None
    assert stored.bias.tolist() == [500]


def test_a_channel_without_weights_keeps_its_bias() -> None:
    stored = quantize_weights(np.zeros((9, 2), np.float32), np.array([3.0, 0.0], np.float32), 0.02)
    assert stored.bias is not None
    assert stored.bias * stored.accumulator_scales == pytest.approx([3.0, 0.0])
    assert not stored.weight.any()
    assert stored.raised == 0


def test_the_floor_raises_the_scale_of_channels_whose_bias_would_overflow() -> None:
    weight = np.array([[1e-12, 1.0]], np.float32)
    stored = quantize_weights(weight, np.array([4.0, 4.0], np.float32), 0.01)
    assert stored.raised == 1
    assert stored.bias is not None
    assert stored.bias * stored.accumulator_scales == pytest.approx([4.0, 4.0], rel=1e-6)
    assert stored.weight.tolist() == [[0, 127]]


def test_the_floor_leaves_room_for_the_weights() -> None:
    stored = quantize_weights(np.ones((3, 1), np.float32), np.array([2.0**31 / 100], np.float32), 1.0)
    assert stored.bias is not None
    assert stored.weight.tolist() == [[100]] * 3
    assert int(stored.bias[0]) + 256 * 300 < 2**31


@given(
    hnp.arrays(np.float32, (5, 3), elements=st.floats(-1e6, 1e6, width=32)),
    hnp.arrays(np.float32, 3, elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(1e-20, 1e6),
)
def test_no_partial_sum_leaves_int32(weight: np.ndarray, bias: np.ndarray, input_scale: float) -> None:
    stored = quantize_weights(weight, bias, input_scale)
    assert stored.bias is not None
    magnitude = 256 * np.abs(stored.weight.astype(np.int64)).sum(axis=0) + np.abs(stored.bias.astype(np.int64))
    assert (magnitude < 2**31).all()
    assert (stored.weight >= -127).all()
    scales = stored.accumulator_scales / input_scale
    assert (np.abs(stored.weight * scales - weight) <= scales * 0.5001 + 1e-6 * np.abs(weight)).all()
    assert (np.abs(stored.bias * stored.accumulator_scales - bias) <= stored.accumulator_scales * 0.5001).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize_weights(np.array([[bad]], np.float32), None, 1.0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize_weights(np.array([[1.0]], np.float32), np.array([bad], np.float32), 1.0)


def test_channels_too_long_for_any_scale_are_refused() -> None:
    with pytest.raises(ValueError, match="overflow a 32-bit accumulator"):
        quantize_weights(np.zeros((2**24, 1), np.float32), None, 1.0)

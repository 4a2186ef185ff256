"""Tables against the functions they stand for, with the error bounds their docstrings state."""

import numpy as np
import pytest
from evaluation import i8
from hypothesis import given
from hypothesis import strategies as st

from accelc.dialects.core.types import I16
from accelc.dialects.quant.tables import (
    looked_up,
    lookup_table,
    lrn_gain,
    lrn_knots,
    lrn_table,
    softmax_steps,
    softmax_table,
    softmax_type,
)
from accelc.dialects.quant.types import QuantizedType


def test_a_lookup_table_holds_every_value_of_the_function():
    source, target = i8(0.05, 10), i8(1 / 128, 0)
    table = lookup_table(np.tanh, source, target)
    assert table.dtype == np.int8
    for stored in range(-128, 128):
        exact = np.tanh((stored - 10) * 0.05) * 128
        assert abs(int(table[stored + 128]) - min(exact, 127)) <= 0.5 + 1e-9


def test_a_function_undefined_somewhere_gives_the_zero_point_there():
    table = lookup_table(np.sqrt, i8(0.1, 0), i8(0.05, -7))
    assert set(table[:128].tolist()) == {-7}


def test_straight_lines_between_513_knots_are_within_a_step():
    source, target = QuantizedType(I16, 8 / 32768, 0), QuantizedType(I16, 1 / 32768, 0)
    table = lookup_table(np.tanh, source, target)
    assert table.dtype == np.int16 and table.shape == (513,)
    stored = np.arange(-32768, 32768).astype(np.int16)
    exact = np.tanh(stored * source.scale) * 32768
    # A line over h = 1/32 is at most h^2 / 8 * max |tanh''| = h^2 / 8 * 0.77 off: 3.1 steps, and 1 for the roundings.
    assert np.abs(looked_up(stored, table) - np.clip(exact, -32768, 32767)).max() <= 4.1


def test_the_lines_of_a_bend_have_no_mean_error_and_less_than_lines_through_the_function():
    source, target = QuantizedType(I16, 64 / 32768, 0), QuantizedType(I16, 32 / 32768, 0)

    def silu(x):
        return x / (1 + np.exp(-x))

    stored = np.arange(-1024, 1024).astype(np.int16)  # the bend around 0
    exact = silu(stored * source.scale) / target.scale
    knots = silu(np.linspace(-64.0, 64.0, 513)) / target.scale
    through = np.interp(stored, np.linspace(-32768, 32768, 513), knots) - exact
    error = looked_up(stored, lookup_table(silu, source, target)) - exact
    assert through.mean() > 1.0  # a step, whatever else is summed
    assert abs(error.mean()) < 0.2
    assert np.square(error).mean() < np.square(through).mean() / 3


def test_corners_on_knots_are_exact_and_others_do_not_ring():
    source = QuantizedType(I16, 1 / 1024, 0)
    stored = np.arange(-32768, 32768).astype(np.int16)
    ramp = lookup_table(lambda x: np.clip(x, -1.0, 2.0), source, source)
    assert np.array_equal(looked_up(stored, ramp), np.clip(stored, -1024, 2048))
    beside = looked_up(stored, lookup_table(lambda x: np.clip(x, -1.03, 2.07), source, source))
    assert beside.min() >= np.rint(-1.03 * 1024) and beside.max() <= np.rint(2.07 * 1024)


def test_a_softmax_of_16_bits_is_right_to_two_steps():
    rng = np.random.default_rng(0)
    stored = rng.integers(-32768, 32768, (50, 20)).astype(np.int16)
    scale = 10 / 32768
    powers = np.exp((stored - stored.max(axis=1, keepdims=True).astype(np.float64)) * scale)
    exact = powers / powers.sum(axis=1, keepdims=True)
    found = softmax_steps(stored, softmax_table(scale, 20, I16), axis=1) * softmax_type(I16).scale
    assert np.abs(found - exact).max() <= 2 / 32768


@pytest.mark.parametrize("length", [1, 10, 1000, 2047, 2048, 100_000])
def test_a_softmax_sum_stays_in_32_bits(length):
    table = softmax_table(0.1, length)
    assert table[0] * length < 2**31
    assert np.all(np.abs(table / table[0] - np.exp(-0.1 * np.arange(256))) <= 0.5 / table[0])
    assert length > 2047 or table[0] == 2**20


@given(
    st.integers(1, 9),
    st.floats(0, 1),
    st.floats(0.1, 1.5),
    st.floats(0.5, 4),
    st.integers(-128, 127),
    st.integers(0, 2**31),
)
def test_an_lrn_gain_is_within_its_stated_error(size, alpha, beta, bias, zero_point, seed):
    source, target = i8(0.03, zero_point), i8(0.02, 0)
    table, shift = lrn_table(source, target, size=size, alpha=alpha, beta=beta, bias=bias)
    largest = size * source.magnitude**2
    assert table.shape == lrn_knots(largest).shape
    assert int(np.abs(table).max()) < 2**22
    sums = np.append(np.random.default_rng(seed).integers(0, largest + 1, 200), [0, 1, 31, 32, 63, 64, largest])
    exact = (bias + alpha / size * 0.03**2 * sums) ** -beta * (0.03 / 0.02)
    actual = lrn_gain(table, sums)
    assert np.array_equal(actual, np.rint(actual))
    error = np.abs(actual * 2.0**-shift - exact)
    assert np.all(error <= exact * (beta * (beta + 1) / 8 * 2.0**-10) + 2 * 2.0**-shift)


def test_a_gain_without_a_real_value_is_refused():
    with pytest.raises(ValueError, match="expected a positive number"):
        lrn_table(i8(1.0, 0), i8(1.0, 0), size=5, alpha=-1.0, beta=0.75, bias=1.0)

"""Depthwise products by machine code are those of integers, for any pixels, taps and channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

depthwise = pytest.importorskip("accelc.backends.simulator.depthwise", reason="numba is not installed (extra `fast`)")

KINDS = [(np.int8, np.float32), (np.int8, np.float64), (np.int16, np.float64)]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 11),
    st.integers(1, 9),
    st.integers(1, 50),
    st.booleans(),
    st.integers(0, 99),
)
def test_sums_of_taps(kinds, pixels, taps, channels, accumulate, seed):
    stored, real = kinds
    rng, size = np.random.default_rng(seed), np.dtype(stored).itemsize
    data = rng.integers(np.iinfo(stored).min, np.iinfo(stored).max, 200, stored, endpoint=True)
    weights = rng.integers(-128, 128, (taps, channels))
    starts, steps = rng.integers(0, 100, pixels), rng.integers(0, 200 - 100 - channels, taps)
    out = rng.integers(-1000, 1000, (pixels, channels + 2)).astype(real)
    expected, order = out.astype(np.int64), rng.permutation(pixels)
    for row, start in zip(order, starts, strict=True):
        windows = np.stack([data[start + step : start + step + channels] for step in steps]).astype(np.int64)
        total = (windows * weights).sum(axis=0)
        expected[row, :channels] = total + (expected[row, :channels] if accumulate else 0)
    places = np.stack([starts * size, order * out.strides[0]], axis=1)
    depthwise.multiply_taps(data, places, steps * size, weights.astype(real), out.reshape(-1), accumulate)
    np.testing.assert_array_equal(out, expected, "what lies beside the channels must stay")

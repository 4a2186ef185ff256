"""Whole convolutions in odd sizes: the fast paths of the simulator give the bits of the plain one."""

import warnings

import numpy as np
import pytest
from models import node_model

import accelc
from accelc.backends.simulator import kernels
from accelc.backends.simulator.simulator import Simulator

CASES = [  # input, weights, attributes, precision, level, target
    ((33, 6, 7), (1, 33, 3, 1), {"dilations": [3, 1], "pads": [1, 0, 3, 3], "strides": [3, 1]}, "int16x8", 3, "tile16"),
    ((3, 11, 10), (195, 1, 1, 3), {"group": 3, "pads": [0, 0, 1, 0], "strides": [3, 1]}, "int16x8", 1, "tile64"),
    ((34, 5, 5), (4, 17, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}, "int16", 3, "tile16"),
    ((7, 9, 4), (70, 7, 3, 2), {"dilations": [2, 1], "pads": [2, 0, 1, 1]}, "int16x8", 2, "tile64"),
    ((49, 7, 3), (5, 49, 1, 1), {"strides": [2, 2]}, "int8", 3, "tile32"),
    ((5, 8, 9), (5, 1, 3, 3), {"group": 5, "pads": [1, 1, 1, 1]}, "int16", 2, "tile32"),
]
"""The first loads weights one at a time from between others; in the second the memory of a sample has an odd size."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[3]}-O{case[4]}-{case[5]}")
def test_fast_and_compiled_give_the_bits_of_plain(case):
    image, shape, attributes, precision, level, target = case
    random = np.random.default_rng(3)
    model = node_model("Conv", [(1, *image), random.standard_normal(shape).astype(np.float32)], **attributes)
    data = {"x0": random.standard_normal((4, *image), np.float32)}
    program = accelc.compile(model, target, precision=precision, opt_level=level, calibration=data).compiled
    (expected,) = Simulator(program, mode="plain").run(data).values()
    assert len(np.unique(expected)) > 20
    for mode in ("fast", "checked"):
        for compiled in (False, True):
            (found,) = Simulator(program, mode=mode, compiled=compiled).run(data).values()
            np.testing.assert_array_equal(found, expected, f"{mode}, compiled: {compiled}")


def test_a_stride_of_half_a_number_has_no_kernel():
    pytest.importorskip("numba")
    out = np.ndarray((3, 20), np.int16, np.zeros(400, np.int8).data, 0, (101, 2))
    ones, clip = np.ones(20), (0, -32768, 32767)
    assert kernels.rounding_kernel(np.zeros((3, 20)), out, ones, ones, clip) is None
    assert kernels.rounding_kernel(np.zeros((3, 20)), np.zeros((3, 20), np.int16), ones, ones, clip) is not None


@pytest.fixture
def unloaded():
    """Kernels that have not been looked for yet, now and afterwards."""
    known = (kernels.has_kernels, kernels.load_kernels)
    for each in known:
        each.cache_clear()
    yield
    for each in known:
        each.cache_clear()


@pytest.mark.usefixtures("unloaded")
def test_numba_that_does_not_load_is_left_out(monkeypatch):
    def refuse():
        raise ImportError("Numba needs NumPy 2.2 or less")

    monkeypatch.setattr(kernels, "find_spec", lambda name: name)
    monkeypatch.setattr(kernels, "_loops", refuse)
    with pytest.warns(UserWarning, match="numba does not load, loops are not compiled: Numba needs NumPy"):
        assert not kernels.load_kernels()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not kernels.load_kernels(), "once is enough"


@pytest.mark.usefixtures("unloaded")
def test_numba_that_is_told_to_compile_nothing_is_left_out(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert not kernels.load_kernels()

"""Products by machine code, of data that are read where they lie, are those of integers of any length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.modules import conv_module
from machine.random_programs import matmul_programs

from accelc.backends.emitter import emit
from accelc.backends.simulator import direct as direct_module
from accelc.backends.simulator.direct import has_direct_products
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target

vnni = pytest.importorskip("accelc.backends.simulator.vnni", reason="numba is not installed (extra `fast`)")
pytestmark = pytest.mark.skipif(not has_direct_products(), reason="the processor has no AVX-512 VNNI")


def multiply(data, places, taps, weights, out, *, accumulate):
    """vnni.multiply with weights [taps, run, columns]; out is [rows, columns] at places[:, 1]."""
    packed, starts = vnni.packed(weights)
    vnni.multiply(data, places, taps, weights.shape[1], packed, starts, weights.shape[2], out, accumulate)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 29), st.integers(1, 4), st.integers(4, 21), st.integers(1, 150), st.booleans(), st.integers(0, 99)
)
def test_rows_taps_and_columns_of_any_number(rows, taps, run, columns, accumulate, seed):
    rng = np.random.default_rng(seed)
    data = rng.integers(-128, 128, 200).astype(np.int8)
    weights = rng.integers(-128, 128, (taps, run, columns)).astype(np.int8)
    starts, steps = rng.integers(0, 100, rows), rng.integers(0, 200 - 100 - run, taps)
    out = rng.integers(-(2**20), 2**20, (rows + 1, columns + 3)).astype(np.int32)
    expected = out.astype(np.int64)
    order = rng.permutation(rows)
    for row, start in zip(order, starts, strict=True):
        windows = np.stack([data[start + step : start + step + run] for step in steps]).astype(np.int64)
        total = np.einsum("tk,tkc->c", windows, weights.astype(np.int64))
        expected[row, :columns] = total + (expected[row, :columns] if accumulate else 0)
    places = np.stack([starts, order * out.strides[0]], axis=1)
    multiply(data, places, steps, weights, out.reshape(-1), accumulate=accumulate)
    np.testing.assert_array_equal(out, expected, "what lies beside the columns must stay")


@pytest.mark.parametrize(("datum", "weight"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_sums_up_to_the_limit_of_32_bits(datum, weight):
    depth = (2**31 - 1) // (128 * 128)
    data, weights = np.full(depth, datum, np.int8), np.full((1, depth, 17), weight, np.int8)
    out = np.zeros(17, np.int32)
    multiply(data, np.zeros((1, 2), np.int64), np.zeros(1, np.int64), weights, out, accumulate=False)
    assert set(out.tolist()) == {datum * weight * depth}


@settings(max_examples=60, deadline=None)
@given(matmul_programs(), st.sampled_from([1 << 19, 40]))
def test_programs(program, block):
    data = {"x": np.random.default_rng(5).integers(-128, 128, (3, *program.inputs[0].type.shape[1:])).astype(np.int8)}
    plain = Simulator(program, mode="plain").run(data)["y"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct_module, "BLOCK", block)
        np.testing.assert_array_equal(Simulator(program, compiled=True).run(data)["y"], plain)


def test_machine_code_computes_all_products_of_a_network(monkeypatch):
    program = emit(conv_module(), load_target("tile32"))
    seen = []
    monkeypatch.setattr(
        "accelc.backends.simulator.binder.direct_product", lambda op, *_: seen.append(op) or (lambda: None)
    )
    (port,) = program.inputs
    Simulator(program, compiled=True).run({port.name: np.zeros(port.type.shape, port.type.element.dtype)})
    assert seen

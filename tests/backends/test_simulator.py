"""The fast path gives the bits of the plain path, which gives those of the tile IR."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.modules import conv_module
from machine.programs import instruction, program_around
from machine.random_programs import (
    elementwise_programs,
    indexing_programs,
    matmul_programs,
    movement_programs,
    window_programs,
)

from accelc.backends.emitter import emit
from accelc.backends.program import Program
from accelc.backends.simulator import analysis
from accelc.backends.simulator import simulator as simulator_module
from accelc.backends.simulator.analysis import analyse
from accelc.backends.simulator.kernels import has_kernels
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.quant.arithmetic import fixed_point
from accelc.dialects.tile.array import MatmulOp
from accelc.dialects.tile.records import pack_requantization
from accelc.dialects.tile.vector import RequantizeOp

TARGET = load_target("tile32")
SAMPLES = 3
CHUNKS = st.sampled_from([None, 1, 2])


@pytest.fixture(autouse=True, scope="module", params=["integer kernels", "float kernels"])
def kernels(request):
    """Every test of this file with the kernels of the extra `fast`, and without them."""
    integer = request.param == "integer kernels"
    if integer:
        pytest.importorskip("numkong", reason="numkong is not installed (extra `fast`)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "has_integer_kernels", lambda: integer)
        patch.setattr(analysis, "KERNEL_DEPTH", 1)
        yield integer


def random_input(program: Program, samples: int = SAMPLES) -> dict[str, np.ndarray]:
    (port,) = program.inputs
    shape = (samples, *port.type.shape[1:])
    return {port.name: np.random.default_rng(7).integers(-128, 128, shape).astype(np.int8)}


def assert_fast_is_plain(program: Program, chunk: int | None = None) -> None:
    data = random_input(program)
    plain = Simulator(program, mode="plain").run(data)["y"]
    assert plain.shape[0] == SAMPLES
    for compiled in (False, True) if has_kernels() else (False,):
        fast = Simulator(program, chunk=chunk, compiled=compiled).run(data)["y"]
        np.testing.assert_array_equal(fast, plain, f"compiled: {compiled}")


@settings(max_examples=150, deadline=None)
@given(matmul_programs(), CHUNKS)
def test_products(program, chunk):
    assert_fast_is_plain(program, chunk)


@settings(max_examples=100, deadline=None)
@given(window_programs(), CHUNKS)
def test_windows(program, chunk):
    assert_fast_is_plain(program, chunk)


@settings(max_examples=120, deadline=None)
@given(elementwise_programs(), CHUNKS)
def test_elementwise(program, chunk):
    assert_fast_is_plain(program, chunk)


@settings(max_examples=60, deadline=None)
@given(movement_programs())
def test_movement(program):
    assert_fast_is_plain(program)


@settings(max_examples=60, deadline=None)
@given(indexing_programs(), CHUNKS)
def test_indexing(program, chunk):
    assert_fast_is_plain(program, chunk)


def product_program(depth: int, weights: np.ndarray, *, dynamic: bool = False) -> Program:
    """A 1x1 product of 4 pixels over a reduction so long that float32 alone is not exact."""
    out_c = weights.size // depth
    image = 4 * depth
    multiplier, shift = fixed_point(np.full(out_c, 120 / (127 * 127 * depth)))
    records = pack_requantization(np.zeros(out_c, np.int32), multiplier, shift)
    at = image + depth * out_c
    constants = {at: records} if dynamic else {image: weights, at: records}
    out = at + records.size
    window = {"in_h": 1, "in_w": 4, "out_h": 1, "out_w": 4, "input_row_stride": image, "input_pixel_stride": depth}
    product = instruction(
        MatmulOp, input=0, weights=image, accumulator=0, **window, in_c=depth, out_c=out_c, tile_columns=32
    )
    pixels = {"out_h": 1, "out_w": 4, "out_c": out_c, "output_row_stride": 4 * out_c, "output_pixel_stride": out_c}
    scale = {"tile_columns": 32, "group_columns": out_c, "zero_point": 0}
    requantize = instruction(RequantizeOp, accumulator=0, parameters=at, output=out, **pixels, **scale)
    total = out + 4 * out_c
    return program_around(
        [product, requantize], input_bytes=at if dynamic else image, constants=constants, sram_bytes=total
    )


@pytest.mark.parametrize("installed", [True, False])
def test_machine_code_takes_over_once_it_pays(monkeypatch, installed):
    module = conv_module()
    program, data = emit(module, TARGET), {"image": image_of(module, 4)}
    reference = Simulator(program, compiled=False).run(data)["result"]
    written = reference[0].size
    monkeypatch.setattr(simulator_module, "WORTHWHILE", 3 * 4 * written)
    monkeypatch.setattr(simulator_module, "has_kernels", lambda: installed and has_kernels())
    monkeypatch.setattr(simulator_module, "load_kernels", lambda: installed and has_kernels())
    simulator, seen = Simulator(program), []
    for _ in range(4):
        np.testing.assert_array_equal(simulator.run(data)["result"], reference)
        seen.append(simulator.compiled)
    assert seen == ([False, False, True, True] if installed and has_kernels() else [False] * 4)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_reduction_beyond_float32_is_exact(dynamic, kernels):
    depth, out_c = 5000, 3
    weights = np.full(depth * out_c, 127, np.int8)
    weights[::7] = -128
    program = product_program(depth, weights, dynamic=dynamic)
    product = analyse(program).products[program.order[-3]]
    assert product.regular
    assert product.dtype == (np.int32 if kernels and not dynamic else np.float64)
    data = {"x": np.full((2, program.inputs[0].type.size), 127, np.int8)}
    data["x"][1, ::2] = -128
    plain, fast = (Simulator(program, mode=mode).run(data)["y"] for mode in ("plain", "fast"))
    np.testing.assert_array_equal(fast, plain)


def test_constant_weights_are_not_copied_for_each_sample():
    program = product_program(64, np.ones(64 * 8, np.int8))
    found = analyse(program)
    assert found.weights
    assert not found.dead_loads, "everything is stored at the end, so every load is needed"
    stored_only_result = emit(conv_module(), TARGET)
    assert len(analyse(stored_only_result).dead_loads) == 2


def test_results_without_host_steps_survive_the_next_chunk():
    program = product_program(4, np.ones(8, np.int8))
    data = random_input(program)
    whole = Simulator(program).run(data)["y"]
    assert len(np.unique(whole, axis=0)) == SAMPLES
    np.testing.assert_array_equal(Simulator(program, chunk=1).run(data)["y"], whole)


def image_of(module, samples: int) -> np.ndarray:
    shape = module.main.arguments[0].type.shape
    return np.random.default_rng(1).normal(0, 3, (samples, *shape[1:])).astype(np.float32)


@pytest.mark.parametrize("mode", ["fast", "plain", "checked"])
def test_simulator_gives_the_result_of_the_tile_ir(mode):
    module = conv_module()
    images = image_of(module, 5)
    program = emit(module, TARGET)
    simulated = Simulator(program, mode=mode, chunk=2).run({"image": images})["result"]
    for index in range(len(images)):
        expected = run(module, {"image": images[index : index + 1]})["result"]
        np.testing.assert_array_equal(simulated[index : index + 1], expected)


def test_progress_counts_samples():
    module = conv_module()
    seen: list[tuple[int, int]] = []
    Simulator(emit(module, TARGET), chunk=2).run({"image": image_of(module, 5)}, progress=lambda *at: seen.append(at))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_results_do_not_depend_on_earlier_runs():
    module = conv_module()
    simulator = Simulator(emit(module, TARGET))
    first, second = image_of(module, 2)[:1], image_of(module, 2)[1:]
    once = simulator.run({"image": first})["result"]
    simulator.run({"image": second})
    np.testing.assert_array_equal(simulator.run({"image": first})["result"], once)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"input 'image' is missing, expected float32\[samples, 6, 6, 5\]"),
        ({"picture": np.zeros(1)}, "input 'picture' is not an input of the model, expected 'image'"),
        ({"image": np.zeros((2, 6, 6, 4), np.float32)}, r"input 'image' is float32\[2, 6, 6, 4\], expected float32"),
        ({"image": np.zeros((2, 6, 6, 5))}, r"input 'image' is float64\[2, 6, 6, 5\], expected float32"),
        ({"image": np.zeros(5, np.float32)}, r"input 'image' is float32\[5\], expected float32"),
    ],
)
def test_wrong_inputs_are_refused(inputs, message):
    with pytest.raises(CompileError, match=message):
        Simulator(emit(conv_module(), TARGET)).run(inputs)


def test_nan_is_refused_with_its_place():
    images = image_of(conv_module(), 3)
    images[1, 2, 3, 4] = np.nan
    with pytest.raises(CompileError, match=r"input 'image' is NaN in sample 1 at \[0, 2, 3, 4\]"):
        Simulator(emit(conv_module(), TARGET)).run({"image": images})

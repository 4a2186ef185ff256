"""Checked mode finds reads of what nothing wrote, and conflicts that no token orders."""

import numpy as np
import pytest
from machine.modules import conv_module
from machine.programs import instruction, program_around

from accelc.backends.emitter import emit
from accelc.backends.program import Program
from accelc.backends.simulator.hazards import check_hazards
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.operation import Module
from accelc.dialects.tile.array import MatmulOp
from accelc.dialects.tile.memory import LoadOp, StoreOp
from accelc.dialects.tile.movement import FillOp, MoveOp
from accelc.dialects.tile.vector import RequantizeOp

TARGET = load_target("tile32")


def only(module: Module, kind: type):
    return next(op for op in module.main.body if isinstance(op, kind))


def problem(program: Program) -> str:
    with pytest.raises(CompileError) as caught:
        check_hazards(program)
    return str(caught.value)


def test_a_program_with_all_its_tokens_is_clean():
    check_hazards(emit(conv_module(), TARGET))


def test_reading_sram_that_nothing_wrote():
    program = emit(conv_module(load_input=False), TARGET)
    text = "instruction 2 (matmul, Conv_0+Relu_1): reads 'input' at SRAM address 0x0, which nothing has written"
    assert text in problem(program)
    Simulator(program).run({"image": np.zeros((1, 6, 6, 5), np.float32)})  # only checked mode refuses
    with pytest.raises(CompileError, match="nothing has written"):
        Simulator(program, mode="checked")


def test_reading_one_byte_too_many():
    module = conv_module()
    load = only(module, LoadOp)
    load.run -= 1
    assert f"'input' at SRAM address {6 * 6 * 5 - 1:#x}, which nothing has written" in problem(emit(module, TARGET))


def test_reading_accumulators_that_nothing_wrote():
    module = conv_module()
    only(module, MatmulOp).out_h = 5
    text = "(requantize, Conv_0+Relu_1): reads 'accumulator' at accumulator row 40 column 8, which nothing has written"
    assert text in problem(emit(module, TARGET))


def test_accumulating_onto_nothing():
    module = conv_module()
    only(module, MatmulOp).accumulate = True
    assert "(matmul, Conv_0+Relu_1): reads 'accumulator' at accumulator row 10" in problem(emit(module, TARGET))


def test_an_output_that_nothing_wrote():
    module = conv_module()
    only(module, StoreOp).run -= 5
    assert "output 'result' is read from DRAM address" in problem(emit(module, TARGET))


@pytest.mark.parametrize(
    ("kind", "later", "earlier"),
    [
        (MatmulOp, "(matmul, Conv_0+Relu_1): reads 'input' at SRAM", "the write by instruction 0 (load"),
        (RequantizeOp, "(requantize, Conv_0+Relu_1): reads 'accumulator' at", "the write by instruction 3 (matmul"),
        (StoreOp, "(store, Conv_0+Relu_1): reads 'source' at SRAM", "the write by instruction 4 (requantize"),
    ],
)
def test_a_missing_wait_is_a_race(kind, later, earlier):
    module = conv_module()
    only(module, kind).wait = ()
    message = problem(emit(module, TARGET))
    assert later in message
    assert f"and no token orders it after {earlier}" in message


def test_overwriting_what_another_engine_may_still_read():
    body = [
        instruction(MoveOp, wait=("load",), input=0, output=64, size3=64),
        instruction(LoadOp, source=0, destination=32, run=16),
        instruction(FillOp, output=128, value=1, run=64, signal=("store",)),
    ]
    tokens = {"load_signal": ("vector",), "store_wait": ("vector",)}
    message = problem(program_around(body, input_bytes=64, sram_bytes=192, **tokens))
    assert "(load, layer): writes 'destination' at SRAM address 0x20" in message
    assert "after the read by instruction 1 (move" in message


def test_neighbouring_channels_of_one_buffer_do_not_conflict():
    """Interleaved writes of two engines are no conflict: bytes count, not address ranges."""
    body = [
        instruction(FillOp, output=64, value=1, outer=1, inner=8, run=4, output_inner_stride=8),
        instruction(
            LoadOp,
            source=0,
            destination=68,
            inner=8,
            run=4,
            source_inner_stride=4,
            destination_inner_stride=8,
            signal=("vector",),
        ),
        instruction(FillOp, output=200, value=0, run=1, wait=("load",), signal=("store",)),
    ]
    program = program_around(body, input_bytes=64, sram_bytes=201, stored=(64, 128), store_wait=("vector",))
    check_hazards(program)

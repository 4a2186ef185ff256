"""Scheduled modules become programs, or say why they cannot."""

import numpy as np
import pytest
from machine.modules import conv_module

from accelc.backends.emitter import emit
from accelc.backends.program import ALIGNMENT
from accelc.backends.target import load_target
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.operation import Module
from accelc.dialects.core.verifier import verify
from accelc.dialects.tile.array import MatmulOp
from accelc.dialects.tile.memory import AllocOp, LoadOp, StoreOp

TARGET = load_target("tile32")


def only(module: Module, kind: type):
    return next(op for op in module.main.body if isinstance(op, kind))


def alloc(module: Module, space: str) -> AllocOp:
    return next(op for op in module.main.body if isinstance(op, AllocOp) and op.buffer.type.space == space)


def test_program_of_a_convolution():
    module = conv_module()
    verify(module)
    program = emit(module, TARGET, report={"spilled_bytes": 0})
    assert program.model == "hand made"
    names = [instruction.op_class.name for instruction in program.instructions]
    assert names == ["tile.load", "tile.load", "tile.load", "tile.matmul", "tile.requantize", "tile.store"]
    assert [(layer.name, layer.kind, layer.macs) for layer in program.layers] == [
        ("Conv_0+Relu_1", "matmul", 36 * 9 * 5 * 40)
    ]
    assert program.useful_macs.sum() == 36 * 9 * 5 * 40
    image, result = program.inputs[0], program.outputs[0]
    assert (image.name, image.type.shape, image.writes[0].steps[0].kind) == ("image", (1, 6, 6, 5), "quantize")
    assert (result.name, result.type.shape, result.steps[0].kind) == ("result", (1, 6, 6, 40), "dequantize")


def test_dram_holds_constants_then_buffers():
    module = conv_module()
    program = emit(module, TARGET)
    weights = module.constants["conv.weights"].array
    assert np.array_equal(program.constants[: weights.size], weights)
    starts = [i.addresses["source"] for i in program.instructions if i.op_class is LoadOp]
    assert starts[1] == 0
    assert starts[2] == weights.size + -weights.size % ALIGNMENT
    assert starts[0] == program.inputs[0].writes[0].address >= program.constants.size
    assert program.outputs[0].address >= starts[0] + 6 * 6 * 5
    assert program.dram_bytes == program.outputs[0].address + 6 * 6 * 40


def test_given_dram_addresses_count_from_the_end_of_the_constants():
    module = conv_module()
    alloc(module, "dram").address = 4096
    program = emit(module, TARGET)
    assert program.inputs[0].writes[0].address == program.constants.size + 4096


def test_layers_come_from_the_module():
    module = conv_module()
    module.attributes |= {"layers": ("stem", "Conv_0"), "layer_kinds": ("none", "conv2d")}
    for op in module.main.body:
        if hasattr(op, "layer"):
            op.layer = 1
    program = emit(module, TARGET)
    assert program.layers[1].kind == "conv2d"
    assert program.layers[0].macs == 0 < program.layers[1].macs
    assert set(program.instruction_layers) == {1}


def refused(module: Module) -> str:
    with pytest.raises(CompileError) as caught:
        emit(module, TARGET)
    return str(caught.value)


@pytest.mark.parametrize("space", ["sram", "acc"])
def test_a_buffer_without_address_is_refused(space):
    module = conv_module()
    alloc(module, space).address = -1
    assert f"in {space} has no address; run allocate-banks first" in refused(module)


@pytest.mark.parametrize(
    ("kind", "attribute", "value", "message"),
    [
        (StoreOp, "destination_offset", 10**6, "'destination' reaches"),
        (StoreOp, "source_offset", 1 << 20, "'source' reaches 0x"),
        (StoreOp, "source_offset", 1, "'source' reaches 1 to 1441, its buffer has 1440"),
        (LoadOp, "source_offset", 1, "'source' reaches 1 to 181, its buffer has 180"),
        (MatmulOp, "accumulator_offset", 1, "'accumulator' reaches 1184 to 2312, its buffer has 2304"),
        (LoadOp, "inner", 0, "'source' is empty"),
        (MatmulOp, "tile_columns", 16, "'tile_columns' is 16, the target has 32"),
        (MatmulOp, "split_n", 5, "uses 5 blocks, the target has 4"),
        (MatmulOp, "accumulator_offset", 2000, "'accumulator' reaches"),
        (MatmulOp, "zero_point", 300, "'zero_point' is 300, expected -128 to 127"),
        (MatmulOp, "stride_h", 0, "stride_h is 0"),
    ],
)
def test_what_the_target_cannot_execute_is_refused(kind, attribute, value, message):
    module = conv_module()
    setattr(only(module, kind), attribute, value)
    assert message in refused(module)


def test_a_window_that_unfolds_without_bound_is_refused():
    module = conv_module()
    matmul = only(module, MatmulOp)
    matmul.kernel_h = matmul.kernel_w = 4000
    assert "unfolds its input into 2880000000 elements" in refused(module)


def test_a_starved_token_is_a_deadlock_with_names():
    module = conv_module()
    only(module, StoreOp).wait = ("vector", "array")
    message = refused(module)
    assert "deadlock: instruction 5 (store, Conv_0+Relu_1) waits for a token of array that never comes" in message


def test_a_layer_index_outside_the_list_is_refused():
    module = conv_module()
    module.attributes["layers"] = ("only",)
    only(module, MatmulOp).layer = 1
    assert "layer is 1, the module lists 1 layers" in refused(module)

"""Host steps compute what the IR operations they stand for compute, and refuse to be put together wrongly."""

import numpy as np
import pytest
from machine.modules import ModuleBuilder

from accelc.backends.emitter import emit
from accelc.backends.host import HostStep
from accelc.backends.program import program_from_bytes
from accelc.backends.simulator import host as host_module
from accelc.backends.simulator.kernels import has_kernels
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.types import F32, I8, TensorType
from accelc.dialects.quant.ops import DequantizeOp, QuantizeOp
from accelc.dialects.quant.types import QuantizedType
from accelc.dialects.registry import CONTEXT
from accelc.dialects.tile.memory import HostReadOp, HostWriteOp, LoadOp, StoreOp

TARGET = load_target("tile32")
TRANSPOSE, RESHAPE = CONTEXT.operations["nn.transpose"], CONTEXT.operations["nn.reshape"]
FIRST, LAST = QuantizedType(I8, 0.05, 3), QuantizedType(I8, 0.05, 3)


def round_trip_module(batch: int = 1) -> Module:
    """NCHW floats -> NHWC int8 -> through SRAM -> reals -> NCHW, flat; a second output is the input itself."""
    image = TensorType((batch, 3, 4, 5), F32)
    b = ModuleBuilder(("image", image), outputs=(("flat", TensorType((batch, 60), F32)), ("same", image)))
    channels_last = b.add(TRANSPOSE.build(b.main.arguments[0], permutation=(0, 2, 3, 1))).out
    quantized = b.add(QuantizeOp.build(channels_last, result_types=[channels_last.type.with_element(FIRST)])).out
    size = batch * 60
    source, middle, sink = b.alloc("dram", size), b.alloc("sram", size, 0), b.alloc("dram", size)
    b.add(HostWriteOp.build(quantized, source))
    b.add(LoadOp.build(source, middle, run=size, signal=("store",)))
    b.add(StoreOp.build(middle, sink, run=size, wait=("load",)))
    read = b.add(HostReadOp.build(sink, result_types=[quantized.type.with_element(LAST)])).data
    real = b.add(DequantizeOp.build(read)).out
    channels_first = b.add(TRANSPOSE.build(real, permutation=(0, 3, 1, 2))).out
    flat = b.add(RESHAPE.build(channels_first, shape=(batch, 60))).out
    return b.finish(flat, b.main.arguments[0])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("mode", ["fast", "checked", "compiled"])
def test_host_steps_are_the_ir_operations(monkeypatch, batch, mode):
    if mode == "compiled" and not has_kernels():
        pytest.skip("numba is not installed (extra `fast`)")
    monkeypatch.setattr(host_module, "FEWEST_COMPILED", 1)
    module = round_trip_module(batch)
    program = program_from_bytes(emit(module, TARGET).to_bytes())
    images = np.random.default_rng(0).normal(0, 5, (3 * batch, 3, 4, 5)).astype(np.float32)
    images[0].flat[:12] = (np.arange(12) - 5.5) * np.float32(FIRST.scale)  # ties
    images[-1].flat[:2] = np.inf, -np.inf
    compiled, bound = mode == "compiled", []
    bind = host_module.quantization_kernel
    monkeypatch.setattr(host_module, "quantization_kernel", lambda *given: bound.append(bind(*given)) or bound[-1])
    simulator = Simulator(program, mode="fast" if compiled else mode, chunk=2, compiled=compiled)
    found = simulator.run({"image": images})
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        expected = run(module, {"image": images[part]})
        np.testing.assert_array_equal(found["flat"][part], expected["flat"])
        np.testing.assert_array_equal(found["same"][part], expected["same"])
    assert len(bound) == (2 if compiled else 0) and None not in bound
    backwards = simulator.run({"image": np.ascontiguousarray(images[..., ::-1])[..., ::-1]})
    np.testing.assert_array_equal(backwards["flat"], found["flat"])


def test_a_batch_that_is_not_whole_is_refused():
    program = emit(round_trip_module(2), TARGET)
    with pytest.raises(CompileError, match=r"expected float32\[2 \* samples, 3, 4, 5\]"):
        Simulator(program).run({"image": np.zeros((3, 3, 4, 5), np.float32)})


def test_no_samples_give_no_results():
    program = emit(round_trip_module(), TARGET)
    found = Simulator(program).run({"image": np.zeros((0, 3, 4, 5), np.float32)})
    assert found["flat"].shape == (0, 60)
    assert found["flat"].dtype == np.float32


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (HostStep("transpose", TensorType((2, 3), F32), (1, 1)), "permutation [1, 1] does not fit tensor<3x2xf32>"),
        (HostStep("transpose", TensorType((3, 2), F32), (1, 0)), "transpose makes tensor<3x2xf32> of tensor<3x2xf32>"),
        (HostStep("reshape", TensorType((7,), F32)), "reshape makes tensor<7xf32> of tensor<3x2xf32>"),
        (HostStep("quantize", TensorType((3, 2), F32)), "quantize makes tensor<3x2xf32> of tensor<3x2xf32>"),
        (HostStep("dequantize", TensorType((3, 2), F32)), "dequantize makes"),
        (HostStep("launch", TensorType((3, 2), F32)), "unknown step 'launch', expected one of transpose, reshape"),
    ],
)
def test_steps_that_do_not_fit_are_refused(step, message):
    assert (step.problem(TensorType((3, 2), F32)) or "").startswith(message)


def test_other_operations_on_the_host_are_refused():
    module = round_trip_module()
    relu = CONTEXT.operations["nn.relu"]
    op = next(op for op in module.main.body if isinstance(op, QuantizeOp))
    clipped = module.main.body.insert_before(op, relu.build(op.data))
    op.set_operand(0, clipped.out)
    with pytest.raises(CompileError, match="not made from an input by host steps"):
        emit(module, TARGET)

"""Small scheduled tile modules, built by hand: what the compiler's last pass would hand to the emitter."""

import numpy as np

from accelc.dialects.builtin import ReturnOp
from accelc.dialects.core.diagnostics import Location
from accelc.dialects.core.operation import Function, Module, Value
from accelc.dialects.core.types import F32, I8, TensorType
from accelc.dialects.quant.arithmetic import fixed_point
from accelc.dialects.quant.ops import DequantizeOp, QuantizeOp
from accelc.dialects.quant.types import QuantizedType
from accelc.dialects.tile.array import MatmulOp
from accelc.dialects.tile.memory import AllocOp, HostReadOp, HostWriteOp, LoadOp, StoreOp
from accelc.dialects.tile.records import pack_requantization
from accelc.dialects.tile.types import BufferType
from accelc.dialects.tile.vector import RequantizeOp

COLUMNS = 32


def matrix_tiles(weights: np.ndarray) -> np.ndarray:
    """Weights [groups, depth, out_c] in the order tile.matmul reads them, flat."""
    depth, out_c = weights.shape[1:]
    parts = [
        weights[g, :, first : first + COLUMNS].reshape(depth, -1).reshape(-1)
        for g in range(len(weights))
        for first in range(0, out_c, COLUMNS)
    ]
    return np.concatenate(parts)


class ModuleBuilder:
    """Appends operations to @main; addresses are given by hand."""

    def __init__(self, *inputs: tuple[str, TensorType], outputs: tuple[tuple[str, TensorType], ...]) -> None:
        self.module = Module({"model": "hand made"})
        names = tuple(name for name, _ in outputs)
        types = [type for _, type in outputs]
        self.main: Function = self.module.add_function("main", inputs, types, {"outputs": names})

    def add(self, op):
        return self.main.body.append(op)

    def alloc(self, space: str, size: int, address: int = -1) -> Value:
        op = AllocOp.build(result_types=[BufferType(space, size)], address=address)
        if space == "acc":
            op.columns = COLUMNS
        return self.add(op).buffer

    def finish(self, *values: Value) -> Module:
        self.add(ReturnOp.build(*values))
        return self.module


def conv_module(
    *,
    size: int = 6,
    in_c: int = 5,
    out_c: int = 40,
    kernel: int = 3,
    seed: int = 0,
    tokens: bool = True,
    load_input: bool = True,
) -> Module:
    """Input f32[1,size,size,in_c] -> 3x3 convolution, padded -> f32[1,size,size,out_c] on one instruction each."""
    rng = np.random.default_rng(seed)
    first, last = QuantizedType(I8, 0.05, 3), QuantizedType(I8, 0.1, -7)
    image = TensorType((1, size, size, in_c), F32)
    result = TensorType((1, size, size, out_c), F32)
    b = ModuleBuilder(("image", image), outputs=(("result", result),))
    weights = rng.integers(-127, 128, (1, kernel * kernel * in_c, out_c)).astype(np.int8)
    multiplier, shift = fixed_point(rng.uniform(0.0005, 0.002, out_c))
    records = pack_requantization(rng.integers(-5000, 5000, out_c).astype(np.int32), multiplier, shift)
    matrix = b.module.add_constant("conv.weights", matrix_tiles(weights))
    parameters = b.module.add_constant("conv.parameters", records)
    in_bytes, out_bytes = size * size * in_c, size * size * out_c
    source, sink = b.alloc("dram", in_bytes), b.alloc("dram", out_bytes)
    at = [0]

    def sram(count: int) -> Value:
        start = at[0]
        at[0] = start + count + -count % 32
        return b.alloc("sram", count, start)

    data, w, p, out = sram(in_bytes), sram(matrix.array.size), sram(records.size), sram(out_bytes)
    tiles = -(-out_c // COLUMNS)
    acc = b.alloc("acc", tiles * size * size, 10)
    quantized = b.add(QuantizeOp.build(b.main.arguments[0], result_types=[image.with_element(first)])).out
    b.add(HostWriteOp.build(quantized, source))
    where = Location(("Conv_0", "Relu_1"))

    def signal(*engines: str) -> tuple[str, ...]:
        return engines if tokens else ()

    if load_input:
        b.add(LoadOp.build(source, data, run=in_bytes, location=where))
    b.add(LoadOp.build(matrix, w, run=matrix.array.size, location=where, signal=signal("array")))
    b.add(LoadOp.build(parameters, p, run=records.size, location=where, signal=signal("vector")))
    pad = kernel // 2
    window = {"in_h": size, "in_w": size, "out_h": size, "out_w": size, "kernel_h": kernel, "kernel_w": kernel}
    window |= {"pad_top": pad, "pad_left": pad, "input_row_stride": size * in_c, "input_pixel_stride": in_c}
    shape = {"in_c": in_c, "out_c": out_c, "tile_columns": COLUMNS, "zero_point": first.zero_point}
    macs = {"useful_macs": size * size * kernel * kernel * in_c * out_c}
    tokens_in, tokens_out = {"wait": signal("load")}, {"signal": signal("vector")}
    b.add(MatmulOp.build(data, w, acc, location=where, **window, **shape, **macs, **tokens_in, **tokens_out))
    pixels = {
        "out_h": size,
        "out_w": size,
        "out_c": out_c,
        "output_row_stride": size * out_c,
        "output_pixel_stride": out_c,
    }
    scale = {"tile_columns": COLUMNS, "group_columns": out_c, "zero_point": last.zero_point, "low": last.zero_point}
    order = {"wait": signal("load", "array"), "signal": signal("store")}
    b.add(RequantizeOp.build(acc, p, out, location=where, **pixels, **scale, **order))
    b.add(StoreOp.build(out, sink, run=out_bytes, location=where, wait=signal("vector")))
    read = b.add(HostReadOp.build(sink, result_types=[result.with_element(last)]))
    return b.finish(b.add(DequantizeOp.build(read.data)).out)

"""Random programs of each kind of instruction, for comparing the fast path with the plain one."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from accelc.backends.encoding import Instruction
from accelc.backends.program import Program
from accelc.dialects.quant.arithmetic import fixed_point
from accelc.dialects.tile.array import MatmulOp
from accelc.dialects.tile.movement import FillOp, MoveOp
from accelc.dialects.tile.normalization import LayerNormOp, LrnOp, SoftmaxOp
from accelc.dialects.tile.pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp
from accelc.dialects.tile.records import pack_multipliers, pack_requantization
from accelc.dialects.tile.vector import BinaryOp, LookupOp, RequantizeOp, RescaleOp

from .programs import instruction, program_around

TILE = 32
INT8 = st.integers(-128, 127)


def _records(rng: np.random.Generator, count: int, span: float) -> np.ndarray:
    multiplier, shift = fixed_point(rng.uniform(20 / span, 300 / span, count))
    return pack_requantization(rng.integers(-int(span), int(span), count).astype(np.int32), multiplier, shift)


def _pairs(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    return pack_multipliers(*fixed_point(rng.uniform(low, high, count))).view(np.int8)


def _clip(draw: st.DrawFn) -> dict[str, int]:
    low = draw(st.sampled_from([-128, -100, 0]))
    return {"zero_point": draw(INT8), "low": low, "high": draw(st.sampled_from([127, 100, low]))}


def _window(draw: st.DrawFn, channels: int, kernel_limit: int = 3) -> dict[str, int]:
    sizes = {name: draw(st.integers(1, 6)) for name in ("in_h", "in_w", "out_h", "out_w")}
    kernel = {name: draw(st.integers(1, kernel_limit)) for name in ("kernel_h", "kernel_w")}
    steps = {name: draw(st.integers(1, 2)) for name in ("stride_h", "stride_w", "dilation_h", "dilation_w")}
    pads = {name: draw(st.integers(0, 2)) for name in ("pad_top", "pad_left")}
    pixel = channels + draw(st.sampled_from([0, 0, 3]))
    row = sizes["in_w"] * pixel + draw(st.sampled_from([0, 0, 5]))
    return sizes | kernel | steps | pads | {"input_pixel_stride": pixel, "input_row_stride": row}


def _output(draw: st.DrawFn, width: int, channels: int) -> dict[str, int]:
    pixel = channels + draw(st.sampled_from([0, 0, 2]))
    return {"output_pixel_stride": pixel, "output_row_stride": width * pixel + draw(st.sampled_from([0, 0, 7]))}


class _Layout:
    """SRAM from address 0: the input, then constants, then results."""

    def __init__(self, input_bytes: int) -> None:
        self.input_bytes = self.end = input_bytes
        self.constants: dict[int, np.ndarray] = {}

    def constant(self, data: np.ndarray) -> int:
        address = self.end
        self.constants[address] = data
        self.end += data.nbytes
        return address

    def space(self, size: int) -> int:
        self.end += size
        return self.end - size

    def program(self, body: list[Instruction], stored: tuple[int, int] | None) -> Program:
        options: dict[str, Any] = {"constants": self.constants, "sram_bytes": self.end, "stored": stored}
        return program_around(body, input_bytes=self.input_bytes, **options)


@st.composite
def matmul_programs(draw: st.DrawFn) -> Program:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    diagonal = draw(st.booleans())
    groups = 1 if diagonal else draw(st.integers(1, 3))
    out_c = draw(st.integers(1, 70))
    in_c = out_c if diagonal else draw(st.integers(1, 12))
    stride = draw(st.sampled_from([in_c, 0, in_c + 1])) if groups > 1 else 0
    window = _window(draw, (groups - 1) * stride + in_c)
    taps = window["kernel_h"] * window["kernel_w"]
    rows, tiles = window["out_h"] * window["out_w"], -(-out_c // TILE)
    weight_bytes = groups * taps * out_c * (1 if diagonal else in_c)
    stored: dict[str, Any] = {}
    if (taps, groups, diagonal) == (1, 1, False) and draw(st.booleans()):
        length, run = (out_c, in_c) if (transposed := draw(st.booleans())) else (in_c, out_c)
        step = run + draw(st.sampled_from([0, 1, 5]))
        stored = {"weights_stride": step, "transposed": transposed}
        weight_bytes = (length - 1) * step + run
    image = window["in_h"] * window["input_row_stride"]
    memory = _Layout(image + weight_bytes)
    base = draw(st.integers(0, 9))
    records = memory.constant(_records(rng, groups * out_c, 16000.0 * taps**0.5))
    body: list[Instruction] = []
    for number in range(draw(st.integers(1, 2))):
        fixed = draw(st.sampled_from([True, True, False]))
        limit = draw(st.sampled_from([128, 20]))
        weights = rng.integers(-limit, limit, weight_bytes).astype(np.int8)
        where = memory.constant(weights) if fixed else image
        shape = {"in_c": in_c, "out_c": out_c, "groups": groups, "input_group_stride": stride, "diagonal": diagonal}
        places = {"input": 0, "weights": where, "accumulator": base, "tile_columns": TILE}
        flags = {"accumulate": number > 0, "zero_point": draw(INT8), **stored}
        if draw(st.booleans()):
            flags |= {"input_zero": draw(INT8), "weights_zero": draw(INT8)}
        body.append(instruction(MatmulOp, **window, **shape, **places, **flags))
    first = draw(st.sampled_from([0, 0, out_c // 2]))
    count = draw(st.sampled_from([out_c - first, out_c - first, 1]))
    group = draw(st.integers(0, groups - 1))
    width = window["out_w"]
    step = count if groups > 1 else 0
    output = _output(draw, width, step * (groups - group) or count)
    varying = memory.input_bytes >= 8 * groups * out_c and draw(st.sampled_from([False, False, False, True]))
    places = {"accumulator": base + group * tiles * rows, "parameters": 0 if varying else records}
    size = window["out_h"] * output["output_row_stride"] + 64
    out = memory.space(size)
    columns = {"group_columns": out_c, "first_column": first, "out_c": count, "tile_columns": TILE}
    shape = {"out_h": window["out_h"], "out_w": width, "groups": groups - group, "output_group_stride": step}
    body.append(instruction(RequantizeOp, **places, output=out, **columns, **shape, **output, **_clip(draw)))
    return memory.program(body, draw(st.sampled_from([None, (out, out + size)])))


@st.composite
def window_programs(draw: st.DrawFn) -> Program:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    channels = draw(st.sampled_from([1, 3, 16, 65]))
    window = _window(draw, channels)
    taps = window["kernel_h"] * window["kernel_w"]
    memory = _Layout(window["in_h"] * window["input_row_stride"])
    output = _output(draw, window["out_w"], channels)
    common: dict[str, Any] = {**window, **output, "channels": channels, "input": 0}
    kind = draw(st.sampled_from(["max", "average", "depthwise"]))
    if kind != "max":
        common |= {"input_zero": draw(INT8), **_clip(draw)}
    if kind == "average":
        counted = {f"counted_{side}": draw(st.integers(0, 2)) for side in ("top", "left", "bottom", "right")}
        common |= counted | {"multipliers": memory.constant(_pairs(rng, taps + 1, 0.02, 1.0))}
    if kind == "depthwise":
        weights = rng.integers(-128, 128, (taps, channels)).astype(np.int8)
        common |= {"weights": memory.constant(weights), "parameters": memory.constant(_records(rng, channels, 20000))}
    size = window["out_h"] * output["output_row_stride"] + 8
    out = memory.space(size)
    op_class = {"max": MaxPoolOp, "average": AveragePoolOp, "depthwise": DepthwiseOp}[kind]
    body = [instruction(op_class, output=out, **common)]
    return memory.program(body, draw(st.sampled_from([None, (out, out + size)])))


@st.composite
def elementwise_programs(draw: st.DrawFn) -> Program:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width, channels = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 7, 64]))
    pixel = channels + draw(st.sampled_from([0, 3]))
    row = width * pixel + draw(st.sampled_from([0, 5]))
    memory = _Layout(2 * height * row + 16)
    kind = draw(st.sampled_from(["binary", "lookup", "rescale", "softmax", "lrn", "layer_norm"]))
    shape = {"out_h": height, "out_w": width, "out_c": channels}
    common: dict[str, Any] = dict(shape)
    sources: dict[str, Any] = {"input": 0, "input_row_stride": row, "input_pixel_stride": pixel}
    if kind == "binary":
        multiplier, shift = fixed_point(draw(st.floats(0.01, 2.0)))
        other = draw(st.sampled_from([(row, pixel, 1), (0, 0, 1), (0, 0, 0), (row, pixel, 0)]))
        common |= {"kind": draw(st.sampled_from(["add", "sub", "mul", "div"])), "lhs": 0, "rhs": height * row}
        common |= {"lhs_row_stride": row, "lhs_pixel_stride": pixel, "lhs_zero": draw(INT8), "rhs_zero": draw(INT8)}
        common |= dict(zip(("rhs_row_stride", "rhs_pixel_stride", "rhs_channel_stride"), other, strict=True))
        common |= {"lhs_multiplier": int(multiplier), "rhs_multiplier": -int(multiplier) // 3, "shift": int(shift)}
        common |= _clip(draw)
    elif kind == "lookup":
        common |= sources | {"table": memory.constant(rng.integers(-128, 128, 256).astype(np.int8))}
    elif kind == "rescale":
        each = draw(st.booleans())
        pairs = memory.constant(_pairs(rng, 2 * (channels if each else 1), 0.01, 2.0))
        common |= sources | {"parameters": pairs, "per_channel": each, "input_zero": draw(INT8), **_clip(draw)}
    elif kind == "softmax":
        common |= sources | {"table": memory.constant(np.arange(1024, 768, -1).astype("<i4"))}
    elif kind == "layer_norm":
        words = np.concatenate([rng.integers(0, 2**20, 2), rng.integers(-(2**21), 2**21, 2 * channels)])
        table = memory.constant(words.astype("<i4"))
        common |= sources | {"table": table, "shift": 21, "input_zero": draw(INT8), "centred": draw(st.booleans())}
        common |= _clip(draw)
    else:
        table = memory.constant(np.arange(1 << 21, (1 << 21) - 1000, -1).astype("<i4"))
        common |= sources | {"table": table, "entries": 1000, "size": 3, "shift": 21, "input_zero": 0, **_clip(draw)}
    in_place = draw(st.sampled_from([0, 0, 1, 2])) if kind != "binary" else draw(st.sampled_from([0, 1]))
    if in_place:
        out = 0 if in_place == 1 else 3
        output = {"output_row_stride": row, "output_pixel_stride": pixel}
        return memory.program([instruction(_KINDS[kind], output=out, **output, **common)], None)
    output = _output(draw, width, channels)
    size = height * output["output_row_stride"] + 8
    out = memory.space(size)
    body = [instruction(_KINDS[kind], output=out, **output, **common)]
    return memory.program(body, draw(st.sampled_from([None, (out, out + size)])))


_KINDS = {
    "binary": BinaryOp,
    "lookup": LookupOp,
    "rescale": RescaleOp,
    "softmax": SoftmaxOp,
    "lrn": LrnOp,
    "layer_norm": LayerNormOp,
}


@st.composite
def movement_programs(draw: st.DrawFn) -> Program:
    sizes = [draw(st.integers(1, 4)) for _ in range(4)]
    strides = [draw(st.integers(0, 9)) for _ in range(4)]
    memory = _Layout(200)
    fields = {f"size{axis}": size for axis, size in enumerate(sizes)}
    fields |= {f"input_stride{axis}": stride for axis, stride in enumerate(strides)}
    step = 1
    for axis in reversed(range(4)):
        fields[f"output_stride{axis}"] = step
        step *= sizes[axis]
    out = draw(st.sampled_from([0, 3, memory.space(step)]))
    runs = {"outer": 2, "inner": 3, "run": 4, "output_outer_stride": 20, "output_inner_stride": 5}
    fill = instruction(FillOp, output=draw(st.integers(0, 100)), value=draw(INT8), **runs)
    move = instruction(MoveOp, input=draw(st.integers(0, 60)), output=out, **fields)
    return memory.program(draw(st.permutations([fill, move])), None)

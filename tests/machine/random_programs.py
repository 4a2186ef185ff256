"""Random programs of each kind of instruction, for comparing the fast path with the plain one."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from accelc.backends.encoding import Instruction
from accelc.backends.program import Program
from accelc.dialects.quant.arithmetic import fixed_point
from accelc.dialects.quant.bfloat16 import rounded
from accelc.dialects.quant.bfloat16_tables import (
    brain_float_lrn_table,
    brain_float_table,
    exponential_table,
    page_count,
)
from accelc.dialects.tile.array import MatmulOp
from accelc.dialects.tile.elements import ELEMENTS
from accelc.dialects.tile.indexing import ArgMaxOp, GatherOp
from accelc.dialects.tile.movement import FillOp, MoveOp
from accelc.dialects.tile.normalization import LayerNormOp, LrnOp, MaskedSoftmaxOp, SoftmaxOp
from accelc.dialects.tile.pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp
from accelc.dialects.tile.records import pack_factors, pack_multipliers, pack_requantization
from accelc.dialects.tile.residual import RequantizeAddOp
from accelc.dialects.tile.vector import BinaryOp, LookupOp, RequantizeOp, RescaleOp

from .programs import instruction, program_around

TILE = 32
INT8 = st.integers(-128, 127)
TANH = brain_float_table(np.tanh)


ELEMENTS_TRIED = st.sampled_from(["i8", "i8", "i16", "bf16"])


def _size(element: str) -> int:
    return ELEMENTS[element].size


def _integers(rng: np.random.Generator, element: str, shape: Any, limit: int = 1 << 15) -> np.ndarray:
    kind = ELEMENTS[element]
    if kind.is_float:
        return rounded((rng.standard_normal(shape) * rng.integers(0, 3, shape)).astype(np.float32))
    return rng.integers(max(kind.low, -limit), min(kind.high + 1, limit), shape).astype(kind.dtype)


def _number(draw: st.DrawFn, element: str) -> int:
    """A zero point."""
    return draw(INT8) if element == "i8" else 0


def _records(rng: np.random.Generator, count: int, span: float, element: str = "i8", drop: int = 0) -> np.ndarray:
    if ELEMENTS[element].is_float:
        return pack_factors(rng.standard_normal(count), rng.uniform(0.5, 2.0, count))
    steps = 1 if element == "i8" else 256
    multiplier, shift = fixed_point(2.0**drop * steps * rng.uniform(20 / span, 300 / span, count))
    bias = rng.integers(-int(span), int(span), count)
    return pack_requantization(bias, multiplier, shift, ELEMENTS[element].record_bytes)


def _pairs(rng: np.random.Generator, element: str, count: int, low: float, high: float) -> np.ndarray:
    if ELEMENTS[element].is_float:
        return rng.uniform(low, high, count).astype("<f4").view(np.int8)
    return pack_multipliers(*fixed_point(rng.uniform(low, high, count))).view(np.int8)


def _clip(draw: st.DrawFn, element: str = "i8") -> dict[str, int]:
    kind = ELEMENTS[element]
    low = draw(st.sampled_from([kind.low, -100, 0]))
    high = draw(st.sampled_from([kind.high, 100, low]))
    return {"zero_point": _number(draw, element), "low": low, "high": high}


def _window(draw: st.DrawFn, channels: int, size: int, kernel_limit: int = 3) -> dict[str, int]:
    sizes = {name: draw(st.integers(1, 6)) for name in ("in_h", "in_w", "out_h", "out_w")}
    kernel = {name: draw(st.integers(1, kernel_limit)) for name in ("kernel_h", "kernel_w")}
    steps = {name: draw(st.integers(1, 2)) for name in ("stride_h", "stride_w", "dilation_h", "dilation_w")}
    pads = {name: draw(st.integers(0, 2)) for name in ("pad_top", "pad_left")}
    pixel = (channels + draw(st.sampled_from([0, 0, 3]))) * size
    row = sizes["in_w"] * pixel + draw(st.sampled_from([0, 0, 5])) * size
    return sizes | kernel | steps | pads | {"input_pixel_stride": pixel, "input_row_stride": row}


def _output(draw: st.DrawFn, width: int, channels: int, size: int) -> dict[str, int]:
    pixel = (channels + draw(st.sampled_from([0, 0, 2]))) * size
    return {"output_pixel_stride": pixel, "output_row_stride": width * pixel + draw(st.sampled_from([0, 0, 7])) * size}


class _Layout:
    """SRAM from address 0: the input, then constants, then results; all at even addresses."""

    def __init__(self, input_bytes: int) -> None:
        self.input_bytes = self.end = input_bytes + input_bytes % 2
        self.constants: dict[int, np.ndarray] = {}

    def constant(self, data: np.ndarray) -> int:
        address = self.end
        self.constants[address] = data
        self.end += data.nbytes + data.nbytes % 2
        return address

    def space(self, size: int) -> int:
        self.end += size + size % 2
        return self.end - size - size % 2

    def program(self, body: list[Instruction], stored: tuple[int, int] | None) -> Program:
        options: dict[str, Any] = {"constants": self.constants, "sram_bytes": self.end, "stored": stored}
        return program_around(body, input_bytes=self.input_bytes, **options)


@st.composite
def matmul_programs(draw: st.DrawFn) -> Program:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    diagonal = draw(st.booleans())
    element = draw(ELEMENTS_TRIED)
    weights_element = draw(st.sampled_from(["i8", element]))
    target = draw(st.sampled_from([element, "i8", "i16"]))
    if element == "bf16":
        weights_element = target = element
    size, out_size = _size(element), _size(target)
    groups = 1 if diagonal else draw(st.integers(1, 3))
    out_c = draw(st.integers(1, 70))
    in_c = out_c if diagonal else draw(st.integers(1, 12))
    stride = draw(st.sampled_from([in_c, 0, in_c + 1])) if groups > 1 else 0
    window = _window(draw, (groups - 1) * stride + in_c, size)
    taps = window["kernel_h"] * window["kernel_w"]
    rows, tiles = window["out_h"] * window["out_w"], -(-out_c // TILE)
    weight_count = groups * taps * out_c * (1 if diagonal else in_c)
    stored: dict[str, Any] = {}
    if (taps, groups, diagonal) == (1, 1, False) and draw(st.booleans()):
        length, run = (out_c, in_c) if (transposed := draw(st.booleans())) else (in_c, out_c)
        step = run + draw(st.sampled_from([0, 1, 5]))
        stored = {"weights_stride": step * _size(weights_element), "transposed": transposed}
        weight_count = (length - 1) * step + run
    weight_bytes = weight_count * _size(weights_element)
    image = window["in_h"] * window["input_row_stride"]
    memory = _Layout(image + weight_bytes)
    base = draw(st.integers(0, 9))
    drop = draw(st.sampled_from([8, 13])) if element == "i16" else 0
    span = 16000.0 * taps**0.5 * 256.0 ** (size + _size(weights_element) - 2) * 256.0 ** (1 - out_size)
    records = memory.constant(_records(rng, groups * out_c, span, element, drop))
    body: list[Instruction] = []
    for number in range(draw(st.integers(1, 2))):
        fixed = draw(st.sampled_from([True, True, False]))
        limit = draw(st.sampled_from([128, 20]))
        weights = _integers(rng, weights_element, weight_count, limit if weights_element == "i8" else 1 << 15)
        where = memory.constant(weights) if fixed else image
        shape = {"in_c": in_c, "out_c": out_c, "groups": groups, "diagonal": diagonal}
        shape |= {"input_group_stride": stride * size, "element": element, "weights_element": weights_element}
        places = {"input": 0, "weights": where, "accumulator": base, "tile_columns": TILE}
        flags = {"accumulate": number > 0, "zero_point": _number(draw, element), **stored}
        if draw(st.booleans()):
            flags |= {"input_zero": _number(draw, element), "weights_zero": _number(draw, weights_element)}
        body.append(instruction(MatmulOp, **window, **shape, **places, **flags))
    first = draw(st.sampled_from([0, 0, out_c // 2]))
    count = draw(st.sampled_from([out_c - first, out_c - first, 1]))
    group = draw(st.integers(0, groups - 1))
    width = window["out_w"]
    step = count if groups > 1 else 0
    output = _output(draw, width, step * (groups - group) or count, out_size)
    varying = memory.input_bytes >= 12 * groups * out_c and draw(st.sampled_from([False, False, False, True]))
    places = {"accumulator": base + group * tiles * rows, "parameters": 0 if varying else records}
    size = window["out_h"] * output["output_row_stride"] + 64
    out = memory.space(size)
    kinds = {"element": target, "accumulator_element": element, "pre_shift": drop}
    columns = {"group_columns": out_c, "first_column": first, "out_c": count, "tile_columns": TILE}
    shape = {"out_h": window["out_h"], "out_w": width, "groups": groups - group, "output_group_stride": step * out_size}
    common = {**places, "output": out, **columns, **shape, **output, **_clip(draw, target), **kinds}
    small = groups - group == 1 and target != "i16" and memory.input_bytes >= count * out_size
    if small and draw(st.booleans()):
        pixel = draw(st.sampled_from([count, count + 3])) * out_size
        fits = (window["out_h"] * width - 1) * pixel + count * out_size <= memory.input_bytes
        strides = (width * pixel, pixel) if fits else (0, 0)
        common |= dict(zip(("residual_row_stride", "residual_pixel_stride"), strides, strict=True))
        common |= {f"sum_{name.removesuffix('_point')}": value for name, value in _clip(draw, target).items()}
        multiplier, shift = fixed_point(draw(st.floats(0.01, 2.0)) if target == "i8" else 0.0)
        common |= {"own_multiplier": int(multiplier), "residual_multiplier": -int(multiplier) // 3}
        common |= {"residual": 0, "residual_zero": _number(draw, target), "sum_shift": int(shift)}
        if fits and draw(st.booleans()):
            common |= {"output": 0, "output_row_stride": strides[0], "output_pixel_stride": strides[1]}
        body.append(instruction(RequantizeAddOp, **common))
    else:
        body.append(instruction(RequantizeOp, **common))
    return memory.program(body, draw(st.sampled_from([None, (out, out + size)])))


@st.composite
def window_programs(draw: st.DrawFn) -> Program:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    channels, element = draw(st.sampled_from([1, 3, 16, 65])), draw(ELEMENTS_TRIED)
    window = _window(draw, channels, _size(element))
    taps = window["kernel_h"] * window["kernel_w"]
    memory = _Layout(window["in_h"] * window["input_row_stride"])
    kind = draw(st.sampled_from(["max", "average", "depthwise"]))
    target = draw(st.sampled_from(["i8", "i16"])) if kind == "depthwise" and element != "bf16" else element
    output = _output(draw, window["out_w"], channels, _size(target))
    common: dict[str, Any] = {**window, **output, "channels": channels, "input": 0, "element": target}
    if kind != "max":
        common |= {"input_zero": _number(draw, element), **_clip(draw, target)}
    if kind == "average":
        counted = {f"counted_{side}": draw(st.integers(0, 2)) for side in ("top", "left", "bottom", "right")}
        common |= counted | {"multipliers": memory.constant(_pairs(rng, element, taps + 1, 0.02, 1.0))}
    if kind == "depthwise":
        common["input_element"] = element
        kind_of_weights = draw(st.sampled_from(["i8" if element != "bf16" else element, element]))
        weights = _integers(rng, kind_of_weights, (taps, channels))
        span = 20000.0 * 256.0 ** (_size(element) + _size(kind_of_weights) - 1 - _size(target))
        drop = 10 if element == "i16" else 0
        parameters = memory.constant(_records(rng, channels, span, element, drop))
        common |= {"weights": memory.constant(weights), "parameters": parameters}
        common |= {"weights_element": kind_of_weights, "pre_shift": drop}
    size = window["out_h"] * output["output_row_stride"] + 8
    out = memory.space(size)
    op_class = {"max": MaxPoolOp, "average": AveragePoolOp, "depthwise": DepthwiseOp}[kind]
    body = [instruction(op_class, output=out, **common)]
    return memory.program(body, draw(st.sampled_from([None, (out, out + size)])))


@st.composite
def elementwise_programs(draw: st.DrawFn) -> Program:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width, channels = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 7, 64]))
    element = draw(ELEMENTS_TRIED)
    size = _size(element)
    pixel = (channels + draw(st.sampled_from([0, 3]))) * size
    row = width * pixel + draw(st.sampled_from([0, 5])) * size
    memory = _Layout(2 * height * row + 16)
    kind = draw(st.sampled_from(["binary", "lookup", "rescale", "softmax", "masked", "lrn", "layer_norm"]))
    shape = {"out_h": height, "out_w": width, "out_c": channels, "element": element}
    common: dict[str, Any] = dict(shape)
    in_place = draw(st.sampled_from([0, 0, 1, 2])) if kind != "binary" else draw(st.sampled_from([0, 1]))
    sources: dict[str, Any] = {"input": 0, "input_row_stride": row, "input_pixel_stride": pixel}
    if kind == "binary":
        multiplier, shift = fixed_point(0.0 if element == "bf16" else draw(st.floats(0.01, 2.0)))
        other = draw(st.sampled_from([(row, pixel, size), (0, 0, size), (0, 0, 0), (row, pixel, 0)]))
        common |= {"kind": draw(st.sampled_from(["add", "sub", "mul", "div"])), "lhs": 0, "rhs": height * row}
        common |= {"lhs_row_stride": row, "lhs_pixel_stride": pixel, "lhs_channel_stride": size}
        common |= {"lhs_zero": _number(draw, element), "rhs_zero": _number(draw, element)}
        common |= dict(zip(("rhs_row_stride", "rhs_pixel_stride", "rhs_channel_stride"), other, strict=True))
        common |= {"lhs_multiplier": int(multiplier), "rhs_multiplier": -int(multiplier) // 3, "shift": int(shift)}
        common |= _clip(draw, element)
    elif kind == "lookup":
        entries = TANH if element == "bf16" else _integers(rng, element, 256 if element == "i8" else 513)
        common |= sources | {"table": memory.constant(entries)}
        common |= {"pages": page_count(TANH.size)} if element == "bf16" else {}
    elif kind == "rescale":
        each = draw(st.booleans())
        pairs = memory.constant(_pairs(rng, element, 2 * (channels if each else 1), 0.01, 2.0))
        source = element if in_place or element == "bf16" else draw(st.sampled_from(["i8", element]))
        common |= sources | {"parameters": pairs, "per_channel": each, "input_element": source}
        common |= {"input_zero": _number(draw, source), **_clip(draw, element)}
    elif kind == "softmax":
        entries = np.arange(1024, 768, -1).astype("<i4")
        wide = np.concatenate([entries, entries << 10])
        tables = {"i8": entries, "i16": wide, "bf16": exponential_table()}
        common |= sources | {"table": memory.constant(tables[element])}
    elif kind == "masked":
        step = draw(st.sampled_from([0, channels]))
        mask = memory.constant(rng.integers(0, 2, height * width * channels).astype(np.int8))
        entries = exponential_table() if element == "bf16" else np.arange(1024, 768, -1).astype("<i4")
        common |= sources | {"table": memory.constant(entries), "mask": mask}
        common |= {"mask_row_stride": width * step, "mask_pixel_stride": step}
    elif kind == "layer_norm":
        words = np.concatenate([rng.integers(0, 2**20, 2), rng.integers(-(2**21), 2**21, 2 * channels)])
        floats = np.append([0.01, 0.0], rng.standard_normal(2 * channels))
        table = memory.constant(floats.astype("<f4") if element == "bf16" else words.astype("<i4"))
        shift = 0 if element == "bf16" else 21
        common |= sources | {"table": table, "shift": shift, "input_zero": _number(draw, element)}
        common |= {"centred": draw(st.booleans()), **_clip(draw, element)}
    else:
        floats = brain_float_lrn_table(size=3, alpha=0.1, beta=0.75, bias=1.0)
        entries = floats if element == "bf16" else np.arange(1 << 21, (1 << 21) - 1200, -1).astype("<i4")
        common |= sources | {"table": memory.constant(entries), "entries": entries.size, "size": 3, "input_zero": 0}
        common |= {"shift": 0 if element == "bf16" else 21}
        common |= _clip(draw, element)
    if in_place:
        out = 0 if in_place == 1 else 3 * size
        output = {"output_row_stride": row, "output_pixel_stride": pixel}
        return memory.program([instruction(_KINDS[kind], output=out, **output, **common)], None)
    output = _output(draw, width, channels, size)
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
    "masked": MaskedSoftmaxOp,
}


@st.composite
def indexing_programs(draw: st.DrawFn) -> Program:
    """Indices of any value that name rows of a table, or the largest of some channels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    output = {"output_pixel_stride": 2, "output_row_stride": 2 * width + draw(st.sampled_from([0, 6]))}
    if draw(st.booleans()):
        element, channels = draw(ELEMENTS_TRIED), draw(st.sampled_from([1, 2, 7, 64]))
        pixel = (channels + draw(st.sampled_from([0, 3]))) * _size(element)
        memory = _Layout(height * width * pixel)
        out = memory.space(height * output["output_row_stride"])
        shape = {"out_h": height, "out_w": width, "out_c": 1, "channels": channels, "element": "i16"}
        source = {"input": 0, "input_row_stride": width * pixel, "input_pixel_stride": pixel, "input_element": element}
        body = instruction(ArgMaxOp, output=out, last=draw(st.booleans()), **shape, **source, **output)
        return memory.program([body], None)
    rows, run = draw(st.sampled_from([1, 3, 40])), draw(st.sampled_from([1, 5, 64]))
    step = run + draw(st.sampled_from([0, 3]))
    row = 2 * width + draw(st.sampled_from([0, 2]))
    memory = _Layout(height * row)
    memory.constant(rng.integers(-128, 128, (rows - 1) * step + run).astype(np.int8))
    gap = draw(st.sampled_from([0, 1]))
    out = memory.space(height * width * (run + gap))
    body = instruction(
        GatherOp,
        source=0,
        indices=0,
        destination=out,
        outer=height,
        inner=width,
        run=run,
        rows=rows,
        source_stride=step,
        indices_outer_stride=row,
        indices_inner_stride=2,
        destination_outer_stride=width * (run + gap),
        destination_inner_stride=run + gap,
    )
    return memory.program([body], None)


@st.composite
def movement_programs(draw: st.DrawFn) -> Program:
    element = draw(ELEMENTS_TRIED)
    size = _size(element)
    sizes = [draw(st.integers(1, 4)) for _ in range(4)]
    strides = [draw(st.integers(0, 9)) * size for _ in range(4)]
    memory = _Layout(400)
    fields = {f"size{axis}": size for axis, size in enumerate(sizes)}
    fields |= {f"input_stride{axis}": stride for axis, stride in enumerate(strides)}
    step = size
    for axis in reversed(range(4)):
        fields[f"output_stride{axis}"] = step
        step *= sizes[axis]
    out = draw(st.sampled_from([0, 3 * size, memory.space(step)]))
    runs = {"outer": 2, "inner": 3, "run": 4, "output_outer_stride": 20 * size, "output_inner_stride": 5 * size}
    place, value = draw(st.integers(0, 100)) * size, draw(st.integers(ELEMENTS[element].low, ELEMENTS[element].high))
    fill = instruction(FillOp, output=place, value=value, element=element, **runs)
    move = instruction(MoveOp, input=draw(st.integers(0, 60)) * size, output=out, element=element, **fields)
    return memory.program(draw(st.permutations([fill, move])), None)

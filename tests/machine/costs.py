"""The cost of vector instructions and transfers counted access by access, straight from the rules.

Nothing here uses the timing model. Rules: `backends/timing/vector.py`, `duration.py`, `record.py` and `matmul.py`.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from .counting import bank_of, count_matmul

NUMBER_BYTES = {"i8": 1, "i16": 2, "bf16": 2}
RECORD_BYTES = {"i8": 8, "i16": 12, "bf16": 8}
LOOKUP_ENTRIES = {"i8": 256, "i16": 513}
SOFTMAX_BYTES = {"i8": 256 * 4, "i16": 512 * 4, "bf16": 512 * 4}
PARTS = 64


@dataclass
class Cost:
    """What the engine needs to know of an instruction; reads and writes: bank group -> parts of its ports."""

    occupancy: int
    latency: int
    reads: dict[int, int] = field(default_factory=dict)
    writes: dict[int, int] = field(default_factory=dict)


def count_cost(op, target, addresses):
    """The cost of an instruction; `addresses` are those of its SRAM operands, offsets included."""
    if op.name == "tile.matmul":
        return _matmul(op, target, addresses)
    if op.name in ("tile.load", "tile.store"):
        side, kind = ("destination", "writes") if op.name == "tile.load" else ("source", "reads")
        lines = _box(op.outer, op.inner, op.run, strides=[*_fields(op, side, "outer_stride", "inner_stride"), 1])
        busy = Counter(_lines(lines, addresses[side], target))
        ports = target.sram.write_ports if kind == "writes" else target.sram.read_ports
        data = Fraction(op.outer * op.inner * op.run) / Fraction(target.dma.bytes_per_cycle)
        occupancy = max(1, math.ceil(data), *(math.ceil(Fraction(n, ports)) for n in busy.values()))
        return Cost(occupancy, target.dma.latency_cycles, **{kind: _held(busy, ports, occupancy)})
    if op.name == "tile.gather":
        return _gather(op, target, addresses)
    passes, reads, writes = _accesses(op)
    read = Counter(bank for name, runs in reads for bank in _lines(runs, addresses[name], target))
    written = Counter(bank for name, runs in writes for bank in _lines(runs, addresses[name], target))
    ports = (target.sram.read_ports, target.sram.write_ports)
    occupancy = max(
        1,
        math.ceil(Fraction(passes, target.vector.lanes)),
        *(math.ceil(Fraction(n, ports[0])) for n in read.values()),
        *(math.ceil(Fraction(n, ports[1])) for n in written.values()),
    )
    latency = target.vector.latency_cycles
    return Cost(occupancy, latency, _held(read, ports[0], occupancy), _held(written, ports[1], occupancy))


def _gather(op, target, addresses):
    """Every run starts a cycle of its own on the DRAM channel; indices are read and runs written line by line."""
    indices = _box(op.outer, op.inner, 2, strides=[op.indices_outer_stride, op.indices_inner_stride, 1])
    runs = _box(op.outer, op.inner, op.run, strides=[*_fields(op, "destination", "outer_stride", "inner_stride"), 1])
    read, written = (Counter(_lines(r, addresses[n], target)) for r, n in ((indices, "indices"), (runs, "destination")))
    sram = target.sram
    occupancy = max(
        1,
        op.outer * op.inner * math.ceil(Fraction(op.run) / Fraction(target.dma.bytes_per_cycle)),
        *(math.ceil(Fraction(n, sram.read_ports)) for n in read.values()),
        *(math.ceil(Fraction(n, sram.write_ports)) for n in written.values()),
    )
    held = _held(read, sram.read_ports, occupancy), _held(written, sram.write_ports, occupancy)
    return Cost(occupancy, target.dma.latency_cycles, *held)


def _matmul(op, target, addresses):
    count = count_matmul(op, target, addresses)
    ports, reads = target.sram.read_ports, _held(count.accesses, target.sram.read_ports, count.occupancy)
    each = math.ceil(Fraction(count.weight_lines, target.sram.interleave))
    part = max(1, min(PARTS, math.ceil(Fraction(PARTS * each, ports * count.occupancy))))
    for group in count.weight_groups:
        reads[group] = min(PARTS, reads.get(group, 0) + part)
    return Cost(count.occupancy, target.array.latency_cycles, reads)


def _held(busy, ports, occupancy):
    """Of every group the part of its ports that its busiest bank needs on average, rounded up, at most all."""
    worst = {}
    for (group, _), lines in busy.items():
        worst[group] = max(worst.get(group, 0), lines)
    return {g: max(1, min(PARTS, math.ceil(Fraction(PARTS * n, ports * occupancy)))) for g, n in worst.items() if n}


def _lines(runs, address, target):
    """The bank of every line that runs (start, length) of contiguous bytes meet, each line once a run."""
    size = target.sram.line_bytes
    for start, length in runs:
        for line in range((address + start) // size, (address + start + length - 1) // size + 1):
            yield bank_of(line, target)


def _box(*sizes, strides, passes=1):
    """Runs of the bytes at sum(index * stride): axes join from the innermost on while they leave no gap."""
    axes = [(n, s) for n, s in zip(sizes, strides, strict=True) if n != 1]
    length = 1
    while axes and axes[-1][1] == length:
        length *= axes.pop()[0]
    starts = [
        sum(i * s for i, (_, s) in zip(index, axes, strict=True))
        for index in itertools.product(*(range(n) for n, _ in axes))
    ]
    return [(start, length) for _ in range(passes) for start in starts]


def _window(op, number):
    """Runs of a sliding window, tap by tap, row by row: pixels that touch join, padding is not read.

    Where a row is one pixel, rows that touch join.
    """
    channels = op.channels * number
    runs = []
    if (op.out_w, op.kernel_w, op.pad_left) == (1, 1, 0) and op.out_h > 1:
        for i in range(op.kernel_h):
            rows = [row * op.stride_h + i * op.dilation_h - op.pad_top for row in range(op.out_h)]
            starts = [y * op.input_row_stride for y in rows if 0 <= y < op.in_h]
            joined = op.stride_h * op.input_row_stride == channels and starts
            runs += [(starts[0], channels * len(starts))] if joined else [(start, channels) for start in starts]
        return runs
    for i, j, row in itertools.product(range(op.kernel_h), range(op.kernel_w), range(op.out_h)):
        y = row * op.stride_h + i * op.dilation_h - op.pad_top
        if not 0 <= y < op.in_h:
            continue
        pixels = [column * op.stride_w + j * op.dilation_w - op.pad_left for column in range(op.out_w)]
        starts = [y * op.input_row_stride + x * op.input_pixel_stride for x in pixels if 0 <= x < op.in_w]
        if op.stride_w * op.input_pixel_stride == channels and starts:
            runs.append((starts[0], channels * len(starts)))
        else:
            runs += [(start, channels) for start in starts]
    return runs


def _fields(op, operand, *names):
    return [getattr(op, f"{operand}_{name}") for name in names]


def _number(op, operand):
    return NUMBER_BYTES[getattr(op, f"{operand}_element", op.element)]


def _accesses(op):
    """(byte passes, runs read by operand, runs written by operand) of a vector instruction."""
    kind = op.name.removeprefix("tile.")
    operands = [n for n in ("input", "lhs", "rhs", "accumulator", "output") if n in _data_operands(kind)]
    widest = max(_number(op, operand) for operand in operands)
    passes, reads, writes = _WORK[kind](op)
    return passes * widest, reads, writes


def _data_operands(kind):
    if kind == "binary":
        return ("lhs", "rhs", "output")
    if kind in ("requantize", "requantize_add"):
        return ("accumulator", "output")
    return ("output",) if kind == "fill" else ("input", "output")


def _image(op, operand, sizes, strides, passes=1):
    number = _number(op, operand)
    return operand, _box(*sizes, number, strides=[*strides, 1], passes=passes)


def _result(op, *, channels=None):
    sizes = (op.out_h, op.out_w, op.out_c if channels is None else channels)
    return _image(op, "output", sizes, [*_fields(op, "output", "row_stride", "pixel_stride"), _number(op, "output")])


def _elements(op):
    return op.out_h * op.out_w * op.out_c


def _requantize(op):
    record = RECORD_BYTES[getattr(op, "accumulator_element", op.element)]
    strides = [*_fields(op, "output", "group_stride", "row_stride", "pixel_stride"), _number(op, "output")]
    written = _image(op, "output", (op.groups, op.out_h, op.out_w, op.out_c), strides)
    return op.groups * _elements(op), [("parameters", [(0, record * op.groups * op.out_c)])], [written]


def _requantize_add(op):
    passes, reads, writes = _requantize(op)
    strides = [*_fields(op, "residual", "row_stride", "pixel_stride"), _number(op, "residual")]
    return passes, [*reads, _image(op, "residual", (op.out_h, op.out_w, op.out_c), strides)], writes


def _binary(op):
    sizes = (op.out_h, op.out_w, op.out_c)
    sides = [
        _image(op, side, sizes, _fields(op, side, "row_stride", "pixel_stride", "channel_stride"))
        for side in ("lhs", "rhs")
    ]
    return _elements(op), sides, [_result(op)]


def _unary(op, passes, extra):
    sizes = (op.out_h, op.out_w, op.out_c)
    strides = [*_fields(op, "input", "row_stride", "pixel_stride"), _number(op, "input")]
    read = _image(op, "input", sizes, strides, passes)
    return _elements(op) * passes, [read, *((name, [(0, n)]) for name, n in extra.items())], [_result(op)]


def _lookup(op):
    element = getattr(op, "input_element", op.element)
    entries = 1024 + 128 * op.pages if element == "bf16" else LOOKUP_ENTRIES[element]
    return _unary(op, 1, {"table": entries * _number(op, "table")})


def _rescale(op):
    return _unary(op, 1, {"parameters": 8 * (op.out_c if op.per_channel else 1)})


def _softmax(op):
    return _unary(op, 3, {"table": SOFTMAX_BYTES[getattr(op, "input_element", op.element)]})


def _masked_softmax(op):
    passes, reads, writes = _softmax(op)
    mask = _box(op.out_h, op.out_w, op.out_c, strides=[*_fields(op, "mask", "row_stride", "pixel_stride"), 1])
    return passes, [*reads, ("mask", mask)], writes


def _arg_max(op):
    sizes = (op.out_h, op.out_w, op.channels)
    strides = [*_fields(op, "input", "row_stride", "pixel_stride"), _number(op, "input")]
    return op.out_h * op.out_w * op.channels, [_image(op, "input", sizes, strides)], [_result(op)]


def _lrn(op):
    return _unary(op, op.size + 3, {"table": op.entries * 4})


def _layer_norm(op):
    passes, reads, writes = _unary(op, 3, {"table": (2 + 2 * op.out_c) * 4})
    return passes + 106 * op.out_h * op.out_w, reads, writes


def _pool(op, **extra):
    passes = op.out_h * op.out_w * op.channels * op.kernel_h * op.kernel_w
    reads = [("input", _window(op, _number(op, "input"))), *((name, [(0, n)]) for name, n in extra.items())]
    return passes, reads, [_result(op, channels=op.channels)]


def _average_pool(op):
    return _pool(op, multipliers=4 * (op.kernel_h * op.kernel_w + 1))


def _depthwise(op):
    weights = op.kernel_h * op.kernel_w * op.channels * _number(op, "weights")
    record = RECORD_BYTES[getattr(op, "input_element", op.element)]
    return _pool(op, weights=weights, parameters=record * op.channels)


def _move(op):
    sizes = (op.size0, op.size1, op.size2, op.size3)
    read, written = (
        _image(op, operand, sizes, _fields(op, operand, *(f"stride{axis}" for axis in range(4))))
        for operand in ("input", "output")
    )
    return 0, [read], [written]


def _fill(op):
    strides = [*_fields(op, "output", "outer_stride", "inner_stride"), _number(op, "output")]
    return 0, [], [_image(op, "output", (op.outer, op.inner, op.run), strides)]


_WORK = {
    "requantize": _requantize,
    "requantize_add": _requantize_add,
    "binary": _binary,
    "lookup": _lookup,
    "rescale": _rescale,
    "softmax": _softmax,
    "masked_softmax": _masked_softmax,
    "arg_max": _arg_max,
    "lrn": _lrn,
    "layer_norm": _layer_norm,
    "max_pool": _pool,
    "average_pool": _average_pool,
    "depthwise": _depthwise,
    "move": _move,
    "fill": _fill,
}

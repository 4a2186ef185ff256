"""Cycles of the vector unit's instructions.

    occupancy = max(ceil(byte passes / lanes), reads, writes, 1)
    reads, writes = max over banks of ceil(lines touched / ports)

A run of contiguous bytes touches each of its lines once; bytes at a stride cost one line each. Every pass over the data
reads it again. Accumulators are a memory of their own with a row a cycle for each lane and cost no lines.

Byte passes are elements times passes times the bytes of the widest number. Passes over the elements: requantize,
binary, lookup, rescale 1; pooling and depthwise one for every tap; softmax, masked or not, 3 (maximum, sum, division);
lrn its `size` + 3 (squares, window sum a tap at a time, power, product); layer_norm 3 (sums, normalised row, gain and
offset) and for every pixel 106 more: root and quotient come from digit-recurrence units, one a lane, in 53 steps each.
Moves and fills have no arithmetic: lines only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...dialects.core.types import Array
from ...dialects.quant.tables import softmax_entries
from ...dialects.tile.elements import ELEMENTS, Element
from ...dialects.tile.vector import table_entries
from .banks import BankMap, lines_of_runs

WORD_BYTES = 4
"""Bytes of a packed multiplier and of an entry of the softmax and LRN tables."""

ROOT_STEPS = 106
"""Steps of a float64 root and a quotient of 53 bits each, one bit a step."""


class Box(NamedTuple):
    """Bytes at sum(index * stride) over `sizes`, outermost axis first, met `passes` times in this order."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    passes: int = 1

    @property
    def span(self) -> int:
        """Bytes from the first to the last."""
        return sum((size - 1) * stride for size, stride in zip(self.sizes, self.strides, strict=True)) + 1

    def runs(self) -> tuple[Array, Array]:
        """Start (relative to the address) and length of every run of contiguous bytes."""
        axes = [axis for axis in zip(self.sizes, self.strides, strict=True) if axis[0] > 1]
        length = 1
        while axes and axes[-1][1] == length:
            length *= axes.pop()[0]
        starts = np.zeros(1, np.int64)
        for size, stride in axes:
            starts = (starts[:, None] + np.arange(size) * stride).ravel()
        return np.tile(starts, self.passes), np.full(len(starts) * self.passes, length)


class Window(NamedTuple):
    """The pixels of a sliding window, read tap by tap; fields as in `WindowOp`, `channels` in bytes.

    Padding reads nothing.
    """

    in_h: int
    in_w: int
    out_h: int
    out_w: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    row_stride: int
    pixel_stride: int
    channels: int

    @property
    def span(self) -> int:
        """Bytes from the first to the last of the input."""
        return (self.in_h - 1) * self.row_stride + (self.in_w - 1) * self.pixel_stride + self.channels

    def runs(self) -> tuple[Array, Array]:
        """Start and length of every run of contiguous bytes; neighbouring pixels of a tap join, rows do not.

        Rows of one pixel are pixels.
        """
        if self.out_w == self.kernel_w == 1 != self.out_h and self.pad_left == 0:
            return self._turned().runs()
        taps_y, taps_x = np.arange(self.kernel_h)[:, None], np.arange(self.kernel_w)[:, None]
        y = (np.arange(self.out_h) * self.stride_h + taps_y * self.dilation_h - self.pad_top).ravel()
        x = np.arange(self.out_w) * self.stride_w + taps_x * self.dilation_w - self.pad_left
        y, inside = y[(y >= 0) & (y < self.in_h)], (x >= 0) & (x < self.in_w)
        if self.stride_w * self.pixel_stride == self.channels:
            counts = inside.sum(axis=1)
            first, lengths = x[np.arange(self.kernel_w), inside.argmax(axis=1)], counts * self.channels
            first, lengths = first[counts > 0], lengths[counts > 0]
        else:
            first = x[inside]
            lengths = np.full(len(first), self.channels)
        starts = y[:, None] * self.row_stride + first * self.pixel_stride
        return starts.ravel(), np.tile(lengths, len(y))

    def _turned(self) -> Window:
        """Rows for pixels and pixels for rows."""
        return Window(
            self.in_w,
            self.in_h,
            self.out_w,
            self.out_h,
            self.kernel_w,
            self.kernel_h,
            self.stride_w,
            self.stride_h,
            self.dilation_w,
            self.dilation_h,
            self.pad_left,
            self.pad_top,
            self.pixel_stride,
            self.row_stride,
            self.channels,
        )


Pattern = Box | Window


class Work(NamedTuple):
    """What an instruction does: results times passes times bytes, and the patterns it reads and writes by operand."""

    element_passes: int
    reads: tuple[tuple[str, Pattern], ...]
    writes: tuple[tuple[str, Pattern], ...]


class VectorCost(NamedTuple):
    """Cycles, cycles more than an even spread over the banks would take, and SRAM lines.

    `busiest_reads` and `busiest_writes` are the lines of the busiest bank of every group from the first one on.
    """

    occupancy: int
    bank_stall_cycles: int
    read_lines: int
    write_lines: int
    busiest_reads: tuple[int, ...]
    busiest_writes: tuple[int, ...]


Placed = tuple[tuple[Pattern, int, int], ...]
"""Patterns with their canonical address and the first bank group they lie in."""


@lru_cache(maxsize=2**14)
def vector_cost(elements: int, reads: Placed, writes: Placed, lanes: int, banks: BankMap) -> VectorCost:
    """The cost of an instruction with `elements` element passes; groups only tell apart what can conflict."""
    arithmetic = -(-elements // lanes)
    busiest_reads, read_even, read_lines = line_load(reads, banks, banks.read_ports)
    busiest_writes, write_even, write_lines = line_load(writes, banks, banks.write_ports)
    read_cycles = -(-max(busiest_reads, default=0) // banks.read_ports)
    write_cycles = -(-max(busiest_writes, default=0) // banks.write_ports)
    occupancy = max(1, arithmetic, read_cycles, write_cycles)
    stall = occupancy - max(1, arithmetic, read_even, write_even)
    return VectorCost(occupancy, stall, read_lines, write_lines, busiest_reads, busiest_writes)


@lru_cache(maxsize=2**14)
def line_load(patterns: Placed, banks: BankMap, ports: int) -> tuple[tuple[int, ...], int, int]:
    """Lines of the busiest bank of every group, cycles if those of a group were spread evenly, number of lines."""
    if not patterns:
        return (), 0, 0
    group_lines = banks.group_bytes // banks.line_bytes
    found: list[Array] = []
    for pattern, address, group in patterns:
        starts, lengths = pattern.runs()
        lines = lines_of_runs(starts + address, lengths, banks.line_bytes)
        found.append(lines + (group - address // banks.group_bytes) * group_lines)
    lines = np.concatenate(found)
    by_group = np.bincount(lines // group_lines)
    even = -(-int(by_group.max(initial=0)) // (ports * banks.interleave))
    return banks.busiest(lines), even, len(lines)


def work_of(op: Any) -> Work:
    """What a vector instruction does; KeyError for the name of an instruction that the vector unit does not have."""
    work = _WORK[op.name](op)
    return work._replace(element_passes=work.element_passes * max(_size(op, name) for name in _DATA))


_DATA = ("input", "lhs", "rhs", "accumulator", "output")
"""The operands that hold numbers of the network; others hold parameters."""


def _element(op: Any, operand: str) -> Element:
    return ELEMENTS[getattr(op, f"{operand}_element", op.element)]


def _size(op: Any, operand: str) -> int:
    return _element(op, operand).size


def _box(op: Any, operand: str, sizes: tuple[int, ...], strides: tuple[int, ...], passes: int = 1) -> Box:
    """The numbers of an operand at strides in bytes."""
    size = _size(op, operand)
    return Box(sizes, strides, passes) if size == 1 else Box((*sizes, size), (*strides, 1), passes)


def _run(size: int) -> Box:
    return Box((size,), (1,))


def _output(op: Any) -> Box:
    strides = (op.output_row_stride, op.output_pixel_stride, _size(op, "output"))
    return _box(op, "output", (op.out_h, op.out_w, op.out_c), strides)


def _requantize(op: Any) -> Work:
    elements = op.groups * op.out_h * op.out_w * op.out_c
    strides = (op.output_group_stride, op.output_row_stride, op.output_pixel_stride, _size(op, "output"))
    output = _box(op, "output", (op.groups, op.out_h, op.out_w, op.out_c), strides)
    records = _run(_element(op, "accumulator").record_bytes * op.groups * op.out_c)
    return Work(elements, (("parameters", records),), (("output", output),))


def _requantize_add(op: Any) -> Work:
    work, sizes = _requantize(op), (op.out_h, op.out_w, op.out_c)
    strides = (op.residual_row_stride, op.residual_pixel_stride, _size(op, "residual"))
    return work._replace(reads=(*work.reads, ("residual", _box(op, "residual", sizes, strides))))


def _binary(op: Any) -> Work:
    sizes = (op.out_h, op.out_w, op.out_c)
    lhs = _box(op, "lhs", sizes, (op.lhs_row_stride, op.lhs_pixel_stride, op.lhs_channel_stride))
    rhs = _box(op, "rhs", sizes, (op.rhs_row_stride, op.rhs_pixel_stride, op.rhs_channel_stride))
    return Work(op.out_h * op.out_w * op.out_c, (("lhs", lhs), ("rhs", rhs)), (("output", _output(op)),))


def _unary(op: Any, passes: int = 1) -> Work:
    sizes = (op.out_h, op.out_w, op.out_c)
    read = _box(op, "input", sizes, (op.input_row_stride, op.input_pixel_stride, _size(op, "input")), passes)
    return Work(op.out_h * op.out_w * op.out_c * passes, (("input", read),), (("output", _output(op)),))


def _with_reads(work: Work, **sizes: int) -> Work:
    return work._replace(reads=(*work.reads, *((name, _run(size)) for name, size in sizes.items())))


def _lookup(op: Any) -> Work:
    return _with_reads(_unary(op), table=table_entries(_element(op, "input").type, op.pages) * _size(op, "table"))


def _rescale(op: Any) -> Work:
    return _with_reads(_unary(op), parameters=2 * WORD_BYTES * (op.out_c if op.per_channel else 1))


def _softmax(op: Any) -> Work:
    return _with_reads(_unary(op, passes=3), table=softmax_entries(_element(op, "input").type) * WORD_BYTES)


def _masked_softmax(op: Any) -> Work:
    mask = Box((op.out_h, op.out_w, op.out_c), (op.mask_row_stride, op.mask_pixel_stride, 1))
    work = _softmax(op)
    return work._replace(reads=(*work.reads, ("mask", mask)))


def _arg_max(op: Any) -> Work:
    sizes = (op.out_h, op.out_w, op.channels)
    read = _box(op, "input", sizes, (op.input_row_stride, op.input_pixel_stride, _size(op, "input")))
    return Work(op.out_h * op.out_w * op.channels, (("input", read),), (("output", _output(op)),))


def _lrn(op: Any) -> Work:
    return _with_reads(_unary(op, passes=op.size + 3), table=op.entries * WORD_BYTES)


def _layer_norm(op: Any) -> Work:
    work = _with_reads(_unary(op, passes=3), table=(2 + 2 * op.out_c) * WORD_BYTES)
    return work._replace(element_passes=work.element_passes + ROOT_STEPS * op.out_h * op.out_w)


def _pool(op: Any) -> Work:
    taps = op.kernel_h * op.kernel_w
    window = Window(
        op.in_h,
        op.in_w,
        op.out_h,
        op.out_w,
        op.kernel_h,
        op.kernel_w,
        op.stride_h,
        op.stride_w,
        op.dilation_h,
        op.dilation_w,
        op.pad_top,
        op.pad_left,
        op.input_row_stride,
        op.input_pixel_stride,
        op.channels * _size(op, "input"),
    )
    strides = (op.output_row_stride, op.output_pixel_stride, _size(op, "output"))
    output = _box(op, "output", (op.out_h, op.out_w, op.channels), strides)
    return Work(op.out_h * op.out_w * op.channels * taps, (("input", window),), (("output", output),))


def _average_pool(op: Any) -> Work:
    return _with_reads(_pool(op), multipliers=WORD_BYTES * (op.kernel_h * op.kernel_w + 1))


def _depthwise(op: Any) -> Work:
    weights = op.kernel_h * op.kernel_w * op.channels * _size(op, "weights")
    return _with_reads(_pool(op), weights=weights, parameters=_element(op, "input").record_bytes * op.channels)


def _move(op: Any) -> Work:
    sizes = (op.size0, op.size1, op.size2, op.size3)
    read = _box(op, "input", sizes, (op.input_stride0, op.input_stride1, op.input_stride2, op.input_stride3))
    written = _box(op, "output", sizes, (op.output_stride0, op.output_stride1, op.output_stride2, op.output_stride3))
    return Work(0, (("input", read),), (("output", written),))


def _fill(op: Any) -> Work:
    strides = (op.output_outer_stride, op.output_inner_stride, _size(op, "output"))
    written = _box(op, "output", (op.outer, op.inner, op.run), strides)
    return Work(0, (), (("output", written),))


_WORK: dict[str, Callable[[Any], Work]] = {
    "tile.requantize": _requantize,
    "tile.requantize_add": _requantize_add,
    "tile.binary": _binary,
    "tile.lookup": _lookup,
    "tile.rescale": _rescale,
    "tile.softmax": _softmax,
    "tile.masked_softmax": _masked_softmax,
    "tile.arg_max": _arg_max,
    "tile.lrn": _lrn,
    "tile.layer_norm": _layer_norm,
    "tile.max_pool": _pool,
    "tile.average_pool": _average_pool,
    "tile.depthwise": _depthwise,
    "tile.move": _move,
    "tile.fill": _fill,
}

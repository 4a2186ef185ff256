"""What an instruction touches: for every operand the span of bytes (rows in accumulators) it reads or writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch

from .array import MatmulOp
from .instruction import InstructionOp
from .memory import TransferOp
from .movement import FillOp, MoveOp
from .pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp, VectorWindowOp
from .vector import BinaryOp, LookupOp, RequantizeOp, RescaleOp, UnaryVectorOp, VectorOp
from .window import WindowOp


@dataclass(frozen=True, slots=True)
class Access:
    """Units low <= u < high of the buffer `operand`, counted from its start; a strided access is its hull."""

    operand: str
    write: bool
    low: int
    high: int


@singledispatch
def accesses(op: InstructionOp) -> tuple[Access, ...]:
    """The accesses of one instruction, one an operand (two for an accumulator that is read and written)."""
    raise TypeError(f"no footprint for {op.name}")


def hull(offset: int, dimensions: Iterable[tuple[int, int]], extent: int = 1) -> tuple[int, int]:
    """The span of offset + sum(index * stride) + [0, extent) over (count, stride) dimensions."""
    reach = [(count - 1) * stride for count, stride in dimensions]
    return offset + sum(min(r, 0) for r in reach), offset + sum(max(r, 0) for r in reach) + extent


def _reads(operand: str, offset: int, dimensions: Iterable[tuple[int, int]], extent: int = 1) -> Access:
    return Access(operand, False, *hull(offset, dimensions, extent))


def _writes(operand: str, offset: int, dimensions: Iterable[tuple[int, int]], extent: int = 1) -> Access:
    return Access(operand, True, *hull(offset, dimensions, extent))


def _window_input(op: WindowOp, extent: int) -> Access:
    """The pixels that windows cover; an input that only padding covers still spans one pixel."""
    rows = (op.out_h - 1) * op.stride_h + (op.kernel_h - 1) * op.dilation_h + 1 - op.pad_top
    columns = (op.out_w - 1) * op.stride_w + (op.kernel_w - 1) * op.dilation_w + 1 - op.pad_left
    rows, columns = max(1, min(op.in_h, rows)), max(1, min(op.in_w, columns))
    dimensions = ((rows, op.input_row_stride), (columns, op.input_pixel_stride))
    return _reads("input", op.input_offset, dimensions, extent)


@accesses.register
def _(op: TransferOp) -> tuple[Access, ...]:
    source = ((op.outer, op.source_outer_stride), (op.inner, op.source_inner_stride))
    destination = ((op.outer, op.destination_outer_stride), (op.inner, op.destination_inner_stride))
    return (
        _reads("source", op.source_offset, source, op.run),
        _writes("destination", op.destination_offset, destination, op.run),
    )


@accesses.register
def _(op: MatmulOp) -> tuple[Access, ...]:
    first, rows = op.accumulator_offset, op.accumulator_rows
    result = (
        _window_input(op, (op.groups - 1) * op.input_group_stride + op.in_c),
        _reads("weights", op.weights_offset, (), op.weight_bytes),
        _writes("accumulator", first, (), rows),
    )
    return (*result, _reads("accumulator", first, (), rows)) if op.accumulate else result


def _vector_output(op: VectorOp, dimensions: tuple[tuple[int, int], ...] = ()) -> Access:
    pixels = ((op.out_h, op.output_row_stride), (op.out_w, op.output_pixel_stride))
    return _writes("output", op.output_offset, (*dimensions, *pixels), op.out_c)


@accesses.register
def _(op: RequantizeOp) -> tuple[Access, ...]:
    return (
        _reads("accumulator", op.accumulator_offset, (), op.accumulator_rows),
        _reads("parameters", op.parameters_offset, (), 8 * op.groups * op.out_c),
        _vector_output(op, ((op.groups, op.output_group_stride),)),
    )


@accesses.register
def _(op: BinaryOp) -> tuple[Access, ...]:
    left = ((op.out_h, op.lhs_row_stride), (op.out_w, op.lhs_pixel_stride), (op.out_c, op.lhs_channel_stride))
    right = ((op.out_h, op.rhs_row_stride), (op.out_w, op.rhs_pixel_stride), (op.out_c, op.rhs_channel_stride))
    return _reads("lhs", op.lhs_offset, left), _reads("rhs", op.rhs_offset, right), _vector_output(op)


def _unary(op: UnaryVectorOp) -> tuple[Access, Access]:
    pixels = ((op.out_h, op.input_row_stride), (op.out_w, op.input_pixel_stride))
    return _reads("input", op.input_offset, pixels, op.out_c), _vector_output(op)


@accesses.register
def _(op: LookupOp) -> tuple[Access, ...]:
    return (*_unary(op), _reads("table", op.table_offset, (), 256))


@accesses.register
def _(op: RescaleOp) -> tuple[Access, ...]:
    return (*_unary(op), _reads("parameters", op.parameters_offset, (), 8 * (op.out_c if op.per_channel else 1)))


@accesses.register
def _(op: MoveOp) -> tuple[Access, ...]:
    return (
        _reads("input", op.input_offset, zip(op.sizes, op.input_strides, strict=True)),
        _writes("output", op.output_offset, zip(op.sizes, op.output_strides, strict=True)),
    )


@accesses.register
def _(op: FillOp) -> tuple[Access, ...]:
    runs = ((op.outer, op.output_outer_stride), (op.inner, op.output_inner_stride))
    return (_writes("output", op.output_offset, runs, op.run),)


def _pooled(op: VectorWindowOp) -> tuple[Access, Access]:
    pixels = ((op.out_h, op.output_row_stride), (op.out_w, op.output_pixel_stride))
    return _window_input(op, op.channels), _writes("output", op.output_offset, pixels, op.channels)


@accesses.register
def _(op: MaxPoolOp) -> tuple[Access, ...]:
    return _pooled(op)


@accesses.register
def _(op: AveragePoolOp) -> tuple[Access, ...]:
    return (*_pooled(op), _reads("multipliers", op.multipliers_offset, (), 4 * (op.kernel_h * op.kernel_w + 1)))


@accesses.register
def _(op: DepthwiseOp) -> tuple[Access, ...]:
    return (
        *_pooled(op),
        _reads("weights", op.weights_offset, (), op.kernel_h * op.kernel_w * op.channels),
        _reads("parameters", op.parameters_offset, (), 8 * op.channels),
    )

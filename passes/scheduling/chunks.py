"""Sizes: how many rows, column tiles, groups and channels one matmul takes, and what that needs in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...backends.target import Target
from ...dialects.core.operation import Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.instruction import InstructionOp, Region
from ..lowering.mapping import Geometry, strip_shape
from .layers import Program, Unit
from .strips import cut_rows


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a product is cut: output rows, column tiles, groups, and channels of the reduction of one instruction.

    With `taps_apart` an instruction has a single tap: sums of floats take all channels of one before the next.
    """

    rows: int
    tiles: int
    groups: int
    depth: int
    taps_apart: bool = False

    def weight_bytes(self, op: MatmulOp) -> int:
        """The largest chunk of weights that are loaded."""
        return self._column_bytes(op, self.depth) // (op.taps if self.taps_apart else 1)

    def column_bytes(self, op: MatmulOp) -> int:
        """The weights of one chunk of columns over the whole reduction."""
        return self._column_bytes(op, op.in_c)

    def is_whole(self, op: InstructionOp) -> bool:
        """True if the weights of the product are one chunk."""
        assert isinstance(op, MatmulOp)
        whole = self.depth >= op.in_c and not self.taps_apart
        return self.tiles >= op.column_tiles and self.groups >= op.groups and whole

    def _column_bytes(self, op: MatmulOp, depth: int) -> int:
        if op.weights_stride:
            return 0  # a tensor
        columns = min(self.tiles * op.tile_columns, op.out_c)
        return self.groups * op.taps * columns * (1 if op.diagonal else depth) * op.size_of("weights")


def chunking(op: MatmulOp, target: Target, largest_rows: int, limit: int) -> Chunking:
    """Chunks that fit the accumulators twice, with weights of at most `limit` bytes where that is possible.

    Wide products lose column tiles first, then the reduction is cut at whole lanes, which ends window folding.
    """
    geometry = _geometry(op)
    rows, tiles, groups = strip_shape(target, geometry, op.split_n, largest_rows)
    depth, apart = op.in_c, False
    if op.weights_stride:
        return Chunking(rows, tiles, groups, depth)
    per_tile = op.depth * op.tile_columns * op.size_of("weights")
    if groups * tiles * per_tile > limit:
        groups = max(1, min(groups, limit // (tiles * per_tile)))
    if tiles * per_tile > limit:
        affordable = limit // per_tile // op.split_n * op.split_n
        tiles = min(tiles, max(affordable, op.split_n))
        groups = 1
    if tiles * per_tile > limit and not op.diagonal:
        lanes, apart = target.array.lanes * op.split_k, op.taps > 1 and op.element_of("input").is_float
        column = (1 if apart else op.taps) * op.tile_columns * lanes * op.size_of("weights")
        tiles = max(1, min(tiles, limit // column))
        depth = min(op.in_c, max(1, limit // (tiles * column)) * lanes)
    if tiles < op.column_tiles:
        groups = 1
    return Chunking(rows, tiles, groups, depth, apart)


def rows_touched(regions: Sequence[Region], row_stride: int) -> tuple[int, int]:
    """The buffer rows [first, last) that regions of one buffer touch; the row they point at if they touch none."""
    low = min(region.offset for region in regions)
    high = max(max(region.end, region.offset + 1) for region in regions)
    return low // row_stride, -(-high // row_stride)


def all_rows_touched(program: Program, op: InstructionOp) -> dict[Value[Any], tuple[int, int]]:
    """The rows [first, last) of every tensor that an instruction touches, as of `rows_touched`."""
    spans: dict[Value[Any], tuple[int, int]] = {}
    regions = op.regions()
    for field, value in zip(op.operand_fields, op.operands, strict=False):
        if value in program.tensors:
            own = [(r.offset, max(r.end, r.offset + 1)) for r in regions if r.operand == field.name]
            low, high = spans.get(value, own[0])
            spans[value] = min([low, *(a for a, _ in own)]), max([high, *(b for _, b in own)])
    strides = {value: program.row_stride(value) for value in spans}
    return {value: (low // strides[value], -(-high // strides[value])) for value, (low, high) in spans.items()}


def strip_bytes(program: Program, unit: Unit, rows: int) -> dict[Value[Any], int]:
    """The most bytes of whole rows of each tensor that any strip of `rows` output rows of a unit touches."""
    key = (unit, rows)
    if key not in program.strips:
        program.strips[key] = worst = dict.fromkeys(unit.tensors, 0)
        middle = max(0, min((unit.rows - rows) // 2, unit.rows - rows))
        for start in {0, middle, unit.rows - rows}:
            for op in unit.operations:
                cut = cut_rows(op, start, rows)
                for value, (first, last) in all_rows_touched(program, cut).items():
                    worst[value] = max(worst[value], (last - first) * program.row_stride(value))
    return program.strips[key]


def held_layout(op: MatmulOp, target: Target) -> tuple[int, int]:
    """The rows of a matrix that is weights, and bytes from one to the next in a buffer of its own: whole lines."""
    rows, run = op.stored_rows
    line = target.sram.line_bytes
    return rows, -(-run * op.size_of("weights") // line) * line


def _geometry(op: MatmulOp) -> Geometry:
    return Geometry(**{name: getattr(op, name) for name in Geometry.__slots__})

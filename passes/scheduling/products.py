"""Products in strips of rows and chunks of weights: in which order, with which weights in SRAM."""

from __future__ import annotations

import itertools
from typing import Any

from ...dialects.core.operation import Operation, Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import LoadOp
from ...dialects.tile.vector import RequantizeOp
from ..lowering.emission import Share, contiguous
from .buffers import Buffers, Step, load_like
from .chunks import Chunking
from .cuts import Cut
from .layers import Unit
from .spilling import Strips
from .strips import cut_depth, cut_groups, cut_rows, cut_tap, cut_tiles, with_attributes

Chunk = tuple[int, int, int, int]
"""First group, groups, first column tile, tiles."""


class ProductSteps:
    """The steps of one product: one for every chunk of every strip of rows."""

    def __init__(self, buffers: Buffers, unit: Unit, cut: Cut) -> None:
        assert isinstance(unit.main, MatmulOp) and cut.chunks is not None
        self.buffers, self.unit, self.op, self.source = buffers, unit, unit.main, unit.weights
        self.held, self.is_held = buffers.hold(unit), False
        self.cut, self.chunks = cut, cut.chunks
        self.account = Share(unit.main.useful_macs, unit.main.rows * unit.main.weight_bytes)
        self.cached: dict[tuple[int, ...], Value[Any]] = {}

    def steps(self) -> list[Step]:
        """All steps in order: strips within chunks if the chunks are outside, else chunks within strips."""
        unit, size = self.unit, self.cut.rows
        strips = [
            [cut_rows(op, start, min(size, unit.rows - start)) for op in unit.operations]
            for start in range(0, unit.rows, size)
        ]
        chunks = _chunks(self.op, self.chunks)
        constants = self.buffers.constants(unit)
        if self.cut.chunks_outside:
            steps = [step for chunk in chunks for strip in strips for step in self._strip(strip, [chunk])]
        else:
            steps = [step for strip in strips for step in self._strip(strip, chunks)]
        steps[0].loads[:0] = constants
        return steps

    def strip(self, operations: list[InstructionOp]) -> list[Step]:
        """The steps of one strip, where the weights stay."""
        constants = self.buffers.constants(self.unit)
        steps = self._strip(operations, _chunks(self.op, self.chunks))
        steps[0].loads[:0] = constants
        return steps

    def _strip(self, strip: list[InstructionOp], chunks: list[Chunk]) -> list[Step]:
        """One strip through some chunks: what it reads comes before the first, what it writes goes after the last."""
        loads: list[Operation] = []
        if self.held is not None:
            stride = self.held.destination_outer_stride
            product = with_attributes(strip[0], weights_offset=0, weights_stride=stride)
            product.set_operand(1, self.held.destination)
            strip = [product, *strip[1:]]
            if not self.is_held:
                self.is_held = True
                loads.append(self.held)
        pieces = [_cut_chunk(strip, chunk) for chunk in chunks]
        (matmul, requantize), *_ = pieces
        touching = [matmul, *requantize] if self.cut.chunks_outside else strip
        buffers = self.buffers.strips(self.unit, touching)
        steps = [self._step(*piece, chunk, buffers) for piece, chunk in zip(pieces, chunks, strict=True)]
        steps[0].loads += [*loads, *buffers.loads]
        steps[-1].stores += buffers.stores
        return steps

    def _step(self, matmul: MatmulOp, requantize: list[RequantizeOp], chunk: Chunk, strips: Strips) -> Step:
        rows, columns = matmul.accumulator_rows, matmul.tile_columns
        step = Step(rows=rows)
        accumulator = self.buffers.allocate(self.unit, "acc", rows, "acc", columns=columns)
        keep = self.cut.weights_stay or self.cut.chunks_outside
        for tap, first in itertools.product(range(self.taps), range(0, self.op.in_c, self.chunks.depth)):
            depth = min(self.chunks.depth, self.op.in_c - first)
            key = (*chunk[:3], tap, first)
            if self.source is None:
                self.cached[key] = matmul.weights
            elif key not in self.cached or not keep:
                self.cached[key], loads = self._load_weights(self.source, chunk, tap, first, depth)
                step.array += loads
            part = cut_tap(matmul, *divmod(tap, matmul.kernel_w)) if self.chunks.taps_apart else matmul
            part = part if depth == self.op.in_c else cut_depth(part, first, depth)
            part = with_attributes(part, useful_macs=self.account.next(part.rows * part.weight_bytes))
            part.set_operands([part.input, self.cached[key], accumulator])
            step.array += self.buffers.bound([part], strips)
        for op in requantize:
            op.set_operand(0, accumulator)
        step.vector += self.buffers.bound(list(requantize), strips)
        return step

    @property
    def taps(self) -> int:
        """How many times one chunk of channels comes: once, or for every tap."""
        return self.op.taps if self.chunks.taps_apart else 1

    def _load_weights(
        self, source: LoadOp, chunk: Chunk, tap: int, first: int, depth: int
    ) -> tuple[Value[Any], list[Operation]]:
        """Load the weights of a chunk, channels [first, first + depth) of one tap or all: one or two transfers."""
        op = self.op
        group, groups, tile, tiles = chunk
        size = op.size_of("weights")
        full_depth = op.depth * size
        columns = min((tile + tiles) * op.tile_columns, op.out_c) - tile * op.tile_columns
        base = source.source_offset + group * full_depth * op.out_c + tile * op.tile_columns * full_depth
        if (depth == op.in_c and self.taps == 1) or op.diagonal:
            total = groups * full_depth * columns
            buffer = self.buffers.allocate(self.unit, "sram", total, "weights")
            load = load_like(source, buffer, **contiguous(total), source_offset=base)
            return buffer, [load]
        taps, skipped = op.taps // self.taps, tap * op.in_c + first
        buffer = self.buffers.allocate(self.unit, "sram", taps * depth * columns * size, "weights")
        loads: list[Operation] = []
        full, rest = divmod(columns, op.tile_columns)
        for count, width, skip in ((full, op.tile_columns, 0), (1, rest, full)):
            if count and width:
                loads.append(
                    load_like(
                        source,
                        buffer,
                        outer=count,
                        inner=taps,
                        run=depth * width * size,
                        source_offset=base + skip * op.tile_columns * full_depth + skipped * width * size,
                        source_outer_stride=full_depth * width,
                        source_inner_stride=op.in_c * width * size,
                        destination_offset=skip * op.tile_columns * taps * depth * size,
                        destination_outer_stride=taps * depth * width * size,
                        destination_inner_stride=depth * width * size,
                    )
                )
        return buffer, loads


def _chunks(op: MatmulOp, chunks: Chunking) -> list[Chunk]:
    """(first group, groups, first tile, tiles) of every chunk of a product."""
    found: list[Chunk] = []
    for group in range(0, op.groups, chunks.groups):
        groups = min(chunks.groups, op.groups - group)
        for tile in range(0, op.column_tiles, chunks.tiles):
            found.append((group, groups, tile, min(chunks.tiles, op.column_tiles - tile)))
    return found


def _cut_chunk(strip: list[InstructionOp], chunk: Chunk) -> tuple[MatmulOp, list[RequantizeOp]]:
    """One chunk of a strip of a product."""
    main = strip[0]
    assert isinstance(main, MatmulOp)
    matmul, requantize = main, [op for op in strip[1:] if isinstance(op, RequantizeOp)]
    group, groups, tile, tiles = chunk
    # accumulators of a strip are laid out for its own number of rows
    requantize = [_own_accumulators(op, matmul) for op in requantize]
    if groups < matmul.groups:
        matmul, requantize = cut_groups(matmul, requantize, group, groups)
    if tiles < matmul.column_tiles:
        matmul, requantize = cut_tiles(matmul, requantize, tile, tiles)
    return with_attributes(matmul), [with_attributes(op) for op in requantize]


def _own_accumulators(op: RequantizeOp, matmul: MatmulOp) -> RequantizeOp:
    """The group offset of a requantization in accumulator rows of the strip, not of the whole layer."""
    whole = op.operands[0].type.size // matmul.groups
    return with_attributes(op, accumulator_offset=op.accumulator_offset // whole * matmul.column_tiles * matmul.rows)

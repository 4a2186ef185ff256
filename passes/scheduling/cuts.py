"""How products run that do not fit as a whole: rows of a strip, chunks of weights, which of the loops is outside."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...backends.target import Target
from ...dialects.core.operation import Value
from ...dialects.tile.array import MatmulOp
from .chunks import Chunking, chunking, held_layout, strip_bytes
from .layers import Program, Unit
from .pieces import product_cycles
from .strips import with_attributes

WEIGHT_SHARES = (2, 3, 4, 6, 8, 12, 16, 32)
"""Chunks of weights of at most these fractions (1/2, 1/3, ...) of the room are tried."""

WORTHWHILE = 0.9
"""A cut replaces another one if it is estimated to take at most this share of its cycles."""

STEP_CYCLES = 64
"""What a step costs beside its work: the latencies of its instructions, of which some are hidden."""

CROWDING = 0.1
"""A cut that takes all the room counts as if it took so many more of its cycles: others can load ahead less."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a unit runs: rows of one strip, chunks of a product, whether its weights stay while the strips pass.

    With `chunks_outside`, every chunk of weights is loaded once and all strips pass under it; otherwise every strip
    needs all chunks (loaded once if `weights_stay`, else for every strip).
    """

    rows: int
    chunks: Chunking | None = None
    weights_stay: bool = True
    chunks_outside: bool = False

    @property
    def can_interleave(self) -> bool:
        """True if every strip finds all weights in SRAM, so that other units may run between two strips."""
        return self.weights_stay and not self.chunks_outside


@dataclass
class Cutter:
    """Cuts for a program of which some tensors are spilled; without `double_buffered` the engines take turns."""

    program: Program
    target: Target
    spilled: set[Value[Any]]
    double_buffered: bool

    def bytes_of_strips(self, unit: Unit, rows: int) -> int:
        """Bytes of the strips of spilled operands, two of each if there is more than one and they overlap.

        Of a tensor that is held there is one matrix.
        """
        copies = 2 if rows < unit.rows and self.double_buffered else 1
        if self.spilled.isdisjoint(unit.tensors):
            return 0
        strips = strip_bytes(self.program, unit, rows)
        moving = sum(strips[v] for v in unit.tensors if v in self.spilled and v is not unit.held)
        return copies * moving + self.bytes_held(unit)

    def bytes_held(self, unit: Unit) -> int:
        """Bytes of the matrix of a spilled tensor that stays while the strips of a product pass."""
        if unit.held not in self.spilled or not isinstance(unit.main, MatmulOp):
            return 0
        return math.prod(held_layout(unit.main, self.target))

    def best(self, unit: Unit, room: int, rule: Cut) -> Cut:
        """The cut of a product with weights that takes least by estimate, of those that fit `room` bytes; else `rule`.

        `room` is for strips and weights. Strips of all sizes and chunks of several are tried, if `rule` moves more over
        the DRAM channel than it must: every weight and every byte of a spilled tensor once.
        """
        assert isinstance(unit.main, MatmulOp)
        least = unit.weight_bytes + sum(self.program.tensors[v] for v in unit.tensors if v in self.spilled)
        if rule.chunks is None or self.traffic(unit, rule) * WORTHWHILE <= least:
            return rule
        best, price = rule, self._price(unit, rule, room) * WORTHWHILE
        for cut in self._candidates(unit, room):
            if self.bytes_of(unit, cut) <= room and (own := self._price(unit, cut, room)) < price:
                best, price = cut, own
        return best

    def _candidates(self, unit: Unit, room: int) -> Iterator[Cut]:
        main = unit.main
        assert isinstance(main, MatmulOp)
        seen: set[tuple[int, Chunking]] = set()
        pieces = 1
        while True:
            rows = -(-unit.rows // pieces)
            if self.bytes_of_strips(unit, rows) < room:
                for share in WEIGHT_SHARES:
                    chunks = chunking(main, self.target, rows, room // share)
                    if (chunks.rows, chunks) not in seen:
                        seen.add((chunks.rows, chunks))
                        yield Cut(chunks.rows, chunks)
                        yield Cut(chunks.rows, chunks, weights_stay=False)
                        yield Cut(chunks.rows, chunks, weights_stay=False, chunks_outside=True)
            if rows == 1:
                return
            pieces += 1 + pieces // 4

    def bytes_of(self, unit: Unit, cut: Cut) -> int:
        """The SRAM that strips and weights take."""
        main, chunks = unit.main, cut.chunks
        assert isinstance(main, MatmulOp) and chunks is not None
        strips = self.bytes_of_strips(unit, cut.rows)
        if cut.weights_stay:
            return strips + unit.weight_bytes
        if cut.chunks_outside:
            return strips + chunks.column_bytes(main) + chunks.weight_bytes(main)
        return strips + (2 if self.double_buffered else 1) * chunks.weight_bytes(main)

    def traffic(self, unit: Unit, cut: Cut) -> int:
        """The bytes that cross the DRAM channel: weights, and strips of spilled tensors with the rows they share."""
        main = unit.main
        assert isinstance(main, MatmulOp)
        strips = -(-unit.rows // cut.rows)
        own = strip_bytes(self.program, unit, cut.rows)
        read = own[main.input] * strips if main.input in self.spilled else 0
        others = sum(own[v] * strips for v in unit.tensors if v in self.spilled and v is not main.input)
        weights = unit.weight_bytes
        if cut.chunks_outside:
            return weights + read * _passes(main, cut) + others
        return weights * (1 if cut.weights_stay else strips) + read + others

    def _price(self, unit: Unit, cut: Cut, room: int) -> float:
        """Cycles of the array and of the DRAM channel: the longer of the two, or both if the engines take turns."""
        main, chunks = unit.main, cut.chunks
        assert isinstance(main, MatmulOp) and chunks is not None
        columns = min(chunks.tiles * main.tile_columns, main.out_c)
        depth = columns if main.diagonal else chunks.depth
        fold = main.fold if chunks.depth >= main.in_c else "none"
        piece = with_attributes(main, out_c=columns, groups=chunks.groups, in_c=depth, fold=fold)
        count = -(-unit.rows // cut.rows) * _passes(main, cut)
        count *= 1 if main.diagonal else -(-main.in_c // chunks.depth)
        array = count * (product_cycles(piece, self.target, cut.rows) + STEP_CYCLES)
        piece.set_operands(())
        transfer = self.traffic(unit, cut) / self.target.dma.bytes_per_cycle + count * STEP_CYCLES
        cycles = max(array, transfer) if self.double_buffered else array + transfer
        return cycles * (1 + CROWDING * self.bytes_of(unit, cut) / room)


def _passes(main: MatmulOp, cut: Cut) -> int:
    """Chunks of columns and groups."""
    assert cut.chunks is not None
    return -(-main.column_tiles // cut.chunks.tiles) * -(-main.groups // cut.chunks.groups)

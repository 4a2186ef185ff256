"""Pieces: the strips of a unit with the rows they touch and about how long they keep the engines busy."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...backends.target import Target
from ...backends.timing.vector import work_of
from ...dialects.core.operation import Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.indexing import GatherOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import TransferOp
from .chunks import all_rows_touched
from .layers import Program, Unit
from .strips import cut_rows

MOST_PIECES, MOST_VECTOR_PIECES = 12, 72
"""A unit is cut into at most so many pieces for overlap, one of the vector engine into so many if they are long.

There are more where the memory demands it.
"""


class Grain(NamedTuple):
    """How small the pieces for overlap may be: each keeps its engine busy for at least `least_cycles`.

    All pieces of a product may take `accepted_loss` longer together than the product as a whole, or as long as a vector
    instruction right before or after it, behind which they are hidden. Pieces of the vector engine are so many that
    they take about `longest` cycles: while one lasts, the array has no accumulators for more than two products.
    """

    least_cycles: int
    accepted_loss: float
    longest: float


GRAINS = (Grain(128, 0.05, math.inf), Grain(128, 0.05, 700), Grain(64, 0.5, 700), Grain(32, 2.0, 700))
"""Pieces that are tried, the largest first: latencies are a tenth of the cycles of these, and a third of the last."""

NO_ROW = 1 << 60
"""The first row of a tensor that nothing touches any more."""


@dataclass(frozen=True, slots=True)
class Touch:
    """Rows [first, last) of a tensor that a piece reads, or also writes."""

    tensor: Value[Any]
    first: int
    last: int
    writes: bool

    def conflicts(self, other: Touch) -> bool:
        """True if the order of the two matters."""
        overlaps = self.first < other.last and other.first < self.last
        return self.tensor is other.tensor and overlaps and (self.writes or other.writes)


@dataclass(frozen=True, slots=True)
class Piece:
    """`rows` output rows of a unit from `start` on. `array` and `vector` estimate cycles without bank conflicts."""

    start: int
    rows: int
    touches: list[Touch]
    array: float
    vector: float

    def operations(self, unit: Unit) -> list[InstructionOp]:
        """The instructions of the unit, cut to these rows."""
        return [cut_rows(op, self.start, self.rows) for op in unit.operations]


@dataclass(eq=False)
class Series:
    """The pieces of a unit in order, and the cycles of all on the array and the vector unit.

    `firsts` has for every tensor and number n the first row that the pieces from number n on touch, `writes` the
    tensors that they write.
    """

    pieces: list[Piece]
    firsts: dict[Value[Any], list[int]] = field(init=False)
    writes: set[Value[Any]] = field(init=False)
    array: float = field(init=False)
    vector: float = field(init=False)

    def __post_init__(self) -> None:
        self.array, self.vector = sum(each.array for each in self.pieces), sum(each.vector for each in self.pieces)
        self.firsts = {}
        self.writes = {touch.tensor for piece in self.pieces for touch in piece.touches if touch.writes}
        for number in reversed(range(len(self.pieces))):
            for touch in self.pieces[number].touches:
                rows = self.firsts.setdefault(touch.tensor, [NO_ROW] * len(self.pieces))
                rows[number] = min(rows[number], touch.first)
        for rows in self.firsts.values():
            for number in reversed(range(len(rows) - 1)):
                rows[number] = min(rows[number], rows[number + 1])

    def needed(self, tensor: Value[Any], done: int) -> int:
        """The first row of a tensor that is still touched when so many pieces are done."""
        rows = self.firsts[tensor]
        return rows[done] if done < len(rows) else NO_ROW

    def done_before(self, touch: Touch) -> int:
        """How many pieces touch rows above the end of another unit's touch: they come before it if order matters."""
        return bisect_left(self.firsts[touch.tensor], touch.last)


def series_of(program: Program, target: Target, unit: Unit, rows: int) -> Series:
    """The pieces of a unit, `rows` output rows each."""
    key = (unit, rows)
    if key not in program.series:
        found: list[Piece] = []
        for start in range(0, unit.rows, rows):
            count = min(rows, unit.rows - start)
            operations = [cut_rows(op, start, count) for op in unit.operations]
            touches = touches_of(program, operations) + touches_of_host(program, unit)
            found.append(Piece(start, count, touches, *estimate(operations, target)))
        program.series[key] = Series(found)
    return program.series[key]


def touches_of(program: Program, operations: list[InstructionOp]) -> list[Touch]:
    """The rows of tensors that instructions touch."""
    found: list[Touch] = []
    for op in operations:
        names = [declared.name for declared in op.operand_fields]
        written = {op.operands[names.index(region.operand)] for region in op.regions() if region.writes}
        for value, rows in all_rows_touched(program, op).items():
            found.append(Touch(value, *rows, value in written))
    return found


def touches_of_host(program: Program, unit: Unit) -> list[Touch]:
    """What orders a unit among the calls of the host, as the only rows of buffers, or all rows of tensors."""
    return [
        Touch(value, 0, value.type.size // program.row_stride(value) if value in program.tensors else 1, writes)
        for value, writes in program.buffers_of_host(unit).items()
    ]


def piece_rows(program: Program, unit: Unit, largest: int, target: Target, grain: Grain) -> int:
    """Output rows of a piece, at most `largest`: as few as overlap can use, without making the whole much longer."""
    key = (unit, largest, grain)
    if key not in program.pieces:
        program.pieces[key] = _piece_rows(program, unit, largest, target, grain)
    return program.pieces[key]


def _piece_rows(program: Program, unit: Unit, largest: int, target: Target, grain: Grain) -> int:
    fewest = -(-unit.rows // largest)
    main, best = unit.main, largest
    accepted = _cycles(unit, largest, target) * fewest * (1 + grain.accepted_loss)
    if isinstance(main, MatmulOp):
        accepted = max(accepted, _vector_cycles_beside(program, unit, target))
    most = MOST_PIECES
    if not isinstance(main, (MatmulOp, TransferOp)):
        most = max(most, min(MOST_VECTOR_PIECES, math.ceil(_cycles(unit, unit.rows, target) / grain.longest)))
    for pieces in range(fewest + 1, min(most, unit.rows) + 1):
        rows = -(-unit.rows // pieces)
        cycles = _cycles(unit, rows, target)
        if cycles < grain.least_cycles:
            break
        if not isinstance(main, MatmulOp) or cycles * -(-unit.rows // rows) <= accepted:
            best = rows
    return best


def _vector_cycles_beside(program: Program, unit: Unit, target: Target) -> float:
    """The cycles of the longest unit of the vector engine that touches a tensor of a product right before or after."""
    own, found = program.index[unit], 0.0
    for tensor in unit.tensors:
        uses = program.uses[tensor]
        place = uses.index(own)
        for index in (*uses[max(0, place - 1) : place], *uses[place + 1 : place + 2]):
            other = program.units[index]
            if not isinstance(other.main, MatmulOp):
                found = max(found, estimate(other.operations, target)[1])
    return found


def _cycles(unit: Unit, rows: int, target: Target) -> float:
    if isinstance(unit.main, GatherOp):
        return rows * unit.main.inner * -(-unit.main.run // target.dma.bytes_per_cycle)
    if isinstance(unit.main, TransferOp):
        return unit.main.size * rows / unit.rows / target.dma.bytes_per_cycle
    return max(estimate([unit.main], target, rows))


def estimate(operations: list[InstructionOp], target: Target, rows: int | None = None) -> tuple[float, float]:
    """Cycles of the array and of the vector unit; of `rows` output rows only, if given."""
    array, vector = 0.0, 0.0
    for op in operations:
        if isinstance(op, MatmulOp):
            array += product_cycles(op, target, rows or op.out_h)
        elif op.engine == "vector":
            share = 1.0 if rows is None else rows / max(1, getattr(op, "out_h", rows))
            vector += vector_cycles(op, target) * share
    return array, vector


def vector_cycles(op: InstructionOp, target: Target) -> float:
    """Cycles of a vector instruction: its element passes, or the bytes that it moves in whole lines."""
    passes = work_of(op).element_passes
    if passes:
        return passes / target.vector.lanes
    moved = max(region.size for region in op.regions())
    return moved / (target.sram.line_bytes * target.sram.interleave)


def product_cycles(op: MatmulOp, target: Target, rows: int) -> float:
    """Cycles of `rows` output rows of a product, without bank conflicts; see `timing.matmul`."""
    lanes, taps = target.array.lanes, op.taps
    channels = 1 if op.diagonal else op.in_c
    if op.fold == "none":
        vectors = taps * -(-channels // lanes)
    elif op.fold == "row":
        vectors = op.kernel_h * -(-op.kernel_w * channels // lanes)
    else:
        vectors = -(-taps * channels // lanes)
    steps = op.groups * -(-op.column_tiles // op.split_n) * -(-vectors // op.split_k)
    stream = -(-rows * op.out_w // op.split_m)
    lines = op.weight_bytes / target.sram.line_bytes / steps
    load = lines / min(target.array.weight_lines_per_cycle, target.sram.interleave * target.sram.read_ports)
    return load + (steps - 1) * max(stream, load) + stream

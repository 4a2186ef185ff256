"""Chains of units that run depth-first: of the tensors between them only a few rows at a time are in SRAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...backends.target import Target
from ...dialects.core.operation import Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.memory import StoreOp
from .chunks import chunking
from .layers import Program, Unit
from .pieces import Piece, Touch, pieces_of

PIECES = (4, 6, 8, 12, 16, 28, 56, 112)
"""Numbers of pieces that are tried for every unit of a chain, until it fits."""

MOST_UNITS = 28
"""The longest chain that is tried."""


@dataclass(frozen=True, slots=True)
class Roll:
    """A tensor that passes through SRAM in segments of `rows` rows.

    Segment k holds rows [k * rows - halo, (k + 1) * rows): the last `halo` rows of the segment before are copied, so
    that whatever reads rows on both sides of the border finds them in one place. From the first row that is still
    needed to the last that is written there are at most `lag` rows.
    """

    rows: int
    halo: int
    lag: int

    @property
    def live_rows(self) -> int:
        """Rows of all segments that are live together."""
        return (-(-self.lag // self.rows) + 1) * (self.rows + self.halo)

    def base(self, segment: int) -> int:
        """The first row of a segment."""
        return max(0, segment * self.rows - self.halo)


@dataclass(frozen=True, slots=True)
class Fusion:
    """Units `first` to `last` with their rows a piece, the tensors that roll, and the bytes of SRAM they need.

    `need` counts weights, parameters and the live segments of each rolling tensor, but no tensor that stays.
    """

    first: int
    last: int
    rows: dict[int, int]
    rolls: dict[Value[Any], Roll]
    need: int


def fuse(program: Program, target: Target, first: int, last: int, room: int, spilled: set[Value[Any]]) -> Fusion | None:
    """The chain of units `first` to `last` in the fewest pieces in which it fits `room` bytes; None if none fits.

    All tensors that are live in the chain count, but for those that are spilled.
    """
    units = program.units[first : last + 1]
    if len(units) > MOST_UNITS or any(isinstance(unit.main, StoreOp) for unit in units):
        return None
    live = [tensor for tensor in program.live(first, last) if tensor not in spilled]
    inside = [t for t in live if first <= program.first_use[t] and program.last_use[t] <= last]
    constants = sum(unit.constant_bytes for unit in units)
    if constants > room:
        return None
    for count in PIECES:
        rows = [-(-unit.rows // min(count, unit.rows)) for unit in units]
        if not all(_fits(unit, each, target) for unit, each in zip(units, rows, strict=True)):
            continue
        pieces = [pieces_of(program, target, unit, each) for unit, each in zip(units, rows, strict=True)]
        rolls = _rolls(program, inside, pieces)
        if not rolls:
            continue
        need = constants + sum(roll.live_rows * program.row_stride(t) for t, roll in rolls.items())
        if need + sum(program.tensors[tensor] for tensor in live if tensor not in rolls) <= room:
            return Fusion(first, last, dict(zip(range(first, last + 1), rows, strict=True)), rolls, need)
    return None


def _fits(unit: Unit, rows: int, target: Target) -> bool:
    """True if so many rows of a product fit the accumulators twice, at least some of its columns at a time."""
    return not isinstance(unit.main, MatmulOp) or chunking(unit.main, target, rows, target.sram_bytes).rows >= rows


def _rolls(program: Program, tensors: list[Value[Any]], pieces: Sequence[list[Piece]]) -> dict[Value[Any], Roll]:
    """How each tensor passes, if it is written in pieces that do not cross borders and read a few rows at a time."""
    lags = _lags(pieces)
    found: dict[Value[Any], Roll] = {}
    for tensor in tensors:
        touches = [[t for t in piece.touches if t.tensor is tensor] for own in pieces for piece in own]
        flat = [touch for group in touches for touch in group]
        written = {touch.last - touch.first for touch in flat if touch.writes}
        total = program.tensors[tensor] // program.row_stride(tensor)
        step = max(written, default=total)
        if any(t.writes and t.first % step for t in flat) or not program.is_written_whole(tensor):
            continue
        lag = max(lags.get(tensor, total), step) + step
        rolls = [roll for rows in (step, 2 * step, 4 * step, 8 * step) if (roll := _roll(flat, rows, lag)) is not None]
        best = min(rolls, key=lambda roll: (roll.live_rows, -roll.rows), default=None)
        if best is not None and best.live_rows < total:
            found[tensor] = best
    return found


def _roll(touches: list[Touch], rows: int, lag: int) -> Roll | None:
    """Segments of so many rows, None if more rows would be copied than half of those that are written."""
    halo = max((touch.last - 1) // rows * rows - touch.first for touch in touches)
    return Roll(rows, max(halo, 0), lag) if 2 * halo <= rows else None


def _lags(pieces: Sequence[list[Piece]]) -> dict[Value[Any], int]:
    """The most rows of each tensor between the first that is still needed and the last that is written.

    The pieces run depth-first: of all units whose rows are there, the last one goes on.
    """
    done = [0] * len(pieces)
    reached: dict[Value[Any], int] = {}
    lags: dict[Value[Any], int] = {}
    users: dict[Value[Any], list[int]] = {}
    for index, own in enumerate(pieces):
        for tensor in {touch.tensor for piece in own for touch in piece.touches}:
            users.setdefault(tensor, []).append(index)

    def needed(tensor: Value[Any], index: int) -> int:
        """The first row that a unit still touches."""
        rest = pieces[index][done[index] :]
        rows = [touch.first for piece in rest[:1] for touch in piece.touches if touch.tensor is tensor]
        return min(rows, default=0) if rest else 1 << 60

    def is_ready(index: int) -> bool:
        return all(
            needed(touch.tensor, other) >= touch.last
            for touch in pieces[index][done[index]].touches
            for other in users[touch.tensor]
            if other < index
        )

    while True:
        ready = [i for i in range(len(pieces)) if done[i] < len(pieces[i]) and is_ready(i)]
        if not ready:
            return lags
        index = ready[-1]
        for touch in pieces[index][done[index]].touches:
            if touch.writes:
                reached[touch.tensor] = max(reached.get(touch.tensor, 0), touch.last)
        for touch in pieces[index][done[index]].touches:
            tensor = touch.tensor
            first = min(needed(tensor, other) for other in users[tensor])
            lags[tensor] = max(lags.get(tensor, 0), reached.get(tensor, 0) - first)
        done[index] += 1

"""Chains of units that run depth-first: of the tensors between them only a few rows at a time are in SRAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...backends.target import Target
from ...dialects.core.operation import Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.host import CallHostOp
from ...dialects.tile.memory import StoreOp
from .chunks import chunking
from .layers import Program, Unit
from .pieces import Series, Touch, series_of

PIECES = (4, 6, 8, 12, 16, 28, 56, 112, 224, 448)
"""Numbers of pieces that are tried for every unit of a chain, until it fits."""

MANY_PIECES = 112
"""More pieces than these are for long sequences only: ..."""

LEAST_STEPS = 8
"""... they have at least so many rows of the tallest unit, which are single pixels."""

LEAST_LIVE = 3
"""So many pieces of a rolling tensor are live at least: what is written, what is read, and what came before."""

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

    `need` counts weights, parameters, the live segments of each rolling tensor and the strips of spilled ones, but no
    tensor that stays.
    """

    first: int
    last: int
    rows: dict[int, int]
    rolls: dict[Value[Any], Roll]
    need: int


Strips = Callable[[Unit, int], int]
"""Bytes of the strips of spilled tensors of a unit in pieces of so many rows."""


def fuse(
    program: Program,
    target: Target,
    first: int,
    last: int,
    room: int,
    spilled: set[Value[Any]],
    strips: Strips,
    least_rows: int = 1,
) -> Fusion | None:
    """The chain of units `first` to `last` in the fewest pieces in which it fits `room` bytes; None if none fits.

    All tensors that are live in the chain count; of those that are spilled the `strips`. Pieces have at least
    `least_rows` of the tallest unit.
    """
    units = program.units[first : last + 1]
    if len(units) > MOST_UNITS or any(isinstance(unit.main, (StoreOp, CallHostOp)) for unit in units):
        return None
    live = [tensor for tensor in program.live(first, last) if tensor not in spilled]
    outside = [t for t in live if program.first_use(t) < first or last < program.last_use(t)]
    constants = sum(unit.constant_bytes for unit in units)
    staying = constants + sum(program.tensors[tensor] for tensor in outside)
    inside = [program.tensors[tensor] for tensor in live if tensor not in outside]
    for count in PIECES:
        least = LEAST_STEPS if count > MANY_PIECES else least_rows
        if least > 1 and least * count > max(unit.rows for unit in units):
            break
        if staying + sum(min(size, LEAST_LIVE * size // count) for size in inside) > room:
            continue
        chain = chain_of(program, target, first, last, count)
        rolls = {tensor: chain.rolls[tensor] for tensor in live if tensor in chain.rolls}
        if not rolls:
            continue
        need = constants + sum(roll.live_rows * program.row_stride(t) for t, roll in rolls.items())
        need += sum(strips(program.units[index], rows) for index, rows in chain.rows.items())
        if need + sum(program.tensors[tensor] for tensor in live if tensor not in rolls) <= room:
            return Fusion(first, last, chain.rows, rolls, need)
    return None


@dataclass(frozen=True, slots=True)
class Chain:
    """Units in so many pieces: the rows of a piece by unit, and how each tensor passes that can; none if none can."""

    rows: dict[int, int]
    rolls: dict[Value[Any], Roll]


def chain_of(program: Program, target: Target, first: int, last: int, count: int) -> Chain:
    """The units `first` to `last`, each in `count` pieces or as many as it has rows, whatever fits around them."""
    key = (first, last, count)
    if key not in program.chains:
        units = program.units[first : last + 1]
        rows = [-(-unit.rows // min(count, unit.rows)) for unit in units]
        rolls: dict[Value[Any], Roll] = {}
        if all(_fits(unit, each, target) for unit, each in zip(units, rows, strict=True)):
            series = [series_of(program, target, unit, each) for unit, each in zip(units, rows, strict=True)]
            inside = [t for t in program.live(first, last) if first <= program.first_use(t)]
            rolls = _rolls(program, [t for t in inside if program.last_use(t) <= last], series)
        program.chains[key] = Chain(dict(zip(range(first, last + 1), rows, strict=True)), rolls)
    return program.chains[key]


def _fits(unit: Unit, rows: int, target: Target) -> bool:
    """True if so many rows of a product fit the accumulators twice, at least some of its columns at a time."""
    return not isinstance(unit.main, MatmulOp) or chunking(unit.main, target, rows, target.sram_bytes).rows >= rows


def _rolls(program: Program, tensors: list[Value[Any]], series: Sequence[Series]) -> dict[Value[Any], Roll]:
    """How each tensor passes, if it is written in pieces that do not cross borders and read a few rows at a time."""
    touches: dict[Value[Any], list[Touch]] = {tensor: [] for tensor in tensors}
    for own in series:
        for piece in own.pieces:
            for touch in piece.touches:
                if touch.tensor in touches:
                    touches[touch.tensor].append(touch)
    found: dict[Value[Any], Roll] = {}
    lags: dict[Value[Any], int] | None = None
    for tensor, flat in touches.items():
        written = {touch.last - touch.first for touch in flat if touch.writes}
        total = program.tensors[tensor] // program.row_stride(tensor)
        step = max(written, default=total)
        if any(t.writes and t.first % step for t in flat) or not program.is_written_whole(tensor):
            continue
        lags = _lags(series) if lags is None else lags
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


def _lags(series: Sequence[Series]) -> dict[Value[Any], int]:
    """The most rows of each tensor between the first that is still needed and the last that is written.

    The pieces run depth-first: of all units whose rows are there, the last one goes on.
    """
    users: dict[Value[Any], list[int]] = {}
    for index, own in enumerate(series):
        for tensor in own.firsts:
            users.setdefault(tensor, []).append(index)
    done = [0] * len(series)
    blockers: list[tuple[int, int]] = [(-1, 0)] * len(series)
    """A unit, and how many of its pieces must be done before the next piece can be ready."""
    reached: dict[Value[Any], int] = {}
    lags: dict[Value[Any], int] = {}

    def is_ready(index: int) -> bool:
        if done[index] == len(series[index].pieces):
            return False
        unit, count = blockers[index]
        if unit >= 0 and done[unit] < count:
            return False
        for touch in series[index].pieces[done[index]].touches:
            for other in users[touch.tensor]:
                if other >= index:
                    break
                count = series[other].done_before(touch)
                if done[other] < count:
                    blockers[index] = (other, count)
                    return False
        return True

    while (index := next((i for i in reversed(range(len(series))) if is_ready(i)), None)) is not None:
        touches = series[index].pieces[done[index]].touches
        for touch in touches:
            if touch.writes:
                reached[touch.tensor] = max(reached.get(touch.tensor, 0), touch.last)
        for touch in touches:
            tensor = touch.tensor
            first = min(series[other].needed(tensor, done[other]) for other in users[tensor])
            lags[tensor] = max(lags.get(tensor, 0), reached.get(tensor, 0) - first)
        done[index] += 1
    return lags

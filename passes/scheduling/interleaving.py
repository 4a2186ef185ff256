"""The order of pieces: neighbouring layers overlap, so that the array and the vector unit both have work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ...dialects.core.operation import Value
from .pieces import Piece, Touch
from .residency import Residency
from .tracks import Track
from .waiting import waiting_cycles

WORTHWHILE, WORTH_FEEDING = 0.985, 0.99
"""An order for less room, or one that feeds the vector unit, is taken if its estimate is at most this share of the
other's: banks are not part of it."""

FEEDING_SHARE = 10
"""Orders that feed the vector unit are tried where it works alone for more than this fraction (1/10) of all cycles."""


def quickest_order(plan: Residency, tracks: list[Track]) -> Interleaver:
    """The order of the pieces of these units that ends first by estimate, of those for several rooms.

    Units that start early because there is room can be in the way of others. So the budget is tried, then the powers of
    two below it in which fewer units run side by side, as long as each is quicker than the one before. Last comes an
    order that feeds the vector unit.
    """
    first = best = Interleaver(plan, tracks, plan.budget)
    while best.widest and best.worked * WORTHWHILE > best.busy:
        room = 1 << (best.widest - 1).bit_length() - 1
        other = Interleaver(plan, [track.afresh() for track in tracks], room)
        if other.end > best.end * WORTHWHILE:
            break
        best = other
    alone = sum(track.series.vector for track in tracks if not track.series.array)
    if alone > best.busy / FEEDING_SHARE and best.worked * WORTHWHILE > best.busy:
        other = Interleaver(plan, [track.afresh() for track in tracks], best.room, feeding=True)
        if other.end <= best.end * WORTH_FEEDING:
            best = other
    best.was_limited = first.was_limited
    return best


class Interleaver:
    """Orders the pieces of all units by an estimate of when they could start.

    A piece comes after the pieces of earlier units whose rows it reads or overwrites, or that read what it writes. Of
    the pieces that may come next, those count that could start first or, at most, the patience of the plan's policy
    later: of these the one of the latest unit comes, which is closest to freeing memory. With `feeding` it is the
    product that makes most work for the vector unit, where that would have none before the product is done: heavy
    products then run while it works, not after it. A unit starts beside others only if the plan is double-buffered and
    all that is live then takes at most `room` bytes; `widest` is the most that it does take.
    """

    def __init__(self, plan: Residency, tracks: list[Track], room: int, *, feeding: bool = False) -> None:
        self.plan, self.tracks, self.room = plan, tracks, room
        self.patience = plan.policy.patience
        self.users: dict[Value[Any], list[Track]] = {}
        for track in tracks:
            for tensor in track.series.firsts:
                self.users.setdefault(tensor, []).append(track)
        self.feeds = {track: self._vector_work(track) for track in tracks} if feeding else {}
        """By unit: the cycles that the vector unit works for each of the array."""
        self.array = self.vector = 0.0
        self.pending = (0.0, 0.0)
        """When the results of the last product are there, and how long the vector unit takes for them after that."""
        self.drained = (0.0, 0.0)
        """When the vector unit has emptied the accumulators of the last product but one, and of the last."""
        self.arrival = _arrivals(plan, tracks)
        self.rolls = plan.rolls
        self.open: list[Track] = []
        self.opened = self.widest = 0
        self.is_beside: bool | None = None
        """True if the next unit fits beside those under way, None where that is to be asked."""
        self.was_limited = False
        """True if a unit once had to wait because there was no room for it beside others."""
        self.order = list(self._order())
        """All pieces in their order."""
        self.worked = max(self.array, self.vector, sum(self.pending))
        """When all pieces are done by the estimate if no load comes late, ..."""
        self.end = self.worked + waiting_cycles(plan, tracks)
        """... and if loads wait for room."""

    def _order(self) -> Iterator[tuple[Track, Piece]]:
        while True:
            tracks = self._candidates()
            ready = [(start, track) for track in tracks if (start := self._start(track)) is not None]
            candidates = [each for each in ready if self._has_room(each[1].next)] or ready
            if not candidates:
                return
            latest = min(start for start, _ in candidates) + self.patience
            first = [each for each in candidates if each[0] <= latest]
            start, track = max(first, key=lambda each: each[1].index)
            if self.feeds and track.next.array and self._emptied < start + track.next.array:
                products = [each for each in first if each[1].next.array]
                start, track = max(products, key=lambda each: (self.feeds[each[1]], each[1].index))
            if track not in self.open:
                self.open.append(track)
                track.begin = start
                self.opened += 1
                self.is_beside = None
                if len(self.open) > 1:
                    for each in self.open:
                        each.beside = True
            piece = track.next
            track.end(self._run(piece, start))
            if track.is_done:
                self.open.remove(track)
                self.is_beside = None
            yield track, piece

    @cached_property
    def busy(self) -> float:
        """How long the busier of both engines works: no order ends before."""
        series = [track.series for track in self.tracks]
        return max(sum(each.array for each in series), sum(each.vector for each in series))

    def keeps_waiting(self, longest: float) -> bool:
        """True if a piece of the vector unit alone takes more than so many cycles."""
        series = [track.series for track in self.tracks if not track.series.array]
        return any(piece.vector > longest for each in series for piece in each.pieces)

    @property
    def _emptied(self) -> float:
        """When the vector unit is done with all that it was given."""
        ready, cycles = self.pending
        return max(self.vector, ready) + cycles if cycles else self.vector

    def _vector_work(self, track: Track) -> float:
        """The cycles of the vector unit for each of the array, for a unit and those after it that are the vector's."""
        readers = {
            other.index: other.series.vector
            for tensor in track.series.writes
            for other in self.users[tensor]
            if other.index > track.index and not other.series.array
        }
        vector = track.series.vector + math.fsum(readers.values())
        return vector / track.series.array if track.series.array else 0.0

    def _candidates(self) -> list[Track]:
        """The units under way, and the next one if there is room for it."""
        if self.opened == len(self.tracks):
            return self.open
        following = self.tracks[self.opened]
        if self.is_beside is None:
            self.is_beside = not self.open or self._fits(following)
        return [*self.open, following] if self.is_beside else self.open

    def _has_room(self, piece: Piece) -> bool:
        """True if the rows of rolling tensors from the first still needed to the last written are as few as planned."""
        return all(
            touch.last - self._needed(touch) <= self.rolls[touch.tensor].lag
            for touch in piece.touches
            if touch.writes and touch.tensor in self.rolls
        )

    def _needed(self, touch: Touch) -> int:
        """The first row of a tensor that a unit still touches."""
        users = self.users[touch.tensor]
        return min(touch.last, *(track.series.needed(touch.tensor, len(track.ends)) for track in users))

    def _fits(self, following: Track) -> bool:
        if following.fusion is not None or any(track.fusion is not None for track in self.open):
            return all(track.fusion is following.fusion for track in self.open)
        together = [*self.open, following]
        if not self.plan.double_buffered or not all(track.cut.can_interleave for track in together):
            return False
        first = min(track.index for track in self.open)
        program, plan = self.plan.program, self.plan
        kept = (tensor for tensor in program.live(first, following.index) if tensor not in plan.spilled)
        live = sum(program.tensors[tensor] for tensor in kept)
        strips = max(plan.bytes_of_strips(track.unit, track.cut.rows) for track in together)
        constants = sum(track.unit.constant_bytes for track in together)
        reserve = plan.reserve.most(first, following.index, beside=True)
        need = live + 2 * strips + constants + reserve
        if need > self.room:
            self.was_limited = True
            return False
        self.widest = max(self.widest, need)
        return True

    def _start(self, track: Track) -> float | None:
        """The estimated start of the next piece of a unit, None if it must wait for pieces that are not done."""
        if track.after is None:
            track.after = self._after(track)
            if track.after is None:
                return None
        piece = track.next
        if piece.array:
            return max(track.after, self.array, self.drained[0])
        return max(track.after, self.vector) if piece.vector else track.after

    def _after(self, track: Track) -> float | None:
        """When its loads and the pieces of earlier units that it needs are done, None if one of these is not."""
        if track.blocker is not None and len(track.blocker.ends) < track.awaited:
            return None
        found = self.arrival[track.index]
        for touch in track.next.touches:
            for other in self.users[touch.tensor]:
                if other.index >= track.index:
                    break
                number = other.done_before(touch)
                if number > len(other.ends):
                    track.blocker, track.awaited = other, number
                    return None
                if number:
                    found = max(found, other.ends[number - 1])
        return found

    def _run(self, piece: Piece, start: float) -> float:
        """Advance the engines; returns the end."""
        target = self.plan.target
        if piece.array:
            self._drain()
            self.array = start + piece.array
            self.pending = (self.array + target.array.latency_cycles, piece.vector)
            end = max(self.vector, self.pending[0]) + piece.vector + target.vector.latency_cycles
            self.drained = (self.drained[1], end)
            return end
        if not piece.vector:
            return start
        if start >= self.pending[0]:
            self._drain()
        self.vector = max(self.vector, start) + piece.vector
        return self.vector + target.vector.latency_cycles

    def _drain(self) -> None:
        """Let the vector unit take the last product's results: behind what it was given meanwhile."""
        ready, cycles = self.pending
        self.vector = max(self.vector, ready) + cycles
        self.pending = (self.vector, 0.0)


def _arrivals(plan: Residency, tracks: list[Track]) -> dict[int, float]:
    """When the weights and parameters of every unit could be there, by its index, if nothing delayed the DMA."""
    found: dict[int, float] = {}
    loaded = 0.0
    dma = plan.target.dma
    for track in tracks:
        loaded += track.unit.constant_bytes
        found[track.index] = loaded / dma.bytes_per_cycle + dma.latency_cycles if track.unit.constant_bytes else 0.0
    return found

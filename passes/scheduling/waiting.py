"""How long units wait for what they load, in a memory that has no room to load everything ahead."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from .residency import Residency
from .tracks import Track

ROOM = 0.75
"""The share of the SRAM that what is live and what is loaded ahead fill: gaps between buffers are the rest."""


def waiting_cycles(plan: Residency, tracks: Sequence[Track]) -> float:
    """Cycles by which the DRAM channel delays the end of these units, all done in the times that they estimate.

    Their loads follow each other at full rate, each once there is room: with what is live beside each unit that is not
    done, and with what that and later ones have loaded, at most `ROOM` of the SRAM is full, all of it beside the unit
    right before.
    """
    dma, memory = plan.target.dma, room_of(plan)
    needs = [plan.memory_of(track.index) for track in tracks]
    loaded = delay = 0.0
    first = 0
    done: list[float] = []
    for number, track in enumerate(tracks):
        at_once = _needs_all_at_once(track)
        first = _first_beside(needs, first, number, memory, at_once=at_once)
        started = max(loaded, done[first - 1] if first else 0.0)
        moved = plan.traffic_of(track.index)
        if moved:
            loaded = started + moved / dma.bytes_per_cycle
            delay = max(delay, (loaded if at_once else started) + dma.latency_cycles - track.begin)
            delay = max(delay, loaded - track.ends[-1])
        done.append(max(track.ends[-1] + delay, done[-1] if done else 0.0))
    return delay


def room_of(plan: Residency) -> float:
    """The bytes of the memory, infinite if it has room for everything at once."""
    return inf if plan.program.bytes_at_once <= plan.target.sram_bytes else plan.target.sram_bytes


def _needs_all_at_once(track: Track) -> bool:
    """True if a unit cannot start before all that it loads is there."""
    cut = track.cut
    return cut.can_interleave and (cut.chunks is None or cut.chunks.is_whole(track.unit.main))


def _first_beside(needs: Sequence[tuple[int, int]], first: int, last: int, memory: float, *, at_once: bool) -> int:
    """The first unit, not before `first`, beside which there is room for what all from there to `last` load.

    Of every unit, `needs` has the bytes that are live beside it, and those that it loads. Unless it needs them
    `at_once`, what the last one loads takes the room of what it has used.
    """
    total = 0
    for number in range(last, first - 1, -1):
        live, own = needs[number]
        total += own if number < last or at_once else 0
        if live + total > (memory if number >= last - 1 else ROOM * memory):
            return min(number + 1, last)
    return first

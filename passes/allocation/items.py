"""Buffers with lifetimes, as the packing sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A buffer: live at every time in [begin, end), `size` units, allowed only within `ranges` of addresses if given.

    Items with `from_top` prefer high addresses, the others low ones: two families that should stay apart.
    """

    begin: int
    end: int
    size: int
    ranges: tuple[tuple[int, int], ...] = ()
    from_top: bool = False


def lower_bound(items: Sequence[Item]) -> int:
    """The largest sum of sizes that are live at one time: no packing is smaller."""
    events: dict[int, int] = {}
    for item in items:
        events[item.begin] = events.get(item.begin, 0) + item.size
        events[item.end] = events.get(item.end, 0) - item.size
    total = peak = 0
    for time in sorted(events):
        total += events[time]
        peak = max(peak, total)
    return peak

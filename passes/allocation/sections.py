"""A packing instance cut into sections of time in which the same buffers are alive, as arrays for the search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.core.types import Array
from .items import Item

NEVER = 1 << 60
"""An offset above every capacity: that of buffers that are placed, and of the padding of `Sections.members`."""

NOWHERE = 1 << 59
"""The offset of an item that no longer fits into any of its ranges."""


class Sections:
    """The items on a time axis without idle or repeated times.

    Item i lives in sections [first[i], last[i]); `begins` and `ends` are the same as arrays. `members` (most alive at
    once, sections) lists the items of each section, padded with the number of items; `member_sizes` are their sizes, 0
    for padding. `totals` are the sums of sizes; `crossings` count who lives in a section and the next. `overlaps[i]`
    are the items alive together with i, `twins[i]` those that are equal to it in all respects, `ranged` the items that
    may not lie everywhere.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = tuple(items)
        times = sorted({time for item in items for time in (item.begin, item.end)})
        place = {time: index for index, time in enumerate(times)}
        self.first = [place[item.begin] for item in items]
        self.last = [place[item.end] for item in items]
        self.count = len(times) - 1
        self.ranged = frozenset(index for index, item in enumerate(items) if item.ranges)
        self.sizes = np.array([item.size for item in items] + [0], np.int64)
        self.totals = np.zeros(self.count, np.int64)
        self.crossings = np.zeros(self.count, np.int64)
        alive: list[list[int]] = [[] for _ in range(self.count)]
        for index, (first, last) in enumerate(zip(self.first, self.last, strict=True)):
            self.totals[first:last] += items[index].size
            self.crossings[first : last - 1] += 1
            for section in range(first, last):
                alive[section].append(index)
        self.members = np.full((max(map(len, alive)), self.count), len(items), np.int64)
        for section, indices in enumerate(alive):
            self.members[: len(indices), section] = indices
        self.member_sizes = self.sizes[self.members]
        begins, ends = np.array(self.first), np.array(self.last)
        self.overlaps: list[Array] = []
        for index in range(len(items)):
            together = (begins < self.last[index]) & (ends > self.first[index])
            together[index] = False
            self.overlaps.append(np.flatnonzero(together))
        equal: dict[tuple[int, int, int, tuple[tuple[int, int], ...]], list[int]] = {}
        for index, item in enumerate(items):
            equal.setdefault((item.begin, item.end, item.size, item.ranges), []).append(index)
        self.twins: list[list[int]] = [
            [other for other in equal[item.begin, item.end, item.size, item.ranges] if other != index]
            for index, item in enumerate(items)
        ]
        self.begins, self.ends = begins, ends
        self._inside: dict[tuple[int, int], Array] = {}

    def inside(self, first: int, last: int) -> Array:
        """The items that live only in sections [first, last)."""
        key = (first, last)
        if key not in self._inside:
            self._inside[key] = np.flatnonzero((self.begins >= first) & (self.ends <= last))
        return self._inside[key]

    def allowed(self, index: int, offset: int) -> int:
        """The least offset, `offset` or more, at which an item fits into one of its ranges, or NOWHERE."""
        item = self.items[index]
        if not item.ranges:
            return min(offset, NOWHERE)
        fits = (max(low, offset) for low, high in item.ranges if max(low, offset) + item.size <= high)
        return min(fits, default=NOWHERE)

    def next_range(self, index: int, offset: int) -> int:
        """The least beginning above `offset` of a range that an item fits into, or NOWHERE."""
        item = self.items[index]
        return min((low for low, high in item.ranges if low > offset and low + item.size <= high), default=NOWHERE)

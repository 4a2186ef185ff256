"""Free addresses for one item after the other, between those that are placed and alive at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.core.types import Array
from .items import Item

NOWHERE = 1 << 60
"""The address of an item that is not placed yet: above every capacity."""


class Lives:
    """Items as arrays, and who is alive at the same time.

    `together` lists for each item the others that are alive at some time of its life, in no order, and behind them the
    number of items, which stands for the ends of the memory. Linear in the items and the pairs that live together.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.begin = np.array([item.begin for item in items], np.int64)
        self.end = np.array([item.end for item in items], np.int64)
        self.size = np.array([item.size for item in items], np.int64)
        self.together = self._together()

    def _together(self) -> list[Array]:
        """By a sweep over the begins: who is alive then, and who begins before the end."""
        count = len(self.items)
        order = np.append(self.begin.argsort(kind="stable"), count)
        begins, ends = self.begin[order[:-1]], self.end[order[:-1]]
        together = [order[-1:]] * count
        alive = np.empty(0, np.int64)
        following = np.searchsorted(begins, ends).tolist()
        for at, (item, begin) in enumerate(zip(order[:-1].tolist(), begins.tolist(), strict=True)):
            alive = alive[self.end.take(alive) > begin]
            together[item] = np.concatenate((alive, order[at + 1 : following[at]], order[-1:]))
            alive = np.append(alive, item)
        return together


class Room:
    """A memory of `capacity` units in which items lie, each in `sizes` units, and the free addresses for others."""

    def __init__(self, lives: Lives, sizes: Array, capacity: int) -> None:
        self.lives, self.sizes, self.capacity = lives, sizes, capacity
        self.addresses = [-1] * len(sizes)
        """Of every item, -1 as long as it is not placed."""
        self._starts = np.append(np.full(len(sizes), NOWHERE), capacity)
        self._ends = np.append(np.full(len(sizes), NOWHERE), 0)

    def put(self, index: int, address: int) -> None:
        """Place an item, or move it."""
        self.addresses[index] = address
        self._starts[index] = address
        self._ends[index] = address + self.sizes[index]

    def lowest(self, index: int) -> int | None:
        """The lowest address at which an item fits into a gap and one of its ranges."""
        found: int | None = None
        for first, last in self._fitting(index):
            fits = last >= first
            gap = int(fits.argmax())
            if fits[gap] and (found is None or first[gap] < found):
                found = int(first[gap])
        return found

    def candidates(self, index: int, *, both_ends: bool, grid: int | None = None) -> list[int]:
        """The lowest and (with `both_ends`) the highest fitting address of every gap and allowed range, ascending.

        With `grid`, also the addresses where the item would begin or end at a multiple of it.
        """
        size = int(self.sizes[index])
        found: set[int] = set()
        for first, last in self._fitting(index):
            fits = last >= first
            begins, ends = first[fits].tolist(), last[fits].tolist()
            found.update(begins)
            if both_ends:
                found.update(ends)
            if grid:
                for begin, end in zip(begins, ends, strict=True):
                    found.update(range(-(-begin // grid) * grid, end + 1, grid))
                    found.update(range(-(-(begin + size) // grid) * grid - size, end + 1, grid))
        return sorted(found)

    def _fitting(self, index: int) -> list[tuple[Array, Array]]:
        """The lowest and the highest address of an item in every gap, for each of its ranges; none if highest < lowest.

        Sorted by themselves, the k-th end and the (k+1)-th start enclose a gap where they are in this order: all that
        starts below has ended.
        """
        near = self.lives.together[index]
        starts, ends = self._starts.take(near), self._ends.take(near)
        starts.sort()
        ends.sort()
        size, ranges = self.sizes[index], self.lives.items[index].ranges
        if not ranges:
            return [(ends, starts - size)]
        return [(np.maximum(ends, low), np.minimum(starts, high) - size) for low, high in ranges]

"""Greedy placement of buffers with lifetimes in several orders, the best kept: fast, and aware of bank conflicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from ...dialects.core.types import Array
from .items import Item

LASTING_SPANS = 64
"""Items that live through more spans of the calendar than this are kept in one list of their own."""

Cost = Callable[[int, Array], Callable[[int], float]]
"""Of an item, given the addresses of all (-1: not placed yet): what it costs at an address."""


def place(items: Sequence[Item], capacity: int, *, alignment: int = 1, cost: Cost | None = None) -> list[int] | None:
    """An address for every item so that no two items that are live together overlap; None if no order fits.

    Orders: by size, by length of life, by begin, by area. Each item goes to the candidate address of least cost (lowest
    address first, highest for items `from_top`), and the first order that fits wins. Without `cost` the items go to
    their lowest addresses, and the packing of least peak wins. Linear in the items and the pairs that live together.
    """
    best: tuple[int, list[int]] | None = None
    for attempt in _attempts(items, capacity, alignment, cost):
        if attempt.stuck is not None:
            continue
        if cost is not None:
            return attempt.addresses
        ends = (a + -(-i.size // alignment) * alignment for a, i in zip(attempt.addresses, items, strict=True))
        peak = max(ends, default=0)
        if best is None or peak < best[0]:
            best = (peak, attempt.addresses)
    return best[1] if best else None


def place_at_ends(items: Sequence[Item], capacity: int) -> list[int] | None:
    """An address for every item, for items that follow each other so that few live together; None if none is found.

    In the order of their begins items go to the free address nearest to either end. Two that live together then never
    split the space between them: all fit where any two neighbours do, and no three live together.
    """
    if not items:
        return []
    begin, end, size = (np.array([getattr(i, name) for i in items]) for name in ("begin", "end", "size"))
    both = [replace(item, from_top=True) for item in items]
    order = sorted(range(len(items)), key=lambda i: (begin[i], -size[i]))

    def distance(index: int, _: Array) -> Callable[[int], float]:
        """From the nearest end; of equal distances that from the lower one is less."""
        highest = capacity - int(size[index])
        return lambda address: min(address, highest - address + 0.5)

    attempt = _place(both, order, begin, end, size, capacity, distance)
    return attempt.addresses if attempt.stuck is None else place(items, capacity)


def stuck(items: Sequence[Item], capacity: int, *, alignment: int = 1) -> int | None:
    """The item for which no place is left in the order that places most bytes; None if everything fits in one."""
    worst: tuple[int, int] | None = None
    for attempt in _attempts(items, capacity, alignment, None):
        if attempt.stuck is None:
            return None
        placed = sum(item.size for item, a in zip(items, attempt.addresses, strict=True) if a >= 0)
        if worst is None or placed > worst[0]:
            worst = (placed, attempt.stuck)
    return worst[1] if worst else None


class _Attempt(NamedTuple):
    """Addresses in one order, -1 from the item on that finds no place: `stuck`."""

    addresses: list[int]
    stuck: int | None


def _attempts(items: Sequence[Item], capacity: int, alignment: int, cost: Cost | None) -> Iterator[_Attempt]:
    """All items in one order after the other: by size, area, length of life, begin."""
    if not items:
        yield _Attempt([], None)
        return
    begin, end, size = (np.array([getattr(i, name) for i in items]) for name in ("begin", "end", "size"))
    rounded = -(-size // alignment) * alignment
    count = range(len(items))
    yield _place(items, sorted(count, key=lambda i: (-rounded[i], begin[i])), begin, end, rounded, capacity, cost)
    area = rounded * (end - begin)
    yield _place(items, sorted(count, key=lambda i: (-area[i], begin[i])), begin, end, rounded, capacity, cost)
    life = end - begin
    yield _place(items, sorted(count, key=lambda i: (-life[i], -rounded[i])), begin, end, rounded, capacity, cost)
    yield _place(items, sorted(count, key=lambda i: (begin[i], -rounded[i])), begin, end, rounded, capacity, cost)


def _place(
    items: Sequence[Item],
    order: list[int],
    begin: Array,
    end: Array,
    size: Array,
    capacity: int,
    cost: Cost | None,
) -> _Attempt:
    addresses = np.full(len(items), -1, np.int64)
    calendar = _Calendar(int(end.max()), len(items))
    for index in order:
        near = calendar.around(int(begin[index]), int(end[index]))
        together = near[(begin[near] < end[index]) & (end[near] > begin[index])]
        free = candidates(addresses[together], size[together], int(size[index]), items[index], capacity)
        if not free:
            return _Attempt(addresses.tolist(), index)
        choice = free[0]
        if cost is not None and len(free) > 1:
            price, sign = cost(index, addresses), -1 if items[index].from_top else 1
            choice = min((price(address), sign * address, address) for address in free)[2]
        addresses[index] = choice
        calendar.add(index, int(begin[index]), int(end[index]))
    return _Attempt(addresses.tolist(), None)


class _Calendar:
    """Placed items by the time they begin, in equal spans, so that those alive around an interval are found quickly."""

    def __init__(self, end: int, items: int) -> None:
        self.span = max(1, end // max(items, 1))
        self.days: list[list[int]] = [[] for _ in range(end // self.span + 1)]
        self.lasting: list[int] = []

    def add(self, index: int, begin: int, end: int) -> None:
        first, last = begin // self.span, (end - 1) // self.span
        (self.lasting if last - first > LASTING_SPANS else self.days[first]).append(index)

    def around(self, begin: int, end: int) -> Array:
        """Indices of the placed items that may be alive at some time in [begin, end), each once."""
        first, last = max(0, begin // self.span - LASTING_SPANS), (end - 1) // self.span
        return np.array([*self.lasting, *chain.from_iterable(self.days[first : last + 1])], np.int64)


def candidates(
    addresses: Array, sizes: Array, size: int, item: Item, capacity: int, *, grid: int | None = None
) -> list[int]:
    """The lowest and (for items `from_top`) the highest fitting address of every gap and allowed range, ascending.

    With `grid`, also the addresses where the item would begin or end at a multiple of it.
    """
    order = np.argsort(addresses, kind="stable")
    starts = addresses[order]
    ends = np.maximum.accumulate(starts + sizes[order]) if len(order) else starts
    gap_begin = np.concatenate([[0], ends])
    gap_end = np.concatenate([starts, [capacity]])
    found: set[int] = set()
    for low, high in item.ranges or ((0, capacity),):
        first, last = np.maximum(gap_begin, low), np.minimum(gap_end, high) - size
        fits = last >= first
        found.update(first[fits].tolist())
        if item.from_top:
            found.update(last[fits].tolist())
        if grid:
            for begin, end in zip(first[fits].tolist(), last[fits].tolist(), strict=True):
                found.update(range(-(-begin // grid) * grid, end + 1, grid))
                found.update(range(-(-(begin + size) // grid) * grid - size, end + 1, grid))
    return sorted(found)

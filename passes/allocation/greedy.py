"""Greedy placement of buffers with lifetimes in several orders, the best kept: fast, and aware of bank conflicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...dialects.core.types import Array
from .items import Item
from .room import Lives, Room

Cost = Callable[[int, Sequence[int]], Callable[[int], float]]
"""Of an item, given the addresses of all (-1: not placed yet): what it costs at an address."""


def place(items: Sequence[Item], capacity: int, *, alignment: int = 1, cost: Cost | None = None) -> list[int] | None:
    """An address for every item so that no two items that are live together overlap; None if no order fits.

    Orders: by size, by area, by length of life, by begin. Each item goes to the candidate address of least cost (lowest
    address first, highest for items `from_top`), and the first order that fits wins. Without `cost` the items go to
    their lowest addresses, and the packing of least peak wins. Linear in the items and the pairs that live together.
    """
    best: tuple[int, list[int]] | None = None
    lives = Lives(items)
    rounded = _rounded(lives.size, alignment)
    for order in _orders(lives, rounded):
        room = Room(lives, rounded, capacity)
        if _stuck(room, order, cost) is not None:
            continue
        if cost is not None:
            return room.addresses
        peak = int((np.array(room.addresses, np.int64) + rounded).max(initial=0))
        if best is None or peak < best[0]:
            best = (peak, room.addresses)
    return best[1] if best else None


def place_at_ends(items: Sequence[Item], capacity: int) -> list[int] | None:
    """An address for every item, for items that follow each other so that few live together; None if none is found.

    In the order of their begins items go to the free address nearest to either end. Two that live together then never
    split the space between them: all fit where any two neighbours do, and no three live together.
    """
    lives = Lives([replace(item, from_top=True) for item in items])

    def distance(index: int, _: Sequence[int]) -> Callable[[int], float]:
        """From the nearest end; of equal distances that from the lower one is less."""
        highest = capacity - items[index].size
        return lambda address: min(address, highest - address + 0.5)

    room = Room(lives, lives.size, capacity)
    by_begin = _orders(lives, lives.size)[-1]
    return room.addresses if _stuck(room, by_begin, distance) is None else place(items, capacity)


def stuck(items: Sequence[Item], capacity: int, *, alignments: Sequence[int] = (1,)) -> int | None:
    """None if everything fits in some order with some of the alignments.

    Otherwise the item for which no place is left with the last alignment, in the order that places most bytes.
    """
    lives = Lives(items)
    sizes = [_rounded(lives.size, alignment) for alignment in alignments]
    worst: tuple[int, int, int] | None = None
    for rounded, last in zip(sizes, [*sizes[1:], None], strict=True):
        if last is not None and np.array_equal(rounded, last):
            continue
        worst = None
        # by begin first, as that is what fits most often
        for number, order in reversed(list(enumerate(_orders(lives, rounded)))):
            room = Room(lives, rounded, capacity)
            index = _stuck(room, order, None)
            if index is None:
                return None
            placed = int(lives.size[np.array(room.addresses) >= 0].sum())
            worst = max(worst or (0, 0, 0), (placed, -number, index))
    return worst[2] if worst else None


def _rounded(size: Array, alignment: int) -> Array:
    return -(-size // alignment) * alignment


def _orders(lives: Lives, rounded: Array) -> list[list[int]]:
    """The items by size, by area (size times life), by length of life, by begin."""
    begin, life = lives.begin, lives.end - lives.begin
    keys = ((begin, -rounded), (begin, -rounded * life), (-rounded, -life), (-rounded, begin))
    return [np.lexsort(key).tolist() for key in keys]


def _stuck(room: Room, order: Sequence[int], cost: Cost | None) -> int | None:
    """Place items in an order, each at its cheapest or, without `cost`, lowest address; the first that finds none."""
    for index in order:
        if cost is None:
            choice = room.lowest(index)
        else:
            from_top = room.lives.items[index].from_top
            free = room.candidates(index, both_ends=from_top)
            choice = free[0] if free else None
            if len(free) > 1:
                price, sign = cost(index, room.addresses), -1 if from_top else 1
                choice = min((price(address), sign * address, address) for address in free)[2]
        if choice is None:
            return index
        room.put(index, choice)
    return None

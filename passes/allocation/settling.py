"""Moving single buffers of a packing to where they cost less, while all others stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .greedy import Cost, candidates
from .items import Item

ROUNDS = 4
"""Times that every buffer may move; most of what can be gained is gained in the first two."""


def settle(
    items: Sequence[Item],
    addresses: Sequence[int],
    capacity: int,
    alignment: int,
    cost: Cost,
    *,
    grid: int | None = None,
) -> list[int]:
    """The packing with its dearest buffers, one by one, in their cheapest gaps; no cost grows, and the peak may.

    Places at the ends of gaps are tried, and those that begin or end at multiples of `grid`, where costs change. Of the
    places that cost the same a buffer takes the lowest, and stays if no place costs less. Addresses, ranges, `capacity`
    and `grid` are multiples of `alignment`. Quadratic in the items, with a small constant.
    """
    begin, end, size = (np.array([getattr(i, name) for i in items], np.int64) for name in ("begin", "end", "size"))
    rounded = -(-size // alignment) * alignment
    places = np.array(addresses, np.int64)
    for _ in range(ROUNDS):
        costs = [cost(index, places)(int(places[index])) for index in range(len(items))]
        moved = False
        for index in sorted(range(len(items)), key=lambda i: -costs[i]):
            price = cost(index, places)
            now = price(int(places[index]))
            if not now:
                continue
            near = (begin < end[index]) & (end > begin[index])
            near[index] = False
            item = replace(items[index], from_top=True)
            free = candidates(places[near], rounded[near], int(rounded[index]), item, capacity, grid=grid)
            least, place = min(((price(address), address) for address in free), default=(now, 0))
            if least < now:
                places[index] = place
                moved = True
        if not moved:
            break
    return [int(place) for place in places]

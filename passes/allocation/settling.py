"""Moving single buffers of a packing to where they cost less, while all others stay."""

from __future__ import annotations

from collections.abc import Sequence

from .greedy import Cost
from .items import Item
from .room import Lives, Room

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
    and `grid` are multiples of `alignment`.
    """
    lives = Lives(items)
    room = Room(lives, -(-lives.size // alignment) * alignment, capacity)
    for index, address in enumerate(addresses):
        room.put(index, address)
    for _ in range(ROUNDS):
        costs = [cost(index, room.addresses)(address) for index, address in enumerate(room.addresses)]
        moved = False
        for index in sorted(range(len(items)), key=lambda i: -costs[i]):
            price = cost(index, room.addresses)
            now = price(room.addresses[index])
            if not now:
                continue
            free = room.candidates(index, both_ends=True, grid=grid)
            least, place = min(((price(address), address) for address in free), default=(now, 0))
            if least < now:
                room.put(index, place)
                moved = True
        if not moved:
            break
    return room.addresses

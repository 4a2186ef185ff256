"""Free addresses: those of a count unit by unit, whoever lies where."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from machine.packings import lifetimes

from accelc.passes.allocation.items import Item
from accelc.passes.allocation.room import Lives, Room

CAPACITY = 40


def free_addresses(items: Sequence[Item], addresses: Sequence[int], index: int) -> list[int]:
    """Every address at which an item overlaps none that is placed and alive with it, and lies in a range."""
    item = items[index]
    taken = {
        unit
        for other, address in zip(items, addresses, strict=True)
        if address >= 0 and other is not item and other.begin < item.end and item.begin < other.end
        for unit in range(address, address + other.size)
    }
    ranges = item.ranges or ((0, CAPACITY),)
    return [
        address
        for address in range(CAPACITY)
        if taken.isdisjoint(range(address, address + item.size))
        and any(low <= address and address + item.size <= high for low, high in ranges)
    ]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(lifetimes(8, ranges=True), st.data())
def test_gaps_are_those_that_a_count_of_units_finds(items: list[Item], data: st.DataObject) -> None:
    room = Room(Lives(items), Lives(items).size, CAPACITY)
    for index in data.draw(st.permutations(range(len(items)))):
        free = free_addresses(items, room.addresses, index)
        assert room.lowest(index) == min(free, default=None)
        found = room.candidates(index, both_ends=True)
        assert set(found) <= set(free)
        ends = {address for address in free if address - 1 not in free or address + 1 not in free}
        assert ends <= set(found), "gaps, and ranges in them, end there"
        if free:
            room.put(index, data.draw(st.sampled_from(free)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(lifetimes(12))
def test_who_lives_together(items: list[Item]) -> None:
    for index, found in enumerate(Lives(items).together):
        expected = [
            other
            for other, item in enumerate(items)
            if other != index and item.begin < items[index].end and items[index].begin < item.end
        ]
        assert sorted(found.tolist()) == [*expected, len(items)]

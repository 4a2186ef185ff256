"""Buffers that follow each other lie where the memory has been free for longest."""

from hypothesis import given
from hypothesis import strategies as st

from accelc.passes.allocation.greedy import place_at_ends
from accelc.passes.allocation.items import Item
from accelc.passes.allocation.turns import place_in_turn


def chain(sizes: list[int], overlap: int = 1) -> list[Item]:
    """Items that begin one after the other and live until `overlap` later ones have begun."""
    return [Item(index, index + overlap + 1, size) for index, size in enumerate(sizes)]


def test_turns_are_taken_as_long_as_there_is_room() -> None:
    """Four places for results of which two are live: each is free for two steps before it is used again."""
    assert place_in_turn(chain([25] * 6), 100) == [0, 25, 50, 75, 0, 25]


def test_a_result_does_not_split_the_room_that_the_next_one_needs() -> None:
    """The second of 30 would go to address 30, between which and the end there is no room for 60."""
    items = [Item(0, 1, 30), Item(1, 3, 30), Item(2, 3, 60)]
    found = place_in_turn(items, 100)
    assert found is not None
    assert found[1] in (0, 70)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(0, 2))
def test_all_that_fits_at_the_ends_fits_in_turn(sizes: list[int], overlap: int) -> None:
    """And no two that live together overlap, or lie outside."""
    items = chain(sizes, overlap)
    found = place_in_turn(items, 100)
    assert (found is None) <= (place_at_ends(items, 100) is None)
    if found is not None:
        for index, (item, address) in enumerate(zip(items, found, strict=True)):
            assert 0 <= address <= 100 - item.size
            for other in range(index):
                if items[other].end > item.begin:
                    assert address >= found[other] + items[other].size or found[other] >= address + item.size

"""Packing instances at random, an independent checker, and brute force."""

import itertools
from collections.abc import Sequence

from hypothesis import strategies as st

from accelc.passes.allocation.items import Item


def assert_valid(items: list[Item], addresses: Sequence[int], capacity: int, alignment: int = 1) -> None:
    """Every unit of every item at every time of its life belongs to it alone and lies where it may."""
    owner: dict[tuple[int, int], int] = {}
    for number, (item, address) in enumerate(zip(items, addresses, strict=True)):
        ranges = item.ranges or ((0, capacity),)
        assert any(low <= address and address + item.size <= high for low, high in ranges), (item, address)
        assert address % alignment == 0
        for place in itertools.product(range(item.begin, item.end), range(address, address + item.size)):
            assert owner.setdefault(place, number) == number, f"{items[owner[place]]} and {item} share {place}"


def assert_disjoint(items: list[Item], offsets: Sequence[int], capacity: int) -> None:
    """The same for items without ranges, pair by pair, for sizes that cannot be counted out."""
    for number, (item, offset) in enumerate(zip(items, offsets, strict=True)):
        assert 0 <= offset <= capacity - item.size, (item, offset)
        for other, place in zip(items[:number], offsets[:number], strict=True):
            together = item.begin < other.end and other.begin < item.end
            assert not together or offset >= place + other.size or place >= offset + item.size, (item, other)


def smallest_peak(items: list[Item]) -> int | None:
    """The peak of the best packing: some order, placed one by one as low as possible, gives it; None if none does."""
    best, found = sum(item.size for item in items) + max(h for i in items for _, h in i.ranges or ((0, 0),)), False
    for order in itertools.permutations(range(len(items))):
        placed: list[tuple[Item, int]] = []
        for index in order:
            item = items[index]
            together = [(a, a + o.size) for o, a in placed if o.begin < item.end and item.begin < o.end]
            ranges = item.ranges or ((0, best),)
            fitting = [
                start
                for start in (*(low for low, _ in ranges), *(end for _, end in together))
                if all(start >= high or start + item.size <= low for low, high in together)
                and any(low <= start and start + item.size <= high for low, high in ranges)
            ]
            if not fitting:
                break
            address = min(fitting)
            placed.append((item, address))
        else:
            found = True
            best = min(best, max(address + item.size for item, address in placed))
    return best if found else None


@st.composite
def lifetimes(draw: st.DrawFn, most: int, *, ranges: bool = False) -> list[Item]:
    items: list[Item] = []
    for _ in range(draw(st.integers(1, most))):
        begin = draw(st.integers(0, 8))
        allowed = draw(st.sampled_from([(), (), ((0, 12),), ((4, 10), (14, 24))])) if ranges else ()
        item = Item(begin, begin + draw(st.integers(1, 6)), draw(st.integers(1, 6)), allowed, draw(st.booleans()))
        items.append(item)
    return items


@st.composite
def cut_rectangles(draw: st.DrawFn, most: int) -> tuple[list[Item], int]:
    """A rectangle of time and addresses cut across, again and again: items that fill it, and its height."""
    width, height = draw(st.integers(4, 40)), draw(st.integers(4, 60))
    parts = [(0, width, 0, height)]
    for _ in range(draw(st.integers(1, most - 1))):
        index = draw(st.integers(0, len(parts) - 1))
        left, right, low, high = parts[index]
        along_time = draw(st.booleans())
        if right - left > 1 and (along_time or high - low == 1):
            cut = draw(st.integers(left + 1, right - 1))
            parts[index] = (left, cut, low, high)
            parts.append((cut, right, low, high))
        elif high - low > 1:
            cut = draw(st.integers(low + 1, high - 1))
            parts[index] = (left, right, low, cut)
            parts.append((left, right, cut, high))
    order = draw(st.permutations(range(len(parts))))
    return [Item(parts[i][0], parts[i][1], parts[i][3] - parts[i][2]) for i in order], height

"""Packing lifetimes into addresses: an independent checker, brute force on tiny instances, the lower bound."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.passes.allocation.packing import Item, lower_bound, pack


def assert_valid(items: list[Item], addresses: list[int], capacity: int, alignment: int = 1) -> None:
    """Every unit of every item at every time of its life belongs to it alone and lies where it may."""
    owner: dict[tuple[int, int], int] = {}
    for number, (item, address) in enumerate(zip(items, addresses, strict=True)):
        ranges = item.ranges or ((0, capacity),)
        assert any(low <= address and address + item.size <= high for low, high in ranges), (item, address)
        assert address % alignment == 0
        for place in itertools.product(range(item.begin, item.end), range(address, address + item.size)):
            assert owner.setdefault(place, number) == number, f"{items[owner[place]]} and {item} share {place}"


def smallest_peak(items: list[Item]) -> int:
    """The peak of the best packing: some order, placed one by one as low as possible, gives it."""
    best = sum(item.size for item in items)
    for order in itertools.permutations(range(len(items))):
        placed: list[tuple[Item, int]] = []
        for index in order:
            item = items[index]
            together = [(a, a + o.size) for o, a in placed if o.begin < item.end and item.begin < o.end]
            address = min(
                start
                for start in (0, *(end for _, end in together))
                if all(start >= high or start + item.size <= low for low, high in together)
            )
            placed.append((item, address))
        best = min(best, max(address + item.size for item, address in placed))
    return best


@st.composite
def lifetimes(draw: st.DrawFn, most: int, *, ranges: bool = False) -> list[Item]:
    items: list[Item] = []
    for _ in range(draw(st.integers(1, most))):
        begin = draw(st.integers(0, 8))
        allowed = draw(st.sampled_from([(), (), ((0, 12),), ((4, 10), (14, 24))])) if ranges else ()
        item = Item(begin, begin + draw(st.integers(1, 6)), draw(st.integers(1, 6)), allowed, draw(st.booleans()))
        items.append(item)
    return items


@settings(max_examples=150, deadline=None, derandomize=True)
@given(lifetimes(14, ranges=True), st.sampled_from([16, 24, 40]), st.sampled_from([1, 4]))
def test_packings_are_valid(items: list[Item], capacity: int, alignment: int) -> None:
    rounded = [Item(i.begin, i.end, i.size, (), i.from_top) for i in items] if alignment > 1 else items
    addresses = pack(rounded, capacity, alignment=alignment)
    if addresses is not None:
        assert_valid(rounded, addresses, capacity, alignment)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(lifetimes(14, ranges=True), st.integers(0, 3))
def test_packings_with_a_cost_are_valid(items: list[Item], seed: int) -> None:
    costs = np.random.default_rng(seed).random((len(items), 64))
    addresses = pack(items, 60, cost=lambda index, address, placed: float(costs[index, address]))
    if addresses is not None:
        assert_valid(items, addresses, 60)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(lifetimes(5))
def test_tiny_packings_are_near_the_best(items: list[Item]) -> None:
    best = smallest_peak(items)
    assert lower_bound(items) <= best
    addresses = pack(items, 64)
    assert addresses is not None
    peak = max(address + item.size for address, item in zip(addresses, items, strict=True))
    assert best <= peak <= best + max(item.size for item in items) - 1


def test_the_order_of_size_finds_a_packing_that_the_order_of_time_misses() -> None:
    items = [Item(0, 2, 1), Item(0, 4, 2), Item(2, 6, 3), Item(4, 6, 1), Item(0, 6, 2)]
    assert smallest_peak(items) == 7
    addresses = pack(items, 7)
    assert addresses is not None
    assert_valid(items, addresses, 7)


def test_lower_bound_is_the_largest_sum_of_sizes_at_one_time() -> None:
    items = [Item(0, 3, 5), Item(2, 4, 7), Item(3, 9, 4), Item(4, 5, 1)]
    assert lower_bound(items) == 12
    assert lower_bound([]) == 0
    assert lower_bound([Item(0, 1, 9), Item(1, 2, 9)]) == 9, "one ends where the other begins"


def test_what_cannot_fit_is_none() -> None:
    assert pack([Item(0, 2, 5), Item(1, 3, 5)], 9) is None
    assert pack([Item(0, 1, 5, ((0, 4), (6, 10)))], 100) is None, "neither range has five units"
    assert pack([], 0) == []


def test_families_stay_apart() -> None:
    items = [Item(0, 4, 2), Item(0, 4, 3, from_top=True), Item(1, 3, 4), Item(1, 3, 1, from_top=True)]
    addresses = pack(items, 100, cost=lambda index, address, placed: 0.0)
    assert addresses is not None
    low = max(addresses[i] + items[i].size for i in (0, 2))
    high = min(addresses[i] for i in (1, 3))
    assert (low, high) == (6, 96)


def test_lifetimes_that_touch_may_share_an_address() -> None:
    assert pack([Item(0, 1, 8), Item(1, 2, 8), Item(2, 3, 8)], 8) == [0, 0, 0]

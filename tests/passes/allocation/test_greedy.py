"""Greedy placement: valid by an independent checker, near the best on tiny instances; the lower bound."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.packings import assert_valid, lifetimes, smallest_peak

from accelc.passes.allocation.greedy import place
from accelc.passes.allocation.items import Item, lower_bound


@settings(max_examples=150, deadline=None, derandomize=True)
@given(lifetimes(14, ranges=True), st.sampled_from([16, 24, 40]), st.sampled_from([1, 4]))
def test_packings_are_valid(items: list[Item], capacity: int, alignment: int) -> None:
    rounded = [Item(i.begin, i.end, i.size, (), i.from_top) for i in items] if alignment > 1 else items
    addresses = place(rounded, capacity, alignment=alignment)
    if addresses is not None:
        assert_valid(rounded, addresses, capacity, alignment)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(lifetimes(14, ranges=True), st.integers(0, 3))
def test_packings_with_a_cost_are_valid(items: list[Item], seed: int) -> None:
    costs = np.random.default_rng(seed).random((len(items), 64))
    addresses = place(items, 60, cost=lambda index, placed: lambda address: float(costs[index, address]))
    if addresses is not None:
        assert_valid(items, addresses, 60)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(lifetimes(5))
def test_tiny_packings_are_near_the_best(items: list[Item]) -> None:
    best = smallest_peak(items)
    assert lower_bound(items) <= best
    addresses = place(items, 64)
    assert addresses is not None
    peak = max(address + item.size for address, item in zip(addresses, items, strict=True))
    assert best <= peak <= best + max(item.size for item in items) - 1


def test_the_order_of_size_finds_a_packing_that_the_order_of_time_misses() -> None:
    items = [Item(0, 2, 1), Item(0, 4, 2), Item(2, 6, 3), Item(4, 6, 1), Item(0, 6, 2)]
    assert smallest_peak(items) == 7
    addresses = place(items, 7)
    assert addresses is not None
    assert_valid(items, addresses, 7)


def test_lower_bound_is_the_largest_sum_of_sizes_at_one_time() -> None:
    items = [Item(0, 3, 5), Item(2, 4, 7), Item(3, 9, 4), Item(4, 5, 1)]
    assert lower_bound(items) == 12
    assert lower_bound([]) == 0
    assert lower_bound([Item(0, 1, 9), Item(1, 2, 9)]) == 9, "one ends where the other begins"


def test_what_cannot_fit_is_none() -> None:
    assert place([Item(0, 2, 5), Item(1, 3, 5)], 9) is None
    assert place([Item(0, 1, 5, ((0, 4), (6, 10)))], 100) is None, "neither range has five units"
    assert place([], 0) == []


def test_families_stay_apart() -> None:
    items = [Item(0, 4, 2), Item(0, 4, 3, from_top=True), Item(1, 3, 4), Item(1, 3, 1, from_top=True)]
    addresses = place(items, 100, cost=lambda index, placed: lambda address: 0.0)
    assert addresses is not None
    low = max(addresses[i] + items[i].size for i in (0, 2))
    high = min(addresses[i] for i in (1, 3))
    assert (low, high) == (6, 96)


def test_lifetimes_that_touch_may_share_an_address() -> None:
    assert place([Item(0, 1, 8), Item(1, 2, 8), Item(2, 3, 8)], 8) == [0, 0, 0]

"""Settling: packings stay valid and no cost grows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.packings import assert_valid, lifetimes

from accelc.passes.allocation.greedy import place
from accelc.passes.allocation.items import Item
from accelc.passes.allocation.settling import settle


@settings(max_examples=80, deadline=None, derandomize=True)
@given(lifetimes(12, ranges=True), st.integers(0, 3), st.sampled_from([None, 5, 8]))
def test_packings_stay_valid_and_get_no_dearer(items: list[Item], seed: int, grid: int | None) -> None:
    prices = np.random.default_rng(seed).integers(0, 4, (len(items), 64))
    addresses = place(items, 60)
    if addresses is None:
        return
    settled = settle(
        items, addresses, 60, 1, lambda index, placed: lambda address: float(prices[index, address]), grid=grid
    )
    assert_valid(items, settled, 60)
    for index, (before, after) in enumerate(zip(addresses, settled, strict=True)):
        assert prices[index, after] <= prices[index, before]


def test_a_buffer_moves_to_the_cheapest_gap() -> None:
    items = [Item(0, 2, 4), Item(0, 2, 4), Item(1, 3, 4)]
    far = [0.0, 0.0, 1.0]
    settled = settle(items, [0, 4, 8], 40, 4, lambda index, placed: lambda address: far[index] * abs(address - 20))
    assert settled == [0, 4, 8], "8 and 36 are the gap's ends, and 8 is nearer"
    settled = settle(items, [0, 4, 8], 40, 4, lambda index, placed: lambda address: far[index] * abs(address - 30))
    assert settled == [0, 4, 36]


def test_a_buffer_moves_to_the_middle_of_a_gap_where_a_group_begins_or_ends() -> None:
    items = [Item(0, 2, 4), Item(0, 2, 3)]
    costs = {0: 1.0, 4: 1.0, 37: 1.0, 16: 0.0, 13: 0.5}
    assert settle(items, [36, 0], 40, 1, lambda index, placed: lambda address: index * costs.get(address, 2.0)) == [
        36,
        0,
    ]
    assert settle(
        items, [36, 0], 40, 1, lambda index, placed: lambda address: index * costs.get(address, 2.0), grid=16
    ) == [
        36,
        16,
    ]
    costs[16] = 2.0
    assert settle(
        items, [36, 0], 40, 1, lambda index, placed: lambda address: index * costs.get(address, 2.0), grid=16
    ) == [
        36,
        13,
    ]

"""The exact search: brute force on tiny instances, rectangles without waste, the public instances."""

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.packings import assert_disjoint, assert_valid, cut_rectangles, lifetimes, smallest_peak
from models import SHARED

from accelc.passes.allocation.items import Item, lower_bound
from accelc.passes.allocation.packing import pack
from accelc.passes.allocation.search import Stopped

MEBIBYTE = 1 << 20


def read(name: str) -> list[Item]:
    """One of the public instances."""
    path = SHARED / "allocation" / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with path.open() as file:
        return [Item(int(row["lower"]), int(row["upper"]), int(row["size"])) for row in csv.DictReader(file)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(lifetimes(6, ranges=True), st.integers(0, 3))
def test_tiny_instances_are_packed_as_well_as_brute_force_can(items: list[Item], seed: int) -> None:
    best = smallest_peak(items)
    if best is None:
        assert pack(items, 100, seed=seed, budget=5000).offsets is None
        return
    found = pack(items, best, seed=seed, budget=20_000)
    assert found.offsets is not None and found.peak == best
    assert_valid(items, found.offsets, best)
    less = pack(items, best - 1, seed=seed, budget=20_000)
    assert not less.fits(best - 1)
    assert less.lower_bound == best or lower_bound(items) == best, "the search ends with a proof"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(lifetimes(12, ranges=True), st.sampled_from([1, 2, 4]), st.integers(10, 40))
def test_packings_are_valid(items: list[Item], alignment: int, capacity: int) -> None:
    found = pack(items, capacity, alignment=alignment, budget=3000)
    if found.fits(capacity):
        assert found.offsets is not None
        assert_valid(items, found.offsets, capacity, alignment)
    if found.offsets is not None:
        assert_valid(items, found.offsets, max(found.peak, 100), alignment)
        assert lower_bound(items) <= found.lower_bound <= found.peak


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cut_rectangles(40))
def test_rectangles_are_packed_without_waste(case: tuple[list[Item], int]) -> None:
    items, height = case
    found = pack(items, height, budget=100_000)
    assert found.fits(height) and found.proven
    assert found.offsets is not None
    assert_disjoint(items, found.offsets, height)


@pytest.mark.parametrize("name", ["B", "C", "D", "F"])
def test_public_instances_fit(name: str) -> None:
    items = read(name)
    found = pack(items, MEBIBYTE)
    assert found.offsets is not None and found.peak <= MEBIBYTE
    assert_disjoint(items, found.offsets, MEBIBYTE)


def test_results_repeat_for_a_seed() -> None:
    items = [Item(i * 7 % 23, i * 7 % 23 + 3 + i % 5, 1 + i * 11 % 13) for i in range(60)]
    bound = lower_bound(items)
    assert pack(items, bound, seed=3) == pack(items, bound, seed=3)


def test_a_search_that_is_stopped_keeps_the_best_so_far() -> None:
    items = read("A")
    greedy = pack(items, MEBIBYTE, budget=0)
    assert greedy.offsets is not None and greedy.peak > MEBIBYTE

    def stop(steps: int) -> None:
        nonlocal left
        left -= steps
        if left < 0:
            raise Stopped

    left = 6000
    found = pack(items, MEBIBYTE, poll=stop)
    assert found.offsets is not None and MEBIBYTE < found.peak < greedy.peak
    assert_disjoint(items, found.offsets, found.peak)


def test_twins_are_not_tried_in_every_order() -> None:
    """Nine equal buffers of which eight fit: one failure is enough, though there are 9! orders."""
    items = [Item(0, 2, 3)] * 9 + [Item(1, 3, 2)]
    found = pack(items, 28, budget=200)
    assert not found.fits(28) and found.lower_bound == 29


def test_nothing_to_pack() -> None:
    assert pack([], 0).offsets == ()

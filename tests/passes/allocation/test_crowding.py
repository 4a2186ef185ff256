"""Where buffers do not fit: too much is live, or a place is missing, and nowhere else."""

from typing import Any

import numpy as np
import pytest
from machine.packings import assert_valid

from accelc.backends.target import load_target
from accelc.dialects.core.operation import Operation, Value
from accelc.dialects.tile.memory import AllocOp
from accelc.dialects.tile.movement import MoveOp
from accelc.dialects.tile.types import BufferType
from accelc.passes.allocation.crowding import crowding
from accelc.passes.allocation.greedy import place_at_ends, stuck
from accelc.passes.allocation.items import Item

TARGET = load_target("tile16")


def buffer(share: float) -> Value[Any]:
    return AllocOp((), (BufferType("sram", int(TARGET.sram_bytes * share)),)).buffer


def moves(*pairs: tuple[Value[Any], Value[Any]]) -> list[Operation]:
    return [MoveOp([source, target], (), {"size3": 1}) for source, target in pairs]


def test_what_fits_is_not_crowded() -> None:
    a, b, c = buffer(0.5), buffer(0.5), buffer(0.5)
    assert crowding(moves((a, b), (b, c)), TARGET, search=False) is None


def test_more_live_bytes_than_there_are_lack_where_they_meet() -> None:
    a, b, c = buffer(0.25), buffer(0.5), buffer(0.75)
    found = crowding(moves((a, b), (a, b), (b, c)), TARGET, search=True)
    assert found is not None
    assert found.live.tolist() == [0.75 * TARGET.sram_bytes, 0.75 * TARGET.sram_bytes, 1.25 * TARGET.sram_bytes]
    assert found.lacking.tolist() == [0, 0, 0.25 * TARGET.sram_bytes]


def test_accumulators_without_a_place_lack_room_while_they_live() -> None:
    """The bytes of the SRAM all fit: what is short are the rows, so units must run beside fewer others."""
    a, b, c, d = (
        AllocOp((), (BufferType("acc", TARGET.accumulators.rows // 2 + 1),), {"columns": 16}).buffer for _ in range(4)
    )
    found = crowding(moves((a, a), (b, c), (d, d)), TARGET, search=True)
    assert found is not None
    assert (found.lacking > 0).tolist() == [False, True, False]


@pytest.mark.parametrize("seed", range(20))
def test_items_of_which_two_live_together_always_fit_from_both_ends(seed: int) -> None:
    chance = np.random.default_rng(seed)
    items = [Item(i, i + 2, int(chance.integers(1, 51))) for i in range(40)]
    addresses = place_at_ends(items, 100)
    assert addresses is not None
    assert_valid(items, addresses, 100)


def test_the_item_that_is_stuck_is_named() -> None:
    assert stuck([Item(0, 2, 6), Item(2, 4, 6), Item(1, 3, 5)], 10) == 2
    assert stuck([Item(0, 2, 5), Item(1, 3, 5)], 10) is None


def test_an_item_is_stuck_only_if_it_is_with_every_alignment() -> None:
    items = [Item(0, 2, 5), Item(1, 3, 5)]
    assert stuck(items, 10, alignments=(4,)) == 1
    assert stuck(items, 10, alignments=(4, 1)) is None
    assert stuck([Item(0, 2, 4), Item(1, 3, 8)], 11, alignments=(4, 2)) == 0, "the larger one is placed"

"""Loads move ahead: in their order, not beyond the capacity, and never before the store of what they read."""

from typing import Any

import numpy as np
import pytest

from accelc.dialects.core.operation import Operation, Value
from accelc.dialects.tile.memory import AllocOp, LoadOp, StoreOp
from accelc.dialects.tile.movement import MoveOp
from accelc.dialects.tile.types import BufferType
from accelc.passes.scheduling.prefetch import Prefetcher

SIZE = 64


def buffer(space: str = "sram") -> Value[Any]:
    return AllocOp((), (BufferType(space, SIZE),)).buffer


def load(source: Value[Any], destination: Value[Any]) -> LoadOp:
    return LoadOp([source, destination], (), {"run": SIZE})


def move(source: Value[Any], destination: Value[Any]) -> MoveOp:
    return MoveOp([source, destination], (), {"size3": SIZE})


def store(source: Value[Any], destination: Value[Any]) -> StoreOp:
    return StoreOp([source, destination], (), {"run": SIZE})


def pairs_of_load_and_move(count: int) -> list[Operation]:
    """Each result is stored, so that a move keeps two buffers alive for two instructions."""
    operations: list[Operation] = []
    for _ in range(count):
        a, b = buffer(), buffer()
        operations += [load(buffer("dram"), a), move(a, b), store(b, buffer("dram"))]
    return operations


def most_alive(operations: list[Operation]) -> int:
    spans: dict[Value[Any], tuple[int, int]] = {}
    for position, op in enumerate(operations):
        for value in op.operands:
            if value.type.space == "sram":
                spans[value] = (spans.get(value, (position, 0))[0], position)
    return max(
        sum(value.type.size for value, (first, last) in spans.items() if first <= position <= last)
        for position in range(len(operations))
    )


@pytest.mark.parametrize("capacity", [SIZE, 2 * SIZE, 3 * SIZE, 100 * SIZE])
def test_loads_run_ahead_as_far_as_the_capacity_allows(capacity: int) -> None:
    operations = pairs_of_load_and_move(6)
    ahead = Prefetcher(operations).within(capacity)
    assert [op for op in ahead if isinstance(op, LoadOp)] == [op for op in operations if isinstance(op, LoadOp)]
    assert [op for op in ahead if not isinstance(op, LoadOp)] == [op for op in operations if not isinstance(op, LoadOp)]
    assert most_alive(ahead) <= max(capacity, most_alive(operations))
    moved = sum(ahead.index(op) < operations.index(op) for op in operations if isinstance(op, LoadOp))
    assert moved == (0 if capacity == SIZE else 5), "only the first load cannot move"
    if capacity == 100 * SIZE:
        assert all(isinstance(op, LoadOp) for op in ahead[:6])


def test_loads_leave_more_room_where_they_must() -> None:
    """Where the fourth pair runs, slots 6 and 7, there is room for two: its own, then the second and another."""
    operations = pairs_of_load_and_move(6)
    loads = Prefetcher(operations)
    room = np.full(loads.length, 100 * SIZE)
    room[6:8] = 2 * SIZE
    ahead = loads.within(room)
    slots = dict(zip(ahead, loads.slots(ahead).tolist(), strict=True))
    assert [slots[op] for op in operations if isinstance(op, LoadOp)] == [0, 0, 0, 0, 7, 8]
    assert [slots[op] for op in operations if not isinstance(op, LoadOp)] == list(range(12))


def test_a_load_stays_behind_the_store_of_what_it_reads() -> None:
    spilled, a, b, c, d = buffer("dram"), buffer(), buffer(), buffer(), buffer()
    stored = store(a, spilled)
    again = load(spilled, c)
    operations: list[Operation] = [load(buffer("dram"), a), stored, move(a, b), move(b, b), again, move(c, d)]
    ahead = Prefetcher(operations).within(100 * SIZE)
    assert ahead.index(again) == ahead.index(stored) + 1


def test_a_load_into_a_buffer_that_is_in_use_stays() -> None:
    a, b = buffer(), buffer()
    again = load(buffer("dram"), a)
    operations: list[Operation] = [load(buffer("dram"), a), move(a, b), again, move(a, b)]
    assert Prefetcher(operations).within(100 * SIZE) == operations

"""Constants stay in SRAM for later readers, if there is room for them until then."""

from typing import Any

import numpy as np
import pytest

from accelc.dialects.core.operation import Constant, Module, Operation, Value
from accelc.dialects.tile.memory import AllocOp, LoadOp
from accelc.dialects.tile.movement import MoveOp
from accelc.dialects.tile.types import BufferType
from accelc.passes.scheduling.reuse import read_instead, repeated_loads

SIZE = 64


def buffer(space: str = "sram") -> Value[Any]:
    return AllocOp((), (BufferType(space, SIZE),)).buffer


def constant(fill: int) -> Constant:
    return Module().add_constant("weights", np.full(2 * SIZE, fill, np.int8))


def reading(source: Value[Any], offset: int = 0) -> list[Operation]:
    """A load into a new buffer, and what reads it."""
    place = buffer()
    load = LoadOp([source, place], (), {"run": SIZE, "source_offset": offset, "layer": offset})
    return [load, MoveOp([place, buffer()], (), {"size3": SIZE})]


def left(operations: list[Operation], room: int) -> list[Operation]:
    buffers = repeated_loads(operations, room)
    return [op for op, needed in zip(operations, list(read_instead(operations, buffers)), strict=True) if needed]


@pytest.mark.parametrize(("room", "loads"), [(3 * SIZE, 2), (3 * SIZE - 1, 3)])
def test_a_constant_is_kept_while_there_is_room(room: int, loads: int) -> None:
    """Between its readers two other buffers are live."""
    weights = constant(1)
    operations = [*reading(weights), *reading(constant(2)), *reading(weights)]
    kept = left(operations, room)
    assert sum(isinstance(op, LoadOp) for op in kept) == loads
    assert (kept[-1].operands[0] is kept[0].operands[1]) == (loads == 2)


def test_a_constant_that_stays_leaves_room_for_another_as_long_as_it_is_read_again() -> None:
    weights, other = constant(1), constant(2)
    operations = [op for _ in range(4) for source in (weights, other) for op in reading(source)]
    assert sum(isinstance(op, LoadOp) for op in left(operations, 3 * SIZE)) == 2


@pytest.mark.parametrize("fault", ["another part", "a buffer of the host", "written twice"])
def test_other_bytes_are_loaded(fault: str) -> None:
    weights = buffer("dram") if fault == "a buffer of the host" else constant(1)
    operations = reading(weights) + reading(weights, SIZE if fault == "another part" else 0)
    if fault == "written twice":
        operations.insert(3, LoadOp([weights, operations[2].operands[1]], (), {"run": 1}))
    assert left(operations, 100 * SIZE) == operations

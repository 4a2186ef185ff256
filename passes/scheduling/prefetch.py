"""Loads move ahead of the work that needs them, as far as the SRAM has room."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects.core.operation import Operation, Value
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import LoadOp, StoreOp


def prefetch(operations: list[Operation], capacity: int) -> list[Operation]:
    """The same operations with every load as early as `capacity` bytes of live SRAM buffers allow.

    Loads keep their order (the DMA queue is in order) and stay behind the store of what they read. Other operations
    keep their order among themselves. Linear in the operations plus the distances loads move.
    """
    slots = [op for op in operations if not isinstance(op, LoadOp)]
    slot_of = {op: index for index, op in enumerate(slots)}
    loads: list[tuple[LoadOp, int]] = []
    position = 0
    for op in operations:
        if isinstance(op, LoadOp):
            loads.append((op, position))
        else:
            position += 1
    first, last = _lifetimes(slots, loads)
    usage = np.zeros(len(slots) + 1, np.int64)
    for buffer, begin in first.items():
        usage[begin : last[buffer] + 1] += buffer.type.size
    stored = _stores(slots, slot_of)
    chosen: list[list[LoadOp]] = [[] for _ in range(len(slots) + 1)]
    earliest = 0
    for load, slot in loads:
        buffer = load.destination
        size = buffer.type.size
        target = slot
        if first[buffer] == slot and _fills_alone(load, slot, first, slots):
            floor = max(earliest, stored.get(load.source, 0))
            while target > floor and usage[target - 1] + size <= capacity:
                target -= 1
            usage[target:slot] += size
            first[buffer] = target
        earliest = max(earliest, target)
        chosen[target].append(load)
    ordered: list[Operation] = []
    for index, op in enumerate(slots):
        ordered += chosen[index]
        ordered.append(op)
    return ordered + list[Operation](chosen[len(slots)])


def _lifetimes(
    slots: list[Operation], loads: list[tuple[LoadOp, int]]
) -> tuple[dict[Value[Any], int], dict[Value[Any], int]]:
    """First and last slot of every SRAM buffer; a load counts at the slot it stands before."""
    first: dict[Value[Any], int] = {}
    last: dict[Value[Any], int] = {}
    touched = [(index, op) for index, op in enumerate(slots)] + [(slot, load) for load, slot in loads]
    for index, op in sorted(touched, key=lambda item: item[0]):
        for value in op.operands:
            if getattr(value.type, "space", "") == "sram":
                first.setdefault(value, index)
                last[value] = max(last.get(value, 0), index)
    return first, last


def _stores(slots: list[Operation], slot_of: dict[Operation, int]) -> dict[Value[Any], int]:
    """For every DRAM buffer the slot behind the last store into it."""
    behind: dict[Value[Any], int] = {}
    for op in slots:
        if isinstance(op, StoreOp):
            behind[op.destination] = slot_of[op] + 1
    return behind


def _fills_alone(load: LoadOp, slot: int, first: dict[Value[Any], int], slots: list[Operation]) -> bool:
    """True if nothing but loads at this slot touches the buffer before its readers."""
    return slot >= len(slots) or isinstance(slots[slot], InstructionOp)

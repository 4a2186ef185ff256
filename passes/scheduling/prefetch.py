"""Loads move ahead of the work that needs them, as far as the SRAM has room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dialects.core.operation import Operation, Value
from ...dialects.core.types import Array
from ...dialects.tile.host import CallHostOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import LoadOp, StoreOp


class Prefetcher:
    """The loads of scheduled operations, which can move ahead as far as there is room: more than one room is tried.

    Loads keep their order (the DMA queue is in order), stay behind the stores of what they read, and move only while
    nothing else has touched their buffer. Other operations keep their order among themselves. Linear in the
    operations plus the distances loads move, and in stores times loads of one DRAM buffer.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._slots = [op for op in operations if not isinstance(op, LoadOp)]
        loads: list[tuple[LoadOp, int]] = []
        position = 0
        for op in operations:
            if isinstance(op, LoadOp):
                loads.append((op, position))
            else:
                position += 1
        touched, last = _uses(self._slots)
        self._begin = _begins(loads, touched)
        self._usage = np.zeros(len(self._slots) + 1, np.int64)
        for buffer, start in self._begin.items():
            self._usage[start : last.get(buffer, start) + 1] += buffer.type.size
        stores = _stores(self._slots)
        # A load stays where it is, floor None, if something else has touched its buffer before.
        self._loads = [
            (load, slot, _behind_stores(load, slot, stores) if slot <= touched.get(load.destination, slot) else None)
            for load, slot in loads
        ]

    @property
    def length(self) -> int:
        """The number of slots: the operations that are no loads, and the end."""
        return len(self._slots) + 1

    def slots(self, operations: Sequence[Operation]) -> Array:
        """The slot of each of the operations, which have loads where they like; a load has that of what follows."""
        stays = np.array([not isinstance(op, LoadOp) for op in operations])
        return stays.cumsum() - stays

    def within(self, capacity: int | Array) -> list[Operation]:
        """The same operations with every load as early as `capacity` bytes of live SRAM buffers allow.

        That is one number, or one for every slot.
        """
        begin, free = dict(self._begin), capacity - self._usage
        chosen: list[list[LoadOp]] = [[] for _ in range(len(self._slots) + 1)]
        earliest = 0
        for load, slot, floor in self._loads:
            target = slot
            if floor is not None:
                buffer = load.destination
                size, start = buffer.type.size, begin[buffer]
                target = _earliest(free, start, slot, max(earliest, floor), size)
                if target < start:
                    free[target:start] -= size
                    begin[buffer] = target
            earliest = max(earliest, target)
            chosen[target].append(load)
        ordered: list[Operation] = []
        for index, op in enumerate(self._slots):
            ordered += chosen[index]
            ordered.append(op)
        return ordered + list[Operation](chosen[-1])


def _earliest(free: Array, begin: int, slot: int, floor: int, size: int) -> int:
    """The first slot from `floor` on, up to `slot`, from which the buffer may be live; it is so already at `begin`."""
    target = max(floor, min(begin, slot))
    full = free[floor:target] < size
    behind = int(full[::-1].argmax()) if full.any() else len(full)
    return min(target - behind, slot)


def _uses(slots: list[Operation]) -> tuple[dict[Value[Any], int], dict[Value[Any], int]]:
    """First and last slot at which an operation other than a load touches each SRAM buffer."""
    first: dict[Value[Any], int] = {}
    last: dict[Value[Any], int] = {}
    for index, op in enumerate(slots):
        for value in op.operands:
            if getattr(value.type, "space", "") == "sram":
                first.setdefault(value, index)
                last[value] = index
    return first, last


def _begins(loads: list[tuple[LoadOp, int]], touched: dict[Value[Any], int]) -> dict[Value[Any], int]:
    """The slot at which each SRAM buffer becomes live: its first use, or the slot its first load stands before."""
    begin = dict(touched)
    for load, slot in loads:
        begin[load.destination] = min(begin.get(load.destination, slot), slot)
    return begin


def _stores(slots: list[Operation]) -> dict[Value[Any], list[tuple[int, int, int]]]:
    """(slot, first byte, end) of every store, and of every call of the host, by DRAM buffer."""
    found: dict[Value[Any], list[tuple[int, int, int]]] = {}
    for slot, op in enumerate(slots):
        if isinstance(op, (StoreOp, CallHostOp)):
            found.setdefault(op.destination, []).append((slot, *_span(op)))
    return found


def _behind_stores(load: LoadOp, slot: int, stores: dict[Value[Any], list[tuple[int, int, int]]]) -> int:
    """The slot behind the last store before `slot` that wrote a byte the load reads."""
    low, high = _span(load)
    return max((at + 1 for at, a, b in stores.get(load.source, ()) if at < slot and a < high and low < b), default=0)


def _span(op: InstructionOp) -> tuple[int, int]:
    """The bytes of DRAM a transfer reads or writes, as their hull."""
    region = next(r for r in op.regions() if op.spaces.get(r.operand) == "dram")
    return region.offset, region.end

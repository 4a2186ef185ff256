"""Buffers of a scheduled program as packing items: lifetimes, allowed bank groups, and who would fight whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...backends.target import Target
from ...dialects.core.operation import Operation, Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import LoadOp
from .greedy import place
from .items import Item, lower_bound
from .packing import pack
from .parts import Part, whole
from .settling import settle
from .turns import place_in_turn

SEARCH_STEPS = 2000
"""Steps of the exact search for a packing that the greedy orders do not find: tenths of a second."""

NEIGHBOURS = 6
"""Instructions this many places apart in program order may run at the same time on different engines."""

LOAD_NEIGHBOURS = 48
"""The same for a load and a vector instruction: loads run far ahead, and a long one holds its banks for long."""

LINES_PER_WEIGHT = 50.0
"""So many lines of a load beside a result weigh as much as one conflict of neighbours, however fast they come, ..."""

CYCLES_PER_STOP = 5.0
"""... and so many cycles of weights that stop the input of their own matmul, which happens for certain."""


@dataclass
class Assignment:
    """Addresses of all SRAM buffers (bytes) and accumulator buffers (rows).

    `peak` counts the bytes that any buffer ever covers, `lower_bound` is the largest sum of live sizes.
    """

    addresses: dict[Value[Any], int]
    peak: int
    lower_bound: int

    def within(self, part: Part, target: Target) -> Assignment:
        """Addresses in a part of the SRAM of a target as they are in the whole."""
        if part == whole(target):
            return self
        found: dict[Value[Any], int] = {}
        for value, address in self.addresses.items():
            found[value] = part.address(address, target) if value.type.space == "sram" else address
        return Assignment(found, peak_of(found), self.lower_bound)


def assign(operations: list[Operation], target: Target, *, settled: bool = False) -> Assignment | None:
    """Pack SRAM and accumulators of a scheduled program; None if something does not fit.

    First with a cost for bank conflicts, then, if that does not fit, as tightly as `pack` can. With `settled`, single
    buffers then move to where they conflict less: the same buffers fit, in more time.
    """
    sram = lifetimes(operations, "sram")
    items = [item_of(value, span, target) for value, span in sram.items()]
    conflicts = Conflicts(list(sram), operations, target)
    line = target.sram.line_bytes
    period = line * target.sram.interleave
    capacity, alignment = target.sram_bytes, period
    addresses = place(items, capacity, alignment=period, cost=conflicts.cost)
    if addresses is None:
        alignment, addresses = packed(items, capacity, (period, line))
    if addresses is not None and settled:
        addresses = settle(items, addresses, capacity, alignment, conflicts.cost, grid=target.group_bytes)
    accumulators = accumulator_rows(operations, target)
    if addresses is None or accumulators is None:
        return None
    found = dict(zip(sram, addresses, strict=True)) | accumulators
    return Assignment(found, peak_of(found), lower_bound(items))


def accumulator_rows(operations: list[Operation], target: Target) -> dict[Value[Any], int] | None:
    """The first row of every accumulator buffer, None if they do not fit."""
    spans = lifetimes(operations, "acc")
    rows = place_in_turn([Item(*span, v.type.size) for v, span in spans.items()], target.accumulators.rows)
    return None if rows is None else dict(zip(spans, rows, strict=True))


def peak_of(addresses: dict[Value[Any], int]) -> int:
    """The bytes of the SRAM that any buffer ever covers."""
    covered = reached = 0
    for begin, size in sorted((a, v.type.size) for v, a in addresses.items() if v.type.space == "sram"):
        covered += max(0, begin + size - max(begin, reached))
        reached = max(reached, begin + size)
    return covered


def packed(items: Sequence[Item], capacity: int, alignments: tuple[int, ...]) -> tuple[int, list[int] | None]:
    """Addresses by the exact search, for the first alignment for which it finds any, and that alignment."""
    for alignment in alignments:
        packing = pack(items, capacity, alignment=alignment, budget=SEARCH_STEPS)
        if packing.offsets is not None and packing.fits(capacity):
            return alignment, list(packing.offsets)
    return alignments[-1], None


def lifetimes(operations: Sequence[Operation], space: str) -> dict[Value[Any], tuple[int, int]]:
    """[first, last + 1) position of every buffer of a memory space, in order of first use."""
    spans: dict[Value[Any], tuple[int, int]] = {}
    for position, op in enumerate(operations):
        for value in op.operands:
            if getattr(value.type, "space", None) == space:
                spans[value] = (spans.get(value, (position, 0))[0], position + 1)
    return spans


def item_of(value: Value[Any], span: tuple[int, int], target: Target) -> Item:
    """Buffers that the DMA fills grow from the top of the memory, those that the vector unit fills from the bottom."""
    uses = [op for op, _ in value.uses]
    ranges: tuple[tuple[int, int], ...] = ()
    if any(isinstance(op, MatmulOp) for op in uses) and len(target.reachable_groups) < target.groups:
        ranges = _joined(sorted(target.reachable_groups), target.group_bytes)
    loaded = any(isinstance(op, LoadOp) and op.destination is value for op in uses)
    return Item(*span, value.type.size, ranges, from_top=loaded)


def _joined(groups: list[int], size: int) -> tuple[tuple[int, int], ...]:
    """Address ranges of bank groups, neighbours joined."""
    ranges: list[tuple[int, int]] = []
    for group in groups:
        if ranges and ranges[-1][1] == group * size:
            ranges[-1] = (ranges[-1][0], (group + 1) * size)
        else:
            ranges.append((group * size, (group + 1) * size))
    return tuple(ranges)


class Conflicts:
    """How much two buffers would cost each other in one bank group.

    Two accesses conflict if they use the same kind of port (read or write) on different engines within NEIGHBOURS
    positions of program order, or if they are the input and the weights of one matmul.
    """

    def __init__(self, buffers: list[Value[Any]], operations: list[Operation], target: Target) -> None:
        self.group_bytes = target.group_bytes
        self.index = {value: i for i, value in enumerate(buffers)}
        self.sizes = [value.type.size for value in buffers]
        self.partners: list[dict[int, float]] = [{} for _ in buffers]
        recent: list[tuple[str, list[tuple[int, bool]]]] = []
        for op in operations:
            if not isinstance(op, InstructionOp):
                continue
            touched = [(self.index[v], w) for v, w in _touched(op) if v in self.index]
            if isinstance(op, MatmulOp):
                lines = op.weight_bytes / target.sram.line_bytes
                loading = lines / target.array.weight_lines_per_cycle / CYCLES_PER_STOP
                self._add(self.index[op.input], self.index[op.weights], max(80.0, loading))
            for engine, others in recent:
                if engine != op.engine:
                    for mine, write in touched:
                        for theirs, other_write in others:
                            if write == other_write:
                                self._add(mine, theirs, 1.0)
            recent = [*recent[-(NEIGHBOURS - 1) :], (op.engine, touched)]
        self._add_loads(operations, target)

    def _add_loads(self, operations: list[Operation], target: Target) -> None:
        """Loads against results of the vector unit that are written around the same time."""
        loads: deque[tuple[int, int, float]] = deque()
        results: deque[tuple[int, int]] = deque()
        for position, op in enumerate(operations):
            while loads and loads[0][0] < position - LOAD_NEIGHBOURS:
                loads.popleft()
            while results and results[0][0] < position - LOAD_NEIGHBOURS:
                results.popleft()
            if isinstance(op, LoadOp):
                mine = self.index[op.destination]
                weight = op.size / target.sram.line_bytes / LINES_PER_WEIGHT
                loads.append((position, mine, weight))
                for _, theirs in results:
                    self._add(mine, theirs, weight)
            elif isinstance(op, InstructionOp) and op.engine == "vector":
                mine = self.index[next(value for value, writes in _touched(op) if writes)]
                results.append((position, mine))
                for _, theirs, weight in loads:
                    self._add(mine, theirs, weight)

    def _add(self, a: int, b: int, weight: float) -> None:
        if a != b:
            self.partners[a][b] = self.partners[a].get(b, 0.0) + weight
            self.partners[b][a] = self.partners[b].get(a, 0.0) + weight

    def cost(self, index: int, addresses: Sequence[int]) -> Callable[[int], float]:
        """The weight of placed partners that share a bank group with buffer `index` at an address."""
        size, group = self.sizes[index], self.group_bytes
        placed = [
            (where // group, (where + self.sizes[other] - 1) // group, weight)
            for other, weight in self.partners[index].items()
            if (where := addresses[other]) >= 0
        ]
        known: dict[tuple[int, int], float] = {}

        def total(address: int) -> float:
            span = first, last = address // group, (address + size - 1) // group
            if span not in known:
                found = 0.0
                for low, high, weight in placed:  # one by one: `sum` rounds differently from Python 3.12 on
                    if low <= last and first <= high:
                        found += weight
                known[span] = found
            return known[span]

        return total


def _touched(op: InstructionOp) -> list[tuple[Value[Any], bool]]:
    names = [f.name for f in op.operand_fields]
    return [(op.operands[names.index(region.operand)], region.writes) for region in op.regions()]

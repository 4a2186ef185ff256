"""Placement in bank groups as if each had room for everything: addresses that hold in every larger memory as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ...backends.target import Target
from ...dialects.core.operation import Operation, Value
from .buffers import Assignment, Conflicts, accumulator_rows, assign, item_of, lifetimes, peak_of
from .greedy import place
from .items import lower_bound
from .parts import Part
from .settling import settle

BOUNDLESS_LINES = 2**20
"""Lines of a bank that has room for everything: the most that a target may have."""

COUNTS = (1, 2, 3, 4, 6, 8)
"""Numbers of bank groups that are tried; more than eight keep nothing apart that eight do not."""

FINE = 300
"""Up to so many instructions all of these are tried, else powers of two, ..."""

COARSE = 700
"""... and beyond so many only the largest: the others take seconds."""


def boundless(target: Target) -> Target:
    """The target with as much memory in each bank group as a target may have."""
    return replace(target, sram=replace(target.sram, bank_lines=BOUNDLESS_LINES))


def group_counts(target: Target, instructions: int) -> list[int]:
    """How many of its first bank groups a target lets a program of so many instructions try, largest first.

    They are the same for every target that has them, but beyond `COARSE` instructions.
    """
    tried = COUNTS if instructions <= FINE else [count for count in COUNTS if count & (count - 1) == 0]
    reached = min(target.reachable_groups, default=target.groups)
    found = [count for count in reversed(tried) if reached < count <= target.groups]
    return found if instructions <= COARSE else found[:1]


def assign_in(operations: list[Operation], target: Target, part: Part, groups: int = 0) -> Assignment | None:
    """The addresses of a scheduled program in a part of the SRAM, of that in its first `groups` bank groups if not 0.

    None if its buffers find no place.
    """
    memory = part.of(target)
    found = RoomyPlacement(operations, memory).assign(groups) if groups else assign(operations, memory, settled=True)
    return None if found is None else found.within(part, target)


class RoomyPlacement:
    """The buffers of a scheduled program in the first bank groups of a target, none of which is ever too full.

    Groups are filled from their beginning, the buffers of the array only those that its ports reach. Where a buffer
    lies depends on the number of groups, not on how large they are. So a program that fits has its operands in the same
    lines of the same banks of every target with more lines or banks, and takes the same cycles.
    """

    def __init__(self, operations: list[Operation], target: Target) -> None:
        self.target, self.open = target, boundless(target)
        self.sram = lifetimes(operations, "sram")
        self.items = [item_of(value, span, target) for value, span in self.sram.items()]
        self.operations = operations
        self.least = lower_bound(self.items)

    @cached_property
    def conflicts(self) -> Conflicts:
        """Who would fight whom in one bank group."""
        return Conflicts(list(self.sram), self.operations, self.open)

    @cached_property
    def accumulators(self) -> dict[Value[Any], int] | None:
        """The first row of every accumulator buffer, None if they do not fit."""
        return accumulator_rows(self.operations, self.target)

    def assign(self, groups: int) -> Assignment | None:
        """The addresses in the first `groups` groups; None if they are more than the target has lines for."""
        if self.least > self.target.sram_bytes or self.accumulators is None:
            return None
        size = self.open.group_bytes
        period = self.target.sram.line_bytes * self.target.sram.interleave
        items = [replace(item, ranges=self._ranges(groups, bool(item.ranges)), from_top=False) for item in self.items]
        if not all(item.ranges for item in items):
            return None
        found = place(items, groups * size, alignment=period, cost=self._cost)
        if found is None:
            return None
        found = settle(items, found, groups * size, period, self.conflicts.cost)
        places = [divmod(address, size) for address in found]
        if any(offset + item.size > self.target.group_bytes for (_, offset), item in zip(places, items, strict=True)):
            return None
        own = [group * self.target.group_bytes + offset for group, offset in places]
        addresses = dict(zip(self.sram, own, strict=True)) | self.accumulators
        return Assignment(addresses, peak_of(addresses), self.least)

    def height(self, assignment: Assignment) -> int:
        """The bytes up to which the groups are used."""
        size = self.target.group_bytes
        return max((assignment.addresses[value] % size + value.type.size for value in self.sram), default=0)

    def _ranges(self, groups: int, by_array: bool) -> tuple[tuple[int, int], ...]:
        """The groups that a buffer may lie in, each a range of its own, so that none spans two."""
        allowed = self.target.reachable_groups if by_array else range(groups)
        size = self.open.group_bytes
        return tuple((group * size, (group + 1) * size) for group in sorted(allowed) if group < groups)

    def _cost(self, index: int, addresses: Sequence[int]) -> Callable[[int], float]:
        """Conflicts; of groups without a difference the one that is filled least."""
        conflicts, size = self.conflicts.cost(index, addresses), self.open.group_bytes
        return lambda address: conflicts(address) + address % size / size

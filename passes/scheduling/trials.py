"""Schedules with addresses, timed by the timing model: the quickest is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ...backends.target import Target
from ...backends.timing.duration import timing_at
from ...backends.timing.engine import QueuedInstruction, run_timeline
from ...dialects.core.fields import OperandField
from ...dialects.core.operation import Operation, Value
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp, TransferOp
from ..allocation.buffers import Assignment, assign
from ..allocation.parts import Part, whole
from ..allocation.roomy import RoomyPlacement, boundless, group_counts
from .emission import StripEmitter
from .fitting import discard, load_ahead
from .residency import Residency
from .tokens import Hazards

LEAST_INSTRUCTIONS = 60
"""What a trial costs however short the schedule is, in instructions."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A schedule that uses a part of the memory; with `groups` as many bank groups, in a `RoomyPlacement`."""

    operations: list[Operation]
    plan: Residency
    part: Part
    groups: int = 0


@dataclass
class Trials:
    """Times schedules of a program for a target, and keeps the quickest; the operations of all others are discarded."""

    target: Target
    lookahead: float
    most: int
    """The instructions that all schedules may have together, but for the first that is timed."""
    price: float = 0.0
    """Cycles that each instruction more must save: they cost time to compile and to simulate, and bytes of a file."""
    best: tuple[float, Candidate] | None = None
    """Its cycles with that price, infinite if it was not timed, and the candidate."""
    effort: int = 0
    """The instructions of all schedules that were timed beside the best one up to then."""

    def left(self, length: int) -> int:
        """How many more schedules of so many instructions may be tried."""
        return max(0, self.most - self.effort) // (length + LEAST_INSTRUCTIONS)

    def is_hopeful(self, draft: StripEmitter) -> bool:
        """True if the loads of a draft alone do not take as long as the quickest schedule."""
        return self.best is None or draft.traffic / self.target.dma.bytes_per_cycle < self.best[0]

    def take(self, emitter: StripEmitter, part: Part) -> None:
        """Take a schedule, with loads ahead, for a part of the memory without timing it: there is no other."""
        operations = load_ahead(emitter.operations, emitter.plan.target, self.lookahead)
        self._take(inf, Candidate(operations, emitter.plan, part))

    def time(self, emitter: StripEmitter, part: Part) -> None:
        """Time a schedule, with loads ahead, in the part of the memory that it is for."""
        self._count(emitter.effort)
        operations = load_ahead(emitter.operations, emitter.plan.target, self.lookahead)
        least = sum(op.size for op in operations if isinstance(op, TransferOp)) / self.target.dma.bytes_per_cycle
        placed = None
        if self.best is None or least < self.best[0]:
            placed = assign(operations, self.target, part=part, settled=True)
        if placed is None:
            discard(operations)
        else:
            self._take(_Clock(operations, self.target).cycles(placed), Candidate(operations, emitter.plan, part))

    def time_roomy(self, operations: list[Operation], plan: Residency, exhaustive: bool) -> dict[int, int]:
        """Time a schedule with room for everything, with loads ahead, in several numbers of bank groups.

        Returns the bytes that are used of each group, by the numbers for which there is the room; of long programs more
        numbers are tried if `exhaustive`.
        """
        operations = load_ahead(operations, boundless(self.target), self.lookahead)
        self._count(len(operations))
        placement, clock = RoomyPlacement(operations, self.target), _Clock(operations, self.target)
        heights: dict[int, int] = {}
        best: tuple[int, Candidate] | None = None
        for groups in group_counts(self.target, len(operations), exhaustive):
            placed = placement.assign(groups)
            if placed is not None:
                heights[groups] = placement.height(placed)
                cycles = clock.cycles(placed)
                if best is None or cycles < best[0]:
                    best = cycles, Candidate(operations, plan, whole(self.target), groups)
        if best is not None:
            self._take(*best)
        return heights

    def _count(self, instructions: int) -> None:
        if self.best is not None:
            self.effort += instructions + LEAST_INSTRUCTIONS

    def _take(self, cycles: float, candidate: Candidate) -> None:
        """Keep the quicker one, and discard the operations of the other."""
        cost = cycles + self.price * len(candidate.operations)
        if self.best is None:
            self.best = cost, candidate
        elif cost < self.best[0]:
            discard(self.best[1].operations)
            self.best = cost, candidate
        else:
            discard(candidate.operations)


class _Clock:
    """The cycles of a schedule, for any addresses of its buffers."""

    def __init__(self, operations: Sequence[Operation], target: Target) -> None:
        self.instructions = [op for op in operations if isinstance(op, InstructionOp)]
        self.hazards = Hazards(self.instructions, target)
        self.timings = [timing_at(op, target) for op in self.instructions]
        self.places = [
            [(field.name, value, getattr(op, f"{field.name}_offset")) for field, value in _buffers(op)]
            for op in self.instructions
        ]

    def cycles(self, assignment: Assignment) -> int:
        """The cycles at these addresses."""
        addresses = assignment.addresses
        queue: list[QueuedInstruction] = []
        tokens = self.hazards.tokens(addresses)
        for op, timing, places, own in zip(self.instructions, self.timings, self.places, tokens, strict=True):
            at = {name: addresses[value] + offset for name, value, offset in places}
            queue.append(QueuedInstruction(op.engine, timing(at), own.wait, own.signal))
        return run_timeline(queue).cycles


def _buffers(op: InstructionOp) -> Iterator[tuple[OperandField[Any], Value[Any]]]:
    """The operands that are buffers on the chip."""
    for field, value in zip(op.operand_fields, op.operands, strict=False):
        if isinstance(value.defining_op, AllocOp) and value.type.space != "dram":
            yield field, value

"""Schedules with addresses, timed by the timing model: the quickest is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from ...backends.target import Target
from ...backends.timing.duration import timing_at
from ...backends.timing.engine import QueuedInstruction, run_timeline
from ...dialects.core.fields import OperandField
from ...dialects.core.operation import Operation, Value
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp
from ..allocation.buffers import Assignment
from ..allocation.parts import Part
from ..allocation.roomy import RoomyPlacement, assign_in, boundless, group_counts
from .emission import Signature, StripEmitter
from .fitting import discard, fit_draft, load_ahead
from .residency import Residency
from .tokens import Hazards


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A schedule that uses a part of the memory, of that the first `groups` bank groups unless it is 0."""

    operations: list[Operation]
    plan: Residency
    part: Part
    groups: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of timing a schedule."""

    cycles: float = inf
    """On the target; infinite if its buffers found no place."""
    length: int = 0
    """Its instructions."""
    effort: int = 0
    """The instructions of all schedules that were emitted until this one was found, or given up."""


@dataclass(frozen=True, slots=True)
class Roomy:
    """What came of timing a schedule with room for everything, by numbers of bank groups, as far as there is the room.

    Which room a machine has does not change where buffers lie in it.
    """

    length: int
    """The instructions of the schedule."""
    heights: dict[int, int]
    """The bytes used of each group."""
    cycles: dict[int, int]

    def within(self, memory: Target) -> Outcome:
        """What came of it in a memory."""
        fitting = [self.cycles[groups] for groups in self.groups(memory)]
        return Outcome(min(fitting, default=inf), self.length, self.length)

    def groups(self, memory: Target) -> list[int]:
        """The numbers of bank groups that a memory has the room for."""
        return [n for n, height in self.heights.items() if n <= memory.groups and height <= memory.group_bytes]


@dataclass
class Trials:
    """Times schedules of a function, and keeps the quickest on a target; the operations of all others are discarded."""

    target: Target
    lookahead: float
    price: float = 0.0
    """Cycles that each instruction more must save: they cost time to compile and to simulate, and bytes of a file."""
    best: Candidate | None = None
    cost: float | None = None
    """The cycles of the best one with that price; None if it was not timed, as there is no other."""
    known: dict[tuple[Signature, Part], Outcome] = field(default_factory=dict[tuple[Signature, Part], Outcome])
    """What was timed in parts of the memory: instructions of one signature run alike."""
    drafts: dict[tuple[Signature, Part], Outcome] = field(default_factory=dict[tuple[Signature, Part], Outcome])
    """The same by the signatures of drafts, of which instructions have others where buffers found no place at first."""
    roomy: dict[tuple[Signature, Part], Roomy] = field(default_factory=dict[tuple[Signature, Part], Roomy])
    """What was timed with room for everything, in parts with all lines of their banks."""

    def take(self, emitter: StripEmitter, part: Part) -> None:
        """Take a schedule, with loads ahead, for a part of the memory; it is timed only if there are others."""
        operations = load_ahead(emitter.operations, emitter.plan.target, self.lookahead)
        self._take(Candidate(operations, emitter.plan, part))

    def time(self, draft: StripEmitter, part: Part) -> Outcome:
        """Time a schedule, with loads ahead, in the part of the memory that it is for, once of all that run like it."""
        if draft.operations:
            return self._time(draft, part)
        key = draft.signature, part
        if key not in self.drafts:
            found, effort = fit_draft(draft)
            self.drafts[key] = Outcome(effort=effort) if found is None else self._time(found, part)
        return self.drafts[key]

    def _time(self, found: StripEmitter, part: Part) -> Outcome:
        """Time instructions in a part of the memory."""
        key = found.signature, part
        if key in self.known:
            discard(found.operations)
        else:
            operations = load_ahead(found.operations, found.plan.target, self.lookahead)
            placed, cycles = assign_in(operations, self.target, part), inf
            if placed is None:
                discard(operations)
            else:
                cycles = _Clock(operations, self.target).cycles(placed)
                self._take(Candidate(operations, found.plan, part), cycles)
            self.known[key] = Outcome(cycles, len(operations))
        return replace(self.known[key], effort=found.effort)

    def time_roomy(self, draft: StripEmitter, part: Part) -> Roomy:
        """Time a schedule with room for everything, with loads ahead, in several numbers of the first bank groups.

        They are those of the banks of a part, with all of their lines. All that run like it are timed once.
        """
        key = draft.signature, replace(part, bank_lines=self.target.sram.bank_lines)
        if key not in self.roomy:
            self.roomy[key] = self._time_roomy(draft, key[1])
        return self.roomy[key]

    def _time_roomy(self, draft: StripEmitter, part: Part) -> Roomy:
        memory = part.of(self.target)
        operations = load_ahead(draft.emit(), boundless(memory), self.lookahead)
        placement, clock = RoomyPlacement(operations, memory), _Clock(operations, self.target)
        found = Roomy(len(operations), {}, {})
        for groups in group_counts(memory, len(operations)):
            placed = placement.assign(groups)
            if placed is not None:
                found.heights[groups] = placement.height(placed)
                found.cycles[groups] = clock.cycles(placed.within(part, self.target))
        if found.cycles:
            groups = min(found.cycles, key=found.cycles.__getitem__)
            self._take(Candidate(operations, draft.plan, part, groups), found.cycles[groups])
        else:
            discard(operations)
        return found

    def _take(self, candidate: Candidate, cycles: float | None = None) -> None:
        """Keep the better one, and discard the operations of the other; None if it is not timed on the target yet."""
        if self.best is None:
            self.best, self.cost = candidate, None if cycles is None else self._price(candidate, cycles)
            return
        if self.cost is None:
            self.cost = self._price(self.best, self.cycles(self.best))
        cost = self._price(candidate, self.cycles(candidate) if cycles is None else cycles)
        if cost < self.cost:
            self.best, self.cost, candidate = candidate, cost, self.best
        discard(candidate.operations)

    def _price(self, candidate: Candidate, cycles: float) -> float:
        return cycles + self.price * len(candidate.operations)

    def cycles(self, candidate: Candidate) -> float:
        """The cycles of a candidate on the target; infinite if its buffers find no place."""
        placed = assign_in(candidate.operations, self.target, candidate.part, candidate.groups)
        return inf if placed is None else _Clock(candidate.operations, self.target).cycles(placed)


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
    for operand, value in zip(op.operand_fields, op.operands, strict=False):
        if isinstance(value.defining_op, AllocOp) and value.type.space != "dram":
            yield operand, value

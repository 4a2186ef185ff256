"""Schedules for a memory with room for everything, the whole and parts of it: the quickest by the clock is taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...backends.target import Target
from ...backends.timing.engine import run_timeline
from ...backends.timing.program import queue_instructions
from ...dialects.core.operation import Operation
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp, TransferOp
from ..allocation.buffers import Assignment, assign
from ..allocation.parts import Part, smaller, whole
from ..allocation.roomy import COARSE, RoomyPlacement, boundless, group_counts
from .emission import StripEmitter
from .fitting import discard, fit, fit_draft, load_ahead
from .layers import Program
from .residency import WEIGHT_SHARE, Reserve, Residency
from .tokens import insert_tokens

FEW_INSTRUCTIONS, MOST_INSTRUCTIONS = 1200, 6000
"""Schedules are tried as long as all together have no more: tenths of a second of work, or seconds."""

LEAST_INSTRUCTIONS = 60
"""What a schedule costs however short it is, in instructions."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A schedule that uses a part of the memory; with `groups` as many bank groups, in a `RoomyPlacement`."""

    operations: list[Operation]
    plan: Residency
    part: Part
    groups: int = 0


@dataclass
class Search:
    """Looks for the schedule of a program that takes fewest cycles by the timing model.

    What a machine can do, one with more memory can do as well: the same instructions with the same operands in the same
    lines of the same banks. So what smaller machines would try is tried too, as long as all schedules together have at
    most `most` instructions:

    - in a memory with room for everything, which is the same for every target that has the room: in several numbers of
      bank groups, and cut for smaller budgets, as smaller chunks of weights come earlier;
    - where the target has no such room, in the whole memory, also cut for smaller budgets, which are powers of two;
    - in parts of it that have no such room either, and in which nothing is spilled.

    Each of these goes on with smaller budgets and parts until a schedule is slower, with `exhaustive` to the end. A
    part is tried with one budget only, all of it, where a machine of that size tries more. So a better machine is
    seldom slower, not never.
    """

    program: Program
    target: Target
    lookahead: float
    fuse: bool
    exhaustive: bool
    best: tuple[int, Candidate] | None = None
    tried: int = 0
    """The instructions of all schedules up to now, ..."""
    length: int = 0
    """... and of the first one."""
    heights: dict[int, int] = field(default_factory=dict[int, int])
    """By numbers of bank groups that have room for everything: the bytes used of each group."""
    spilling: int = 0
    """Tensors are spilled in a memory of so many bytes."""

    @property
    def most(self) -> int:
        """The instructions that all schedules may have together; none without `lookahead`, when only one is made."""
        few = FEW_INSTRUCTIONS if self.lookahead else 0
        return MOST_INSTRUCTIONS if self.exhaustive else few

    @property
    def is_over(self) -> bool:
        """True if there may be no other schedule as long as the first one."""
        return self.tried + self.length + LEAST_INSTRUCTIONS > self.most

    def run(self) -> Candidate | None:
        """The quickest schedule; None if nothing fits."""
        emitter = self._emitted()
        self.length = len(emitter.operations) if emitter is not None else 0
        if emitter is not None and self.lookahead:
            self._try_boundless(emitter)
        return self._try_parts(emitter)

    def _drafts(self, memory: Target, known: list[StripEmitter]) -> Iterator[StripEmitter]:
        """Plans for all budgets that are powers of two, the largest first, which do not run like a `known` one.

        They end where more is spilled than in the first of these, or would have to be without chains.
        """
        first, budget = known[0].plan, 1 << (WEIGHT_SHARE * self.program.bytes_at_once).bit_length()
        while budget > 1 and not self.is_over:
            budget //= 2
            if budget >= memory.sram_bytes:
                continue
            plan = Residency.decide(self.program, memory, budget, Reserve(), fuse=bool(first.fusions))
            if plan is None or len(plan.spilled) > len(first.spilled):
                break
            draft = StripEmitter(plan)
            if not any(draft.runs_like(other) for other in known):
                known.append(draft)
                yield draft

    def _try_boundless(self, emitter: StripEmitter) -> None:
        """Schedules for a memory with room for everything; `emitter` has the instructions for the one there is."""
        memory = boundless(self.target)
        first = self._unlimited(emitter, memory)
        if first is None:
            return
        self.heights, _ = self._place(first)
        if first is not emitter:
            discard(emitter.operations if self.heights else first.operations)
        for draft in self._drafts(memory, [first]) if self.heights else ():
            draft.emit()
            heights, is_worse = self._place(draft)
            if not heights:
                discard(draft.operations)
            if is_worse and not self.exhaustive:
                break
        self.program.forget_splits()

    def _unlimited(self, emitter: StripEmitter, memory: Target) -> StripEmitter | None:
        """The instructions that no memory limits; None if there is no room for them, or they are too many to ask."""
        if self.program.bytes_at_once > self.target.sram_bytes:
            return None
        plan = Residency.decide(self.program, memory, memory.sram_bytes, Reserve(), fuse=self.fuse)
        if plan is None or (not emitter.was_limited and emitter.plan.equals(plan)):
            return None if plan is None else emitter
        if len(emitter.operations) > COARSE:
            return None
        found = StripEmitter(plan)
        found.emit()
        return found

    def _place(self, emitter: StripEmitter) -> tuple[dict[int, int], bool]:
        """Try several numbers of bank groups with room for everything.

        Returns what is used of each group in them, and True if all are slower than the best up to now.
        """
        operations = load_ahead(emitter.operations, boundless(self.target), self.lookahead)
        self.tried += len(operations) + LEAST_INSTRUCTIONS
        placement = RoomyPlacement(operations, self.target)
        heights: dict[int, int] = {}
        best: tuple[int, Candidate] | None = None
        for groups in group_counts(self.target, len(operations)):
            placed = placement.assign(groups)
            if placed is not None:
                heights[groups] = placement.height(placed)
                cycles = _cycles(operations, placed, self.target)
                if best is None or cycles < best[0]:
                    best = cycles, Candidate(operations, emitter.plan, whole(self.target), groups)
        return heights, best is None or self._take(*best)

    def _try_parts(self, emitter: StripEmitter | None) -> Candidate | None:
        """Schedules for the whole, of which `emitter` has the instructions, and its parts; returns the best of all."""
        queue = deque([whole(self.target)])
        seen = set(queue)
        while queue and not (self.is_over and self.best):
            part = queue.popleft()
            following = [each for each in smaller(part, self.target) if each not in seen]
            if self._has_room(part):
                emitter = None
            elif part != whole(self.target):
                emitter = self._within(part)
                if emitter is None:
                    continue
            if emitter is not None:
                if self.best is None and emitter.effort + self.length + LEAST_INSTRUCTIONS > self.most:
                    return self._candidate(emitter, part)
                is_slower = self._try(self._candidate(emitter, part))
                if part == whole(self.target):
                    self._try_budgets(emitter)
                elif is_slower and not self.exhaustive:
                    continue
            seen.update(following)
            queue.extend(following)
        return self.best[1] if self.best is not None else None

    def _try_budgets(self, emitter: StripEmitter) -> None:
        """Schedules that are cut for less than the whole memory, of which `emitter` has the instructions."""
        for draft in self._drafts(self.target, [emitter]):
            found = fit_draft(self.program, draft, self.fuse)
            if found is None or (self._try(self._candidate(found, whole(self.target))) and not self.exhaustive):
                break
        self.program.forget_splits()

    def _candidate(self, emitter: StripEmitter, part: Part) -> Candidate:
        self.tried += emitter.effort + LEAST_INSTRUCTIONS
        return Candidate(load_ahead(emitter.operations, emitter.plan.target, self.lookahead), emitter.plan, part)

    def _try(self, candidate: Candidate) -> bool:
        """Time a schedule for a part of the memory, if its loads alone do not take longer; True if it is slower."""
        operations = candidate.operations
        least = sum(op.size for op in operations if isinstance(op, TransferOp)) / self.target.dma.bytes_per_cycle
        if self.best is None or least < self.best[0]:
            placed = assign(operations, self.target, part=candidate.part, settled=True)
            if placed is not None:
                return self._take(_cycles(operations, placed, self.target), candidate)
        discard(operations)
        return True

    def _has_room(self, part: Part) -> bool:
        """True if a part has room for everything: there is no other schedule for it."""
        count, size = part.banks // self.target.sram.interleave, part.of(self.target).group_bytes
        return any(groups <= count and height <= size for groups, height in self.heights.items())

    def _take(self, cycles: int, candidate: Candidate) -> bool:
        """Keep the quicker one, and discard the operations of the other; returns True if this one is slower."""
        best, is_slower = self.best, self.best is not None and self.best[0] < cycles
        if best is None or cycles < best[0]:
            self.best = cycles, candidate
        if best is not None:
            discard(candidate.operations if self.best is best else best[1].operations)
        return is_slower

    def _emitted(self) -> StripEmitter | None:
        """The instructions for the whole memory with loads just before use; None if nothing fits."""
        emitter = fit(self.program, self.target, self.fuse)
        self.program.forget_splits()
        return emitter

    def _within(self, part: Part) -> StripEmitter | None:
        """The instructions for a part of the memory, None if that would spill tensors."""
        memory = part.of(self.target)
        if memory.sram_bytes <= self.spilling:
            return None
        plan = Residency.decide(self.program, memory, memory.sram_bytes, Reserve(), fuse=self.fuse)
        found = None
        if plan is None or plan.spilled:
            self.spilling = max(self.spilling, memory.sram_bytes)
        else:
            found = fit_draft(self.program, StripEmitter(plan), self.fuse)
        self.program.forget_splits()
        return found


def _cycles(operations: list[Operation], assignment: Assignment, target: Target) -> int:
    """The cycles of a schedule whose buffers have these addresses."""
    instructions = [op for op in operations if isinstance(op, InstructionOp)]
    for value, address in assignment.addresses.items():
        source = value.defining_op
        assert isinstance(source, AllocOp)
        source.address = address
    insert_tokens(instructions, target)
    cycles = run_timeline(queue_instructions(instructions, target)).cycles
    for op in instructions:
        op.attributes.pop("signal", None)
        op.attributes.pop("wait", None)
    for value in assignment.addresses:
        assert isinstance(value.defining_op, AllocOp)
        value.defining_op.attributes.pop("address", None)
    return cycles

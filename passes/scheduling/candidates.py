"""Schedules for a memory with room for everything, the whole and parts of it: the quickest by the clock is taken."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ...backends.target import Target
from ...backends.timing.engine import run_timeline
from ...backends.timing.program import queue_instructions
from ...dialects.core.operation import Function, Operation
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp, TransferOp
from ..allocation.buffers import Assignment, assign
from ..allocation.parts import Part, smaller, whole
from ..allocation.roomy import RoomyPlacement, boundless, group_counts
from .fitting import discard, fit
from .layers import Program
from .residency import Reserve, Residency
from .tokens import insert_tokens

FEW_INSTRUCTIONS, MOST_INSTRUCTIONS = 400, 6000
"""No further schedule is tried once all together have so many: tenths of a second of work, or seconds."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A schedule that uses a part of the memory; with `groups` as many bank groups, in a `RoomyPlacement`."""

    operations: list[Operation]
    plan: Residency
    part: Part
    groups: int = 0


def quick(function: Function, target: Target, lookahead: float, fuse: bool) -> Candidate | None:
    """The schedule for a memory with room for everything if its buffers fit, else for the whole; None if nothing fits.

    The first is the same on every target that has the room, and never slower with more lines of a bank, or with more
    banks. Where it does not fit, parts are tried as by `quickest` if there are few instructions, but with no
    `lookahead`.
    """
    roomy = _roomy(function, target, lookahead, fuse) if lookahead else None
    if roomy is not None:
        return roomy[1]
    return _best_part(function, target, lookahead, fuse, None, FEW_INSTRUCTIONS if lookahead else 0)


def quickest(function: Function, target: Target, lookahead: float, fuse: bool) -> Candidate | None:
    """The schedule of fewest cycles by the timing model for the memory or a part of it; None if nothing fits.

    A memory with room for everything comes first. There are smaller parts as long as nothing is spilled in them. What a
    machine can do, one with more memory can do as well: the same instructions with the same operands in the same lines
    of the same banks. So a machine with twice the banks, or twice the lines of each, is never slower than one in which
    nothing is spilled, and one with any more of them never slower than one with powers of two of both; if not more than
    MOST_INSTRUCTIONS are to be tried and no buffer spans bank groups that come apart.
    """
    roomy = _roomy(function, target, lookahead, fuse) if lookahead else None
    return _best_part(function, target, lookahead, fuse, roomy, MOST_INSTRUCTIONS)


def _best_part(
    function: Function,
    target: Target,
    lookahead: float,
    fuse: bool,
    best: tuple[int, Candidate] | None,
    most: int,
) -> Candidate | None:
    """The quickest of `best` and of the schedules for the whole and its parts, until they have `most` instructions."""
    tried = 0
    queue = deque([whole(target)])
    seen = set(queue)
    while queue and tried <= most:
        part = queue.popleft()
        if part != whole(target) and _spills(function, part.of(target)):
            continue
        following = [each for each in smaller(part, target) if each not in seen]
        seen.update(following)
        queue.extend(following)
        found = _candidate(function, target, part, lookahead, fuse)
        if found is None:
            continue
        tried += len(found.operations)
        if best is None and tried > most:
            return found
        least = sum(op.size for op in found.operations if isinstance(op, TransferOp)) / target.dma.bytes_per_cycle
        cycles = None
        if best is None or least < best[0]:
            placed = assign(found.operations, target, part=part, settled=True)
            cycles = None if placed is None else _cycles(found.operations, placed, target)
        if cycles is None or (best is not None and best[0] <= cycles):
            discard(found.operations)
            continue
        if best is not None:
            discard(best[1].operations)
        best = cycles, found
    return best[1] if best is not None else None


def _candidate(function: Function, target: Target, part: Part, lookahead: float, fuse: bool) -> Candidate | None:
    program = Program.of(function)
    found = fit(program, part.of(target), lookahead, fuse)
    program.forget_splits()
    return None if found is None else Candidate(*found, part)


def _spills(function: Function, target: Target) -> bool:
    """True unless all tensors stay in SRAM."""
    program = Program.of(function)
    plan = Residency.decide(program, target, target.sram_bytes, Reserve())
    program.forget_splits()
    return plan is None or bool(plan.spilled)


def _roomy(function: Function, target: Target, lookahead: float, fuse: bool) -> tuple[int, Candidate] | None:
    """The schedule for a memory with room for everything, in the number of bank groups in which it takes fewest cycles.

    None if the memory has no room for that.
    """
    program = Program.of(function)
    found = None
    if program.bytes_at_once <= target.sram_bytes:
        found = fit(program, boundless(target), lookahead, fuse)
    program.forget_splits()
    if found is None:
        return None
    operations, plan = found
    placement = RoomyPlacement(operations, target)
    best: tuple[int, Candidate] | None = None
    for groups in group_counts(target, len(operations)):
        placed = placement.assign(groups)
        if placed is not None:
            cycles = _cycles(operations, placed, target)
            if best is None or cycles < best[0]:
                best = cycles, Candidate(operations, plan, whole(target), groups)
    if best is None:
        discard(operations)
    return best


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

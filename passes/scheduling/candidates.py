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
from .emission import StripEmitter
from .fitting import discard, fit, load_ahead
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
    emitter = _emitted(function, target, fuse)
    roomy = _roomy(emitter, target, lookahead, fuse) if emitter is not None else None
    if roomy is not None:
        return roomy[1]
    return _best_part(function, target, lookahead, fuse, emitter, None, FEW_INSTRUCTIONS if lookahead else 0)


def quickest(function: Function, target: Target, lookahead: float, fuse: bool) -> Candidate | None:
    """The schedule of fewest cycles by the timing model for the memory or a part of it; None if nothing fits.

    A memory with room for everything comes first. There are smaller parts as long as nothing is spilled in them. What a
    machine can do, one with more memory can do as well: the same instructions with the same operands in the same lines
    of the same banks. So a machine with twice the banks, or twice the lines of each, is never slower than one in which
    nothing is spilled, and one with any more of them never slower than one with powers of two of both; if not more than
    MOST_INSTRUCTIONS are to be tried and no buffer spans bank groups that come apart.
    """
    emitter = _emitted(function, target, fuse)
    roomy = _roomy(emitter, target, lookahead, fuse) if emitter is not None else None
    return _best_part(function, target, lookahead, fuse, emitter, roomy, MOST_INSTRUCTIONS)


def _best_part(
    function: Function,
    target: Target,
    lookahead: float,
    fuse: bool,
    emitter: StripEmitter | None,
    best: tuple[int, Candidate] | None,
    most: int,
) -> Candidate | None:
    """The quickest of `best` and of the schedules for the whole and its parts, until they have `most` instructions.

    `emitter` has the instructions for the whole.
    """
    tried = 0
    queue = deque([whole(target)])
    seen = set(queue)
    while queue and tried <= most:
        part = queue.popleft()
        if part != whole(target):
            if _spills(function, part.of(target)):
                continue
            emitter = _emitted(function, part.of(target), fuse)
        following = [each for each in smaller(part, target) if each not in seen]
        seen.update(following)
        queue.extend(following)
        if emitter is None:
            continue
        operations = load_ahead(emitter.operations, emitter.plan.target, lookahead)
        found = Candidate(operations, emitter.plan, part)
        tried += len(operations)
        if best is None and tried > most:
            return found
        least = sum(op.size for op in operations if isinstance(op, TransferOp)) / target.dma.bytes_per_cycle
        cycles = None
        if best is None or least < best[0]:
            placed = assign(operations, target, part=part, settled=True)
            cycles = None if placed is None else _cycles(operations, placed, target)
        if cycles is None or (best is not None and best[0] <= cycles):
            _drop(found, best)
            continue
        if best is not None:
            _drop(best[1], (cycles, found))
        best = cycles, found
    return best[1] if best is not None else None


def _drop(loser: Candidate, best: tuple[int, Candidate] | None) -> None:
    """Discard what the best schedule does not have: the one for a memory with room for everything shares its own."""
    kept = set(best[1].operations) if best is not None else set[Operation]()
    discard([op for op in loser.operations if op not in kept])


def _emitted(function: Function, target: Target, fuse: bool) -> StripEmitter | None:
    """The instructions for a memory with loads just before use; None if nothing fits."""
    program = Program.of(function)
    emitter = fit(program, target, fuse)
    program.forget_splits()
    return emitter


def _spills(function: Function, target: Target) -> bool:
    """True unless all tensors stay in SRAM."""
    program = Program.of(function)
    plan = Residency.decide(program, target, target.sram_bytes, Reserve())
    program.forget_splits()
    return plan is None or bool(plan.spilled)


def _roomy(emitter: StripEmitter, target: Target, lookahead: float, fuse: bool) -> tuple[int, Candidate] | None:
    """The schedule for a memory with room for everything, in the number of bank groups in which it takes fewest cycles.

    None if the memory has no room for that, or if it limits the instructions themselves.
    """
    plan, program = emitter.plan, emitter.plan.program
    if not lookahead or emitter.was_limited or program.bytes_at_once > target.sram_bytes:
        return None
    memory = boundless(target)
    unlimited = Residency.decide(program, memory, memory.sram_bytes, Reserve(), fuse=fuse)
    if unlimited is None or not plan.equals(unlimited):
        return None
    operations = load_ahead(emitter.operations, memory, lookahead)
    placement = RoomyPlacement(operations, target)
    best: tuple[int, Candidate] | None = None
    for groups in group_counts(target, len(operations)):
        placed = placement.assign(groups)
        if placed is not None:
            cycles = _cycles(operations, placed, target)
            if best is None or cycles < best[0]:
                best = cycles, Candidate(operations, plan, whole(target), groups)
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

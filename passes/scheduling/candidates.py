"""Schedules for the whole memory and for parts of it: each is allocated and timed, and the quickest is taken."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ...backends.target import Target
from ...backends.timing.engine import run_timeline
from ...backends.timing.program import queue_instructions
from ...dialects.core.operation import Function, Operation
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp, TransferOp
from ..allocation.buffers import assign
from ..allocation.parts import Part, halves, whole
from .fitting import discard, fit
from .layers import Program
from .residency import Reserve, Residency
from .tokens import insert_tokens

MOST_INSTRUCTIONS = 6000
"""No further schedule is tried once all together have so many instructions: seconds of work."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A schedule that uses a part of the memory."""

    operations: list[Operation]
    plan: Residency
    part: Part


def first_candidate(function: Function, target: Target, lookahead: float, fuse: bool) -> Candidate | None:
    """The schedule for the whole memory; None if nothing fits."""
    return _candidate(function, target, whole(target), lookahead, fuse)


def quickest(
    function: Function, target: Target, lookahead: float, fuse: bool, most: int = MOST_INSTRUCTIONS
) -> Candidate | None:
    """The schedule of fewest cycles by the timing model for the memory or a part of it; None if nothing fits.

    Parts are halved as long as nothing is spilled in them. What a machine can do, one with more memory can do as well:
    the same instructions with the same operands in the same lines of the same banks. So where nothing is spilled, a
    machine with twice the banks, or twice the lines of each, is never slower, if not more than `most` instructions are
    to be tried and no buffer spans bank groups that come apart.
    """
    best: tuple[int, Candidate] | None = None
    tried = 0
    queue = deque([whole(target)])
    seen = set(queue)
    while queue and tried <= most:
        part = queue.popleft()
        if part != whole(target) and _spills(function, part.of(target)):
            continue
        following = [half for half in halves(part, target) if half not in seen]
        seen.update(following)
        queue.extend(following)
        found = _candidate(function, target, part, lookahead, fuse)
        if found is None:
            continue
        tried += len(found.operations)
        least = sum(op.size for op in found.operations if isinstance(op, TransferOp)) / target.dma.bytes_per_cycle
        cycles = _cycles(found, target) if best is None or least < best[0] else None
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


def _cycles(candidate: Candidate, target: Target) -> int | None:
    """The cycles of a schedule, None if its buffers find no place."""
    instructions = [op for op in candidate.operations if isinstance(op, InstructionOp)]
    assignment = assign(candidate.operations, target, part=candidate.part, settled=True)
    if assignment is None:
        return None
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

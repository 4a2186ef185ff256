"""From scheduled tile operations to the engines' queues."""

from __future__ import annotations

from collections.abc import Iterable

from ...dialects.tile.instruction import InstructionOp
from ..target import Target
from .duration import instruction_timing, operand_addresses
from .engine import QueuedInstruction


def queue_instructions(ops: Iterable[InstructionOp], target: Target) -> list[QueuedInstruction]:
    """The instructions of an allocated program, in order; KeyError where a buffer has no address yet."""
    return [
        QueuedInstruction(
            engine=op.engine,
            timing=instruction_timing(op, target, operand_addresses(op)),
            wait=op.wait,
            signal=op.signal,
            layer=op.layer,
            name=op.name,
            location=op.location,
        )
        for op in ops
    ]

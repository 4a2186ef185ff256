"""Which bank stalls remain in a program: by layer, what causes them and what would take them away."""

from __future__ import annotations

from collections import Counter

from accelc.backends.timing.engine import run_timeline
from accelc.backends.timing.program import queue_instructions
from accelc.compiler.driver import Compiled
from accelc.compiler.explaining import Conflict, bank_conflicts
from accelc.dialects.tile.instruction import InstructionOp

SHOWN = 3
"""Layers that are shown of a network, those that lose most."""


def stalls(compiled: Compiled) -> list[tuple[str, str, int, Conflict]]:
    """(layer, kind and mapping, cycles, worst conflict) of every layer that loses cycles in banks, the most first."""
    ops = [op for op in compiled.module.main.body if isinstance(op, InstructionOp)]
    target = compiled.settings.target
    timeline = run_timeline(queue_instructions(ops, target))
    lost: Counter[int] = Counter()
    for instruction, slot in zip(timeline.program, timeline.slots, strict=True):
        lost[instruction.layer] += instruction.timing.bank_stall_cycles + slot.stalled
    names, kinds = compiled.module.attributes["layers"], compiled.module.attributes["layer_kinds"]
    return [
        (str(names[layer]), str(kinds[layer]), cycles, bank_conflicts(layer, ops, timeline, target)[0])
        for layer, cycles in lost.most_common()
        if cycles
    ]

"""The tokens that keep engines in order exactly where memory they share demands it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.target import Target
from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Constant, Value
from ...dialects.core.types import Array
from ...dialects.tile.instruction import ENGINES, InstructionOp
from ...dialects.tile.memory import AllocOp

DRAM_GRAIN = 256
"""DRAM hazards are tracked in units of this many bytes."""


def insert_tokens(instructions: Sequence[InstructionOp], target: Target) -> None:
    """Set `wait` and `signal` of every instruction; CompileError if a buffer has no address.

    An instruction waits for the last instruction of another engine that wrote what it touches, or that read what it
    writes. A wait is left out when an earlier instruction of the same engine already waited for that or a later one.
    """
    memory = _Memory(instructions, target)
    waited: dict[str, dict[str, int]] = {engine: dict.fromkeys(ENGINES, -1) for engine in ENGINES}
    signals: dict[int, list[str]] = {}
    for position, op in enumerate(instructions):
        wait: list[str] = []
        for engine, last in memory.touch(position, op).items():
            if engine != op.engine and last > waited[op.engine][engine]:
                waited[op.engine][engine] = last
                wait.append(engine)
                signals.setdefault(last, []).append(op.engine)
        op.attributes.pop("signal", None)
        op.attributes.pop("wait", None)
        if wait:
            op.wait = tuple(wait)
    for position, engines in signals.items():
        instructions[position].signal = tuple(engine for engine in ENGINES if engine in engines)


class _Memory:
    """For every line of memory and every engine: the position of its last reader and of its last writer."""

    def __init__(self, instructions: Sequence[InstructionOp], target: Target) -> None:
        self.line = target.sram.line_bytes
        self.bases: dict[Value[Any], tuple[str, int]] = {}
        dram = 0
        for op in instructions:
            for value in op.operands:
                source = value.defining_op
                if isinstance(value, Constant) or value in self.bases:
                    continue
                if not isinstance(source, AllocOp):
                    raise op.error("operand is not a buffer or a constant, expected instructions from 'schedule'")
                if value.type.space == "dram":
                    self.bases[value] = ("dram", dram)
                    dram += -(-value.type.size // DRAM_GRAIN)
                elif source.address < 0:
                    raise CompileError(f"buffer %{value.name} has no address, run the pass 'allocate-banks' first")
                else:
                    self.bases[value] = (value.type.space, source.address)
        sizes = {"sram": -(-target.sram_bytes // self.line), "acc": target.accumulators.rows, "dram": dram}
        shape = (2, len(ENGINES))
        self.last: dict[str, Array] = {space: np.full((*shape, size), -1, np.int32) for space, size in sizes.items()}

    def touch(self, position: int, op: InstructionOp) -> dict[str, int]:
        """Record an instruction; returns for every engine the last instruction it must come after."""
        names = [f.name for f in op.operand_fields]
        after = np.full(len(ENGINES), -1, np.int32)
        spans: list[tuple[str, slice, bool]] = []
        for region in op.regions():
            value = op.operands[names.index(region.operand)]
            if value in self.bases and region.size:
                space, base = self.bases[value]
                spans.append((space, self._span(space, base, region.offset, region.end, op), region.writes))
        for space, span, writes in spans:
            before = self.last[space][0 if writes else 1 :, :, span]
            np.maximum(after, before.max(axis=(0, 2)), out=after)
        own = ENGINES.index(op.engine)
        for space, span, writes in spans:
            self.last[space][int(writes), own, span] = position
        return dict(zip(ENGINES, after.tolist(), strict=True))

    def _span(self, space: str, base: int, low: int, high: int, op: InstructionOp) -> slice:
        if space == "dram":
            return slice(base + low // DRAM_GRAIN, base + -(-high // DRAM_GRAIN))
        if space == "acc":
            columns = int(getattr(op, "tile_columns", 1))
            return slice(base + low // columns, base + -(-high // columns))
        return slice((base + low) // self.line, -(-(base + high) // self.line))

"""The tokens that keep engines in order exactly where memory they share demands it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
    addresses: dict[Value[Any], int] = {}
    for op in instructions:
        for value in op.operands:
            source = value.defining_op
            if isinstance(source, AllocOp) and value.type.space != "dram" and value not in addresses:
                if source.address < 0:
                    raise CompileError(f"buffer %{value.name} has no address, run the pass 'allocate-banks' first")
                addresses[value] = source.address
    found = Hazards(instructions, target).tokens(addresses)
    for op, (wait, signal) in zip(instructions, found, strict=True):
        for name, engines in (("wait", wait), ("signal", signal)):
            op.attributes.pop(name, None)
            if engines:
                op.attributes[name] = engines


class Tokens(NamedTuple):
    """The engines that an instruction waits for, and those that it signals."""

    wait: tuple[str, ...] = ()
    signal: tuple[str, ...] = ()


class _Span(NamedTuple):
    """What an instruction touches of a buffer: bytes of SRAM, rows of accumulators, grains of DRAM [first, last)."""

    space: str
    buffer: Value[Any]
    first: int
    last: int
    writes: bool


class Hazards:
    """What instructions touch, for any addresses of their buffers."""

    def __init__(self, instructions: Sequence[InstructionOp], target: Target) -> None:
        self.line = target.sram.line_bytes
        self.dram: dict[Value[Any], int] = {}
        """The first grain of each buffer in DRAM."""
        grains = 0
        for value in dict.fromkeys(value for op in instructions for value in op.operands):
            if isinstance(value, Constant):
                continue
            if not isinstance(value.defining_op, AllocOp):
                user = next(op for op in instructions if value in op.operands)
                raise user.error("operand is not a buffer or a constant, expected instructions from 'schedule'")
            if value.type.space == "dram":
                self.dram[value] = grains
                grains += -(-value.type.size // DRAM_GRAIN)
        self.sizes = {"sram": -(-target.sram_bytes // self.line), "acc": target.accumulators.rows, "dram": grains}
        self.engines = [ENGINES.index(op.engine) for op in instructions]
        self.spans = [self._spans(op) for op in instructions]

    def tokens(self, addresses: Mapping[Value[Any], int]) -> list[Tokens]:
        """The tokens of every instruction for addresses of all buffers of SRAM (bytes) and accumulators (rows)."""
        shape = (2, len(ENGINES))
        last = {space: np.full((*shape, size), -1, np.int32) for space, size in self.sizes.items()}
        bases = {**self.dram, **addresses}
        waited = [[-1] * len(ENGINES) for _ in ENGINES]
        waits: list[tuple[str, ...]] = []
        signals: list[set[int]] = [set() for _ in self.spans]
        for position, (own, spans) in enumerate(zip(self.engines, self.spans, strict=True)):
            after, places = [-1] * len(ENGINES), list[tuple[Array, slice, bool]]()
            for space, buffer, low, high, writes in spans:
                memory, base = last[space], bases[buffer]
                place = slice(base + low, base + high)
                if space == "sram":
                    place = slice(place.start // self.line, -(-place.stop // self.line))
                places.append((memory, place, writes))
                found = memory[0 if writes else 1 :, :, place].max(axis=(0, 2)).tolist()
                after = list(map(max, after, found))
            for memory, place, writes in places:
                memory[int(writes), own, place] = position
            wait: list[str] = []
            for engine, latest in enumerate(after):
                if engine != own and latest > waited[own][engine]:
                    waited[own][engine] = latest
                    wait.append(ENGINES[engine])
                    signals[latest].add(own)
            waits.append(tuple(wait))
        return [
            Tokens(wait, tuple(ENGINES[engine] for engine in sorted(signal)))
            for wait, signal in zip(waits, signals, strict=True)
        ]

    def _spans(self, op: InstructionOp) -> list[_Span]:
        names = [f.name for f in op.operand_fields]
        found: list[_Span] = []
        for region in op.regions():
            value = op.operands[names.index(region.operand)]
            if not isinstance(value, Constant) and region.size:
                space = value.type.space
                unit = {"dram": DRAM_GRAIN, "acc": int(getattr(op, "tile_columns", 1)), "sram": 1}[space]
                first, last = region.offset // unit, -(-region.end // unit)
                found.append(_Span(space, value, first, last, region.writes))
        return found

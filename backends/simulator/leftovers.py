"""Which bytes of a memory may be read before a run has written them: all that must be cleared between two runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.host import CallHostOp
from ...dialects.tile.instruction import InstructionOp, Region
from ..encoding import space_of
from ..host import OutputPort, final_type, stored_bytes
from ..program import Program
from .elementwise import region_view
from .memory import Extents

Leftovers = Mapping[str, tuple[slice, ...]]
"""Ranges of "sram" and "dram" (from the end of the constants on)."""

CLEARED_BYTES = 1 << 17
"""For each instruction: clearing as much memory takes as long as looking at the instruction here."""


def leftovers(program: Program, operations: Iterable[InstructionOp], size: Extents) -> Leftovers:
    """What must be cleared before a run, so that it finds zeros wherever nothing has written; `operations` by index."""
    return _Finder(program, list(operations), size).run()


class _Finder:
    def __init__(self, program: Program, operations: list[InstructionOp], size: Extents) -> None:
        self.program, self.operations = program, operations
        self.base = {"sram": 0, "dram": program.constants.size}
        self.written = {"sram": np.zeros(size.sram, np.bool_), "dram": np.zeros(size.dram, np.bool_)}
        self.missing = {space: np.zeros(bits.size, np.bool_) for space, bits in self.written.items()}

    def run(self) -> Leftovers:
        for port in self.program.inputs:
            for write in port.writes:
                self.visit("dram", _bytes(write.address, stored_bytes(final_type(port.type, write.steps)), writes=True))
        for index in self.program.order:
            op = self.operations[index]
            if isinstance(op, CallHostOp):
                self.read_back(self.program.host_calls[op.call].arguments)
            for region in op.regions():
                self.visit(space_of(type(op), region.operand), region)
        self.read_back(self.program.outputs)
        return {space: tuple(_ranges(bits)) for space, bits in self.missing.items()}

    def read_back(self, ports: Iterable[OutputPort]) -> None:
        for port in ports:
            if port.source is None:
                self.visit("dram", _bytes(port.address, stored_bytes(port.stored), writes=False))

    def visit(self, space: str, region: Region) -> None:
        if space not in self.written or region.offset < self.base[space] or not region.size:
            return
        written = region_view(region, self.written[space], self.base[space])
        if region.writes:
            written[...] = True
        elif not written.all():
            region_view(region, self.missing[space], self.base[space])[~written] = True


def _bytes(address: int, size: int, *, writes: bool) -> Region:
    return Region("", writes, address, (size,), (1,))


def _ranges(bits: Array) -> Iterable[slice]:
    """The runs of True."""
    edges = np.flatnonzero(np.diff(bits.view(np.int8), prepend=0, append=0)).tolist()
    return (slice(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True))

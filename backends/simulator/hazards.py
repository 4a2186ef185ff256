"""Checked mode: proves that a program reads only what was written and that tokens order all conflicting accesses.

Addresses and tokens do not depend on data, so one pass over the program covers every run and every timing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.types import Array
from ...dialects.tile.host import CallHostOp
from ...dialects.tile.instruction import ENGINES, Region
from ..encoding import space_of
from ..host import OutputPort, final_type, stored_bytes
from ..program import Program
from .elementwise import region_view


def check_hazards(program: Program) -> None:
    """Raise CompileError naming instruction, layer and address of the first poison read or unordered conflict."""
    _Checker(program).run()


@dataclass(eq=False)
class _Space:
    """For every element and engine, the number (from 1) of the engine's last instruction that wrote or read it."""

    name: str
    base: int
    unit: str
    written: Array
    writes: dict[str, Array]
    reads: dict[str, Array]


class _Checker:
    def __init__(self, program: Program) -> None:
        self.program = program
        target = program.target
        elements = target.accumulators.rows * target.array.columns
        ends = {"sram": 0, "acc": elements, "dram": program.dram_bytes - program.constants.size}
        for instruction in program.instructions:
            for region in instruction.regions():
                if space_of(instruction.op_class, region.operand) == "sram":
                    ends["sram"] = max(ends["sram"], region.end)
        self.spaces = {name: _space(name, size, program.constants.size) for name, size in ends.items()}
        self.numbers: dict[str, int] = {name: 0 for name in ENGINES}  # noqa: C420 - the key type is str
        self.history: dict[str, list[int]] = {name: [] for name in ENGINES}
        for port in program.inputs:
            for write in port.writes:
                start = write.address - program.constants.size
                size = stored_bytes(final_type(port.type, write.steps))
                self.spaces["dram"].written[start : start + size] = True

    def run(self) -> None:
        for index in self.program.order:
            instruction = self.program.instructions[index]
            engine = instruction.op_class.engine
            self.numbers[engine] += 1
            self.history[engine].append(index)
            if instruction.op_class is CallHostOp:
                call = self.program.host_calls[int(str(instruction.fields["call"]))]
                for port in call.arguments:
                    self.read_back(port, f"an argument of @{call.callee}")
            for region in instruction.regions():
                space = self.spaces[space_of(instruction.op_class, region.operand)]
                if region.size and region.offset >= space.base:
                    self.visit(index, region, space, engine)
        for port in self.program.outputs:
            self.read_back(port, f"output '{port.name}'")

    def read_back(self, port: OutputPort, what: str) -> None:
        """The host reads what must have been written: the queue of stores, which it waits for, is in order."""
        if port.source is None and port.address >= self.program.constants.size:
            start = port.address - self.program.constants.size
            missing = np.flatnonzero(~self.spaces["dram"].written[start : start + stored_bytes(port.stored)])
            if missing.size:
                place = f"DRAM address {port.address + int(missing[0]):#x}"
                raise CompileError(f"{what} is read from {place}, which nothing has written")

    def visit(self, index: int, region: Region, space: _Space, engine: str) -> None:
        clock = self.program.clocks[index]
        if not region.writes:
            view = region_view(region, space.written, space.base)
            if not view.all():
                place = self.place(region, space, ~view)
                raise CompileError(f"{self.program.describe(index)}: reads {place}, which nothing has written")
        for other, position in zip(ENGINES, clock.tolist(), strict=True):
            if other == engine:
                continue
            for kind, log in (("write", space.writes), ("read", space.reads)):
                if other in log and (region.writes or kind == "write"):
                    numbers = region_view(region, log[other], space.base)
                    if numbers.max() > position:
                        self.race(index, region, space, numbers, position, other, kind)
        log = space.writes if region.writes else space.reads
        if engine not in log:
            log[engine] = np.zeros(space.written.shape, np.int32)  # 0: never; untouched pages take no memory
        region_view(region, log[engine], space.base)[...] = self.numbers[engine]
        if region.writes:
            region_view(region, space.written, space.base)[...] = True

    def race(
        self, index: int, region: Region, space: _Space, numbers: Array, position: int, other: str, kind: str
    ) -> None:
        late = numbers > position
        culprit = self.history[other][int(numbers[late].flat[0]) - 1]
        action = "writes" if region.writes else "reads"
        raise CompileError(
            f"{self.program.describe(index)}: {action} {self.place(region, space, late)} and no token orders it after "
            f"the {kind} by {self.program.describe(culprit)}"
        )

    def place(self, region: Region, space: _Space, mask: Array) -> str:
        """The address of the first element of a region that a mask selects."""
        first = np.argwhere(mask)[0].tolist()
        address = region.offset + sum(i * stride for i, stride in zip(first, region.strides, strict=True))
        if space.unit == "row":
            columns = self.program.target.array.columns
            return f"'{region.operand}' at accumulator row {address // columns} column {address % columns}"
        return f"'{region.operand}' at {space.name.upper()} address {address:#x}"


def _space(name: str, size: int, constants: int) -> _Space:
    unit = "row" if name == "acc" else "byte"
    return _Space(name, constants if name == "dram" else 0, unit, np.zeros(size, np.bool_), {}, {})

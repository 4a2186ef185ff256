"""The buffers that scheduled instructions use in place of those of the lowered program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...dialects.core.operation import Operation, Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp, LoadOp
from ...dialects.tile.types import BufferType
from ..lowering.emission import contiguous
from .fusion import Roll
from .layers import Unit
from .residency import Residency
from .rolling import Rolling
from .spilling import Spills, Strips


@dataclass
class Step:
    """What the engines do for one strip or chunk; the stages of neighbouring steps overlap.

    `rows` are the accumulator rows that the array fills.
    """

    loads: list[Operation] = field(default_factory=list[Operation])
    array: list[Operation] = field(default_factory=list[Operation])
    vector: list[Operation] = field(default_factory=list[Operation])
    stores: list[Operation] = field(default_factory=list[Operation])
    rows: int = 0


@dataclass
class Buffers:
    """Resident tensors and constants by the buffer they stand for; spilled tensors are in `spills`."""

    plan: Residency
    known: dict[Value[Any], Value[Any]] = field(default_factory=dict[Value[Any], Value[Any]])
    spills: Spills = field(init=False)
    rolling: Rolling = field(init=False)
    rolls: dict[Value[Any], Roll] = field(init=False)

    def __post_init__(self) -> None:
        self.spills = Spills(self.plan)
        self.rolling = Rolling(self.plan)
        self.rolls = self.plan.rolls

    def allocate(self, unit: Unit, space: str, size: int, suffix: str, *, columns: int = 1) -> Value[Any]:
        """A new buffer for a unit."""
        op = AllocOp((), (BufferType(space, size),), {"columns": columns} if columns != 1 else {})
        op.buffer.name = _name(unit, suffix)
        return op.buffer

    def constants(self, unit: Unit) -> list[Operation]:
        """Loads of parameters and tables that are not in SRAM yet."""
        loads: list[Operation] = []
        for load in unit.constants:
            if load.destination not in self.known:
                buffer = self.allocate(unit, "sram", load.size, "parameters")
                self.known[load.destination] = buffer
                loads.append(load_like(load, buffer, **contiguous(load.size)))
        return loads

    def strips(self, unit: Unit, operations: Sequence[InstructionOp]) -> Strips:
        """Buffers and transfers for the spilled operands of cut instructions of a unit."""
        return self.spills.strips(operations, _name(unit, "strip"), unit.layer, unit.main.location)

    def hold(self, unit: Unit) -> LoadOp | None:
        """The load of what a product holds of a spilled tensor, None if there is no such tensor."""
        if unit.held not in self.plan.spilled or not isinstance(unit.main, MatmulOp):
            return None
        return self.spills.hold(unit.main, _name(unit, "held"))

    def bound(self, operations: Sequence[InstructionOp], strips: Strips) -> list[Operation]:
        """Point cut instructions at the new buffers; offsets into strips count from the strip's first row.

        Copies of the rows at the borders of rolling tensors stand before them.
        """
        copies: list[Operation] = []
        for op in operations:
            for index, value in enumerate(op.operands):
                if value in strips.buffers:
                    strips.bind(op, index)
                elif value in self.rolls:
                    copies += self.rolling.bind(op, index)
                elif value in self.plan.program.tensors:
                    op.set_operand(index, self._resident(value))
                elif value in self.known:
                    op.set_operand(index, self.known[value])
        return [*copies, *operations]

    def _resident(self, tensor: Value[Any]) -> Value[Any]:
        if tensor not in self.known:
            op = AllocOp((), (tensor.type,), {"row_stride": self.plan.row_stride(tensor)})
            op.buffer.name = tensor.name
            self.known[tensor] = op.buffer
        return self.known[tensor]


def load_like(like: LoadOp, buffer: Value[Any], **attributes: int) -> LoadOp:
    """A load from the source of another one, for the same layer."""
    kept = {name: v for name, v in attributes.items() if v != LoadOp.attribute_fields[name].default}
    return LoadOp([like.source, buffer], (), {**kept, "layer": like.layer}, like.location)


def _name(unit: Unit, suffix: str) -> str:
    nodes = unit.main.location.nodes
    return f"{nodes[0] if nodes else f'layer{unit.layer}'}.{suffix}"

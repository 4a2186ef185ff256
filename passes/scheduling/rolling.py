"""The segments of rolling tensors: which one an instruction works on, and the copies of rows at their borders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...dialects.core.operation import Operation, Value
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp
from ...dialects.tile.movement import MoveOp
from ...dialects.tile.types import BufferType
from .chunks import rows_touched
from .fusion import Roll
from .residency import Residency

LONGEST = 2**16 - 1
"""The most bytes along one axis of a move."""


@dataclass
class Rolling:
    """Buffers of the segments by tensor and number, and the borders whose copied rows are not up to date."""

    plan: Residency
    segments: dict[tuple[Value[Any], int], Value[Any]] = field(default_factory=dict[Any, Any])
    stale: set[tuple[Value[Any], int]] = field(default_factory=set[Any])

    def bind(self, op: InstructionOp, index: int) -> list[Operation]:
        """Point one operand at the segment that holds its rows; returns the copies that must come before."""
        tensor, operand = op.operands[index], op.operand_fields[index].name
        roll, stride = self.plan.rolls[tensor], self.plan.row_stride(tensor)
        regions = [region for region in op.regions() if region.operand == operand]
        first, last = rows_touched(regions, stride)
        number = (last - 1) // roll.rows
        copies: list[Operation] = []
        if first < number * roll.rows and (tensor, number) in self.stale:
            self.stale.discard((tensor, number))
            copies.append(self._copy(op, tensor, roll, number))
        if any(region.writes for region in regions) and last > (number + 1) * roll.rows - roll.halo:
            self.stale.add((tensor, number + 1))
        name = f"{operand}_offset"
        offset = op.attribute_or_default(name)
        assert isinstance(offset, int)
        op.attributes[name] = offset - roll.base(number) * stride
        op.set_operand(index, self._segment(tensor, roll, number))
        return copies

    def _segment(self, tensor: Value[Any], roll: Roll, number: int) -> Value[Any]:
        if (tensor, number) not in self.segments:
            stride, size = self.plan.row_stride(tensor), self.plan.program.tensors[tensor]
            end = min((number + 1) * roll.rows * stride, size)
            op = AllocOp((), (BufferType("sram", end - roll.base(number) * stride),))
            op.buffer.name = f"{tensor.name or 'tensor'}.segment"
            self.segments[tensor, number] = op.buffer
        return self.segments[tensor, number]

    def _copy(self, op: InstructionOp, tensor: Value[Any], roll: Roll, number: int) -> MoveOp:
        """The last rows of a segment become the first ones of the next."""
        stride = self.plan.row_stride(tensor)
        rows = number * roll.rows - roll.base(number)
        run = next(
            stride // parts for parts in range(1, stride + 1) if stride % parts == 0 and stride // parts <= LONGEST
        )
        attributes = {
            "size2": rows * stride // run,
            "size3": run,
            "input_offset": (roll.base(number) - roll.base(number - 1)) * stride,
            "input_stride2": run,
            "output_stride2": run,
            "layer": op.layer,
        }
        kept = {
            name: v for name, v in attributes.items() if v != MoveOp.attribute_fields[name].default or name == "layer"
        }
        operands = [self._segment(tensor, roll, number - 1), self._segment(tensor, roll, number)]
        return MoveOp(operands, (), kept, op.location)

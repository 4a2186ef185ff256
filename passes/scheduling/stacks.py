"""Stacks of matrices: tensors of which every row is a matrix that products write or read by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...dialects.core.operation import Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp
from ...dialects.tile.types import BufferType
from ...dialects.tile.window import WindowOp
from .chunks import all_rows_touched
from .layers import Program, Unit
from .strips import cut_rows

Parts = dict[int, int | None]
"""By the row of a stack that is touched the row of a unit that does so, None for a unit that touches no other."""


@dataclass
class Stack:
    """Tensors with as many rows, and the units that touch any of them: each one row only, or one row after another."""

    tensors: set[Value[Any]]
    parts: dict[Unit, Parts]


def find_stack(program: Program, tensors: Iterable[Value[Any]]) -> Stack | None:
    """The stack around the first of these tensors that a product takes a row of; None if there is none."""
    for tensor in tensors:
        found = _stack(program, {tensor})
        if found is not None and any(isinstance(unit.main, MatmulOp) for unit in found.parts):
            return _grown(program, found)
    return None


def _grown(program: Program, stack: Stack) -> Stack:
    """The stack with all tensors that units take row by row together with it."""
    tried = set(stack.tensors)
    while True:
        split = [unit for unit, parts in stack.parts.items() if None not in parts.values()]
        other = next((tensor for unit in split for tensor in unit.tensors if tensor not in tried), None)
        if other is None:
            return stack
        tried.add(other)
        stack = _stack(program, {*stack.tensors, other}) or stack


def _stack(program: Program, tensors: set[Value[Any]]) -> Stack | None:
    rows = {program.tensors[tensor] // program.row_stride(tensor) for tensor in tensors}
    if len(rows) != 1 or rows == {1}:
        return None
    found: dict[Unit, Parts] = {}
    for index in sorted({index for tensor in tensors for index in program.uses.get(tensor, ())}):
        parts = _parts(program, program.units[index], tensors)
        if parts is None:
            return None
        found[program.units[index]] = parts
    return Stack(tensors, found)


def _parts(program: Program, unit: Unit, tensors: set[Value[Any]]) -> Parts | None:
    """A unit by rows of a stack; None if a row of the unit touches several of these, or a window does."""
    row = _row(program, unit.operations, tensors)
    if row is not None:
        return {row: None}
    if isinstance(unit.main, WindowOp):
        return None
    found: Parts = {}
    for start in range(unit.rows):
        part = cut_rows(unit.main, start, 1)
        row = _row(program, [part], tensors)
        part.set_operands(())
        if row is None or row in found:
            return None
        found[row] = start
    return found


def _row(program: Program, operations: list[InstructionOp], tensors: set[Value[Any]]) -> int | None:
    """The one row that instructions touch of all these tensors."""
    spans = [all_rows_touched(program, op) for op in operations]
    touched = {rows for span in spans for tensor, rows in span.items() if tensor in tensors}
    first, last = touched.pop()
    return first if not touched and last == first + 1 else None


@dataclass
class Matrices:
    """The buffers of single matrices, which take the place of the rows of a stack."""

    program: Program
    stack: Stack
    buffers: dict[tuple[Value[Any], int], AllocOp]

    @classmethod
    def of(cls, program: Program, stack: Stack) -> Matrices:
        """A buffer for every matrix."""
        buffers: dict[tuple[Value[Any], int], AllocOp] = {}
        for tensor in sorted(stack.tensors, key=program.rank.__getitem__):
            stride = program.row_stride(tensor)
            for row in range(program.tensors[tensor] // stride):
                alloc = AllocOp((), (BufferType("sram", stride),), {"row_stride": stride})
                alloc.buffer.name = tensor.name
                buffers[tensor, row] = alloc
        return cls(program, stack, buffers)

    def part(self, unit: Unit, row: int) -> list[InstructionOp]:
        """The instructions of a unit that touch one row of the stack, on its matrices."""
        start = self.stack.parts[unit][row]
        operations = [op if start is None else cut_rows(op, start, 1) for op in unit.operations]
        for op in operations:
            for index, value in enumerate(op.operands):
                if value in self.stack.tensors:
                    name = f"{op.operand_fields[index].name}_offset"
                    offset = op.attribute_or_default(name)
                    assert isinstance(offset, int)
                    op.attributes[name] = offset - row * self.program.row_stride(value)
                    if not op.attributes[name]:
                        del op.attributes[name]
                    op.set_operand(index, self.buffers[value, row].buffer)
        return operations

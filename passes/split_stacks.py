"""Large stacks of matrices become single matrices, and what is done with one is done before the next is made."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar

from ..dialects.core.operation import Module, Operation, Value
from ..dialects.tile.array import MatmulOp
from ..dialects.tile.host import CallHostOp
from ..dialects.tile.instruction import InstructionOp
from ..dialects.tile.memory import AllocOp
from .framework.base import Pass, at_least
from .framework.environment import Environment
from .scheduling.layers import Program, Unit
from .scheduling.stacks import Matrices, Stack, find_stack


@dataclass(frozen=True)
class SplitStacks(Pass):
    """Give every matrix of a large stack (the scores of one head of an attention) a tensor of its own.

    A stack is large if it takes more than 1 / `share` of the SRAM. Products make and use one matrix at a time; what
    stands between them takes each row by itself, so it becomes an instruction for each matrix. They are then ordered
    matrix by matrix, if nothing else forbids: few matrices are live together, and chains of them run depth-first.
    """

    name: ClassVar[str] = "split-stacks"

    share: int = at_least(1, 4)

    def run(self, module: Module, environment: Environment) -> None:
        """Rewrite the instructions of @main that touch large stacks."""
        limit = environment.require_target(self.name).sram_bytes // self.share
        body = module.main.body
        while True:
            program = Program.of(module.main)
            stack = find_stack(program, [tensor for tensor, size in program.tensors.items() if size > limit])
            if stack is None:
                return
            operations = _split(list(body), program, stack)
            for op in list(body):
                op.detach()
            for op in operations:
                body.append(op)


def _split(operations: list[Operation], program: Program, stack: Stack) -> list[Operation]:
    """The operations of the function with matrices instead of the stack."""
    together = _can_regroup(operations, program, stack)
    matrices = Matrices.of(program, stack)
    members: dict[Operation, Unit] = {op: unit for unit in stack.parts for op in unit.operations}
    made = {unit: {row: matrices.part(unit, row) for row in parts} for unit, parts in stack.parts.items()}
    gone = {tensor.defining_op for tensor in stack.tensors}
    result: list[Operation] = [*matrices.buffers.values()]
    waiting = set(members)
    for op in operations:
        unit = members.get(op)
        if unit is None and op not in gone:
            result.append(op)
        elif unit is not None:
            waiting.discard(op)
            if not together and op is unit.main:
                result += [each for part in made[unit].values() for each in part]
            elif together and not waiting:
                ordered = sorted(((row, part) for own in made.values() for row, part in own.items()), key=itemgetter(0))
                result += [each for _, part in ordered for each in part]
    kept = set(result)
    for op in operations:
        if op not in kept:
            op.set_operands(())
    return result


def _can_regroup(operations: list[Operation], program: Program, stack: Stack) -> bool:
    """True if all that stands between the units of a stack may come before them, and matrices one after another.

    So it is if nothing between them writes what they touch or reads what they write, and of the tensors beside the
    stack only products write any, which none of the units reads.
    """
    members = {op for unit in stack.parts for op in unit.operations}
    places = [index for index, op in enumerate(operations) if op in members]
    between = [op for op in operations[places[0] : places[-1]] if op not in members]
    if any(isinstance(op, CallHostOp) or not isinstance(op, (InstructionOp, AllocOp)) for op in between):
        return False
    beside = program.tensors.keys() - stack.tensors
    read, written = _touched(members, beside)
    others = [op for unit in stack.parts if not isinstance(unit.main, MatmulOp) for op in unit.operations]
    if read & written or _touched(others, beside)[1]:
        return False
    reads, writes = _touched([op for op in between if isinstance(op, InstructionOp)], beside)
    return not (reads & written or writes & (read | written))


def _touched(operations: Iterable[InstructionOp], tensors: Set[Value[Any]]) -> tuple[set[Value[Any]], set[Value[Any]]]:
    """Which of these tensors instructions read, and which they write."""
    found: tuple[set[Value[Any]], set[Value[Any]]] = (set(), set())
    for op in operations:
        names = [field.name for field in op.operand_fields]
        for region in op.regions():
            value = op.operands[names.index(region.operand)]
            if value in tensors:
                found[region.writes].add(value)
    return found

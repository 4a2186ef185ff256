"""Whole-layer instructions become strips in an order and of a size that fit the machine."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, ClassVar

from ..backends.target import Target
from ..dialects.core.diagnostics import CompileError, Diagnostic
from ..dialects.core.operation import Module, Operation, Value
from ..dialects.tile.host import CallHostOp
from ..dialects.tile.instruction import InstructionOp
from ..dialects.tile.memory import AllocOp, LoadOp
from .allocation.parts import whole
from .framework.base import Pass, at_least
from .framework.environment import Environment
from .scheduling.layers import Program
from .scheduling.machines import quickest
from .scheduling.residency import Policy, Residency


@dataclass(frozen=True)
class Schedule(Pass):
    """Cut layers into strips that fit the SRAM, keep tensors there where possible, and load ahead.

    Where all tensors and constants find room at once, the buffers go to as many bank groups as take fewest cycles. Else
    tensors that do not fit are spilled to DRAM, the ones that cost least traffic first. `lookahead` is the share of the
    SRAM budget that loads may fill ahead of the work that needs them; 0 loads just before. With `fuse` 0 no layers
    run depth-first: what does not fit is spilled. Programs of few instructions are scheduled in other orders, for
    smaller budgets and for parts of the SRAM as well (fewer banks, fewer lines of each) where that is likely to be
    quicker, of longer ones smaller budgets that estimates do not tell apart; all are timed, and the quickest is taken.
    With `effort` 1 also of all that would be tried for any machine with a part of the SRAM or a slower DRAM channel:
    what those find, a better one finds.
    """

    name: ClassVar[str] = "schedule"

    lookahead: float = at_least(0, 1.0)
    fuse: int = at_least(0, 1, maximum=1)
    effort: int = at_least(0, 0, maximum=1)

    def run(self, module: Module, environment: Environment) -> None:
        """Rewrite @main; raises CompileError if a layer cannot run in the memory of the target."""
        target = environment.require_target(self.name)
        function = module.main
        fuse, exhaustive, progress = bool(self.fuse), bool(self.effort), environment.progress
        found = quickest(function, target, self.lookahead, fuse=fuse, exhaustive=exhaustive, progress=progress)
        if found is None:
            raise CompileError(_too_large(Program.of(function), target))
        program, operations, plan = found.plan.program, found.operations, found.plan
        spilled = plan.spilled - _inputs(program)
        old = list(function.body)
        for op in old:
            op.detach()
        scheduled = _with_host(_with_allocations(operations, program.before), program)
        for op in (*program.before, *scheduled, *program.after):
            function.body.append(op)
        kept = set(function.body)
        for op in reversed(old):
            if op not in kept:
                op.set_operands(())
        if found.part != whole(target):
            module.attributes["sram_part"] = astuple(found.part)
        if found.groups:
            module.attributes["sram_groups"] = found.groups
        module.attributes["spilled_bytes"] = sum(program.tensors[tensor] for tensor in spilled)


def _too_large(program: Program, target: Target) -> list[Diagnostic]:
    """Name the unit that needs most, as the reason why nothing fits."""
    plan = Residency(program, target, target.sram_bytes, Policy(double_buffered=False), spilled=set(program.tensors))
    needs = [plan.need(index) for index in range(len(program.units))]
    worst = needs.index(max(needs))
    unit = program.units[worst]
    message = f"needs {needs[worst]} bytes of SRAM in its smallest strips, target has {target.sram_bytes}"
    if needs[worst] <= target.sram_bytes:
        rows = target.accumulators.rows
        message = (
            f"needs {needs[worst]} of {target.sram_bytes} bytes of SRAM in its smallest strips, but no order of "
            f"buffers fits into the banks that the blocks reach and {rows} accumulator rows"
        )
    return list(unit.main.error(message, notes=("choose a target with more SRAM, or a smaller layer",)).diagnostics)


def _inputs(program: Program) -> set[Value[Any]]:
    """Tensors that are loaded from where the host has put them: spilling them costs no store."""
    return set[Value[Any]](unit.main.destination for unit in program.units if isinstance(unit.main, LoadOp))


def _with_host(operations: list[Operation], program: Program) -> list[Operation]:
    """What the host does in a call stands behind its instruction."""
    result: list[Operation] = []
    for op in operations:
        result.append(op)
        if isinstance(op, CallHostOp):
            result += program.on_host[op.call]
    return result


def _with_allocations(operations: list[Operation], before: list[Operation]) -> list[Operation]:
    """Every buffer is allocated directly before its first use."""
    known = set[Value[Any]](value for op in before for value in op.results)
    result: list[Operation] = []
    for op in operations:
        for value in op.operands:
            source = value.defining_op
            if isinstance(source, AllocOp) and value not in known:
                known.add(value)
                result.append(source)
        assert isinstance(op, InstructionOp)
        result.append(op)
    return result

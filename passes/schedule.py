"""Whole-layer instructions become strips in an order and of a size that fit the machine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np

from ..backends.target import Target
from ..dialects.core.diagnostics import CompileError, Diagnostic
from ..dialects.core.operation import Module, Operation, Value
from ..dialects.tile.host import CallHostOp
from ..dialects.tile.instruction import InstructionOp
from ..dialects.tile.memory import AllocOp, LoadOp
from .allocation.crowding import crowding
from .framework.base import Pass, at_least
from .framework.environment import Environment
from .scheduling.emission import StripEmitter
from .scheduling.layers import Program
from .scheduling.prefetch import prefetch
from .scheduling.residency import Reserve, Residency
from .scheduling.tracks import Track

BUDGETS = (1.0, 0.92, 0.84, 0.76, 0.66, 0.56, 0.46, 0.36, 0.26)
"""Fractions of the SRAM that are tried as the sum of live buffers, until the addresses can be packed."""

TRIED = 2
"""So many budgets that work are compared: a smaller one fuses more layers, or leaves more room for overlap."""

ALIKE = 0.005
"""Schedules whose estimates differ by no more than this share are taken for equally quick."""

CORRECTIONS = 8
"""Times that a schedule makes room where its buffers found no place, before the next budget is tried."""

LOOKAHEADS = (1.0, 0.8, 0.65, 0.5, 0.35)
"""Fractions of the budget that loads may fill ahead, tried until the addresses can be packed."""

RETREATS = 4
"""Times that loads are held back where their buffers found no place, before the next fraction is tried."""


@dataclass(frozen=True)
class Schedule(Pass):
    """Cut layers into strips that fit the SRAM, keep tensors there where possible, and load ahead.

    Tensors that do not fit are spilled to DRAM, the ones that cost least traffic first. `lookahead` is the share of
    the SRAM budget that loads may fill ahead of the work that needs them; 0 loads just before. With `fuse` 0 no layers
    run depth-first: what does not fit is spilled.
    """

    name: ClassVar[str] = "schedule"

    lookahead: float = at_least(0, 1.0)
    fuse: int = at_least(0, 1, maximum=1)

    def run(self, module: Module, environment: Environment) -> None:
        """Rewrite @main; raises CompileError if a layer cannot run in the memory of the target."""
        target = environment.require_target(self.name)
        function = module.main
        program = Program.of(function)
        found = _fit(program, target, self.lookahead, bool(self.fuse))
        if found is None:
            raise CompileError(_too_large(program, target))
        operations, plan = found
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
        module.attributes["spilled_bytes"] = sum(program.tensors[tensor] for tensor in spilled)


def _fit(program: Program, target: Target, lookahead: float, fuse: bool) -> tuple[list[Operation], Residency] | None:
    """The quickest schedule by estimate of the largest budgets whose buffers can be packed.

    Double-buffered if there is one. Where two are about as quick, the one that was easier to pack, as it leaves more
    room to load ahead: greedy orders before the exact search.
    """
    found: list[StripEmitter] = []
    for double_buffered, share in product((True, False), BUDGETS):
        if found and (len(found) >= TRIED or not double_buffered):
            break
        budget = int(target.sram_bytes * share)
        for search in (False, True):
            emitter = _packable(program, target, budget, search, double_buffered=double_buffered, fuse=fuse)
            if emitter is not None:
                found.append(emitter)
            if emitter is not None and not emitter.plan.reserve.always:
                break
        if found and found[0].plan.reserve.is_empty and found[0].plan.most <= target.sram_bytes * BUDGETS[1]:
            break  # the next budget leads to the same plan
    if not found:
        return None
    best = min(found, key=lambda emitter: emitter.cycles)
    best = next(emitter for emitter in found if emitter.cycles <= best.cycles * (1 + ALIKE))
    for emitter in found:
        if emitter is not best:
            _discard(emitter)
    operations = _loaded_ahead(best.operations, best.plan, lookahead) if lookahead else best.operations
    return operations, best.plan


def _packable(
    program: Program, target: Target, budget: int, search: bool, *, double_buffered: bool, fuse: bool
) -> StripEmitter | None:
    """The instructions of a plan within a budget whose buffers can be packed, None if none is found.

    Plans count what units need; how pieces overlap, and gaps between buffers, can take more. Where that does not fit,
    units first run beside fewer others, then keep more room of their own.
    """
    reserve = Reserve()
    for _ in range(CORRECTIONS):
        plan = Residency.decide(program, target, budget, reserve, double_buffered=double_buffered, fuse=fuse)
        if plan is None:
            return None
        emitter = StripEmitter(plan)
        crowded = crowding(emitter.emit(), target, search=search)
        if crowded is None:
            return emitter
        corrections: dict[Track, int] = {}
        for position in crowded.lacking.nonzero()[0].tolist():
            owner = emitter.owners[position]
            corrections[owner] = max(corrections.get(owner, 0), int(crowded.lacking[position]))
        for track, size in corrections.items():
            if track.beside:
                reserve.beside[track.index] = 2 * reserve.beside.get(track.index, 0) + size
            else:
                unused = max(0, budget - plan.need(track.index))
                reserve.always[track.index] = reserve.always.get(track.index, 0) + unused + size
        _discard(emitter)
    return None


def _loaded_ahead(operations: list[Operation], plan: Residency, lookahead: float) -> list[Operation]:
    """The operations with loads as early as the share `lookahead` of the budget allows and buffers can be packed."""
    slots = sum(not isinstance(op, LoadOp) for op in operations) + 1
    for fraction in LOOKAHEADS:
        limits = np.full(slots, int(plan.budget * lookahead * fraction))
        for retreat in range(RETREATS):
            ahead = prefetch(operations, limits)
            crowded = crowding(ahead, plan.target, search=False, accumulators=False)
            if crowded is None:
                return ahead
            at = np.cumsum([not isinstance(op, LoadOp) for op in ahead])
            where = crowded.lacking > 0
            live = np.minimum(crowded.live, limits[at])
            np.minimum.at(limits, at[where], (live - (crowded.lacking << retreat))[where])
    return operations


def _discard(emitter: StripEmitter) -> None:
    """Nothing uses the operands of operations that are not taken."""
    for op in emitter.operations:
        op.set_operands(())


def _too_large(program: Program, target: Target) -> list[Diagnostic]:
    """Name the unit that needs most, as the reason why nothing fits."""
    plan = Residency(program, target, target.sram_bytes, False, spilled=set(program.tensors))
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

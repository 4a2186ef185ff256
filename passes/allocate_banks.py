"""Every buffer gets an address, and with it its banks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..backends.target import Target
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module
from ..dialects.tile.instruction import InstructionOp
from ..dialects.tile.memory import AllocOp
from .allocation.parts import LEAST_LINES, Part, is_part, whole
from .allocation.roomy import assign_in
from .framework.base import Pass
from .framework.environment import Environment


@dataclass(frozen=True)
class AllocateBanks(Pass):
    """Give every SRAM and accumulator buffer an address, away from the banks of what runs beside it.

    Buffers live from their first to their last use in program order. Operands of the array go to bank groups that all
    block ports reach. Buffers that different engines read (or write) within a few instructions, and the input and the
    weights of one matmul, are kept in different bank groups where there is room. Where greedy orders leave no room, an
    exact search packs as tightly as needed, and single buffers then move away from conflicts. The attribute `sram_part`
    of the module says in which part of the SRAM this happens: banks, lines of each, banks that block ports reach. With
    `sram_groups` it is in the first so many bank groups of that, from the beginning of each.
    """

    name: ClassVar[str] = "allocate-banks"

    def run(self, module: Module, environment: Environment) -> None:
        """Set the addresses; raises CompileError if the buffers do not fit."""
        target = environment.require_target(self.name)
        operations = [op for op in module.main.body if isinstance(op, InstructionOp)]
        part = _part(module, target)
        assignment = assign_in(list(operations), target, part, _groups(module, part.of(target)))
        if assignment is None:
            raise CompileError(
                f"buffers do not fit into {target.sram_bytes} bytes of SRAM and {target.accumulators.rows} accumulator "
                "rows, expected a schedule that fits; run the pass 'schedule' first"
            )
        for value, address in assignment.addresses.items():
            source = value.defining_op
            assert isinstance(source, AllocOp)
            source.address = address
        module.attributes |= {
            "sram_peak_bytes": assignment.peak,
            "sram_lower_bound_bytes": assignment.lower_bound,
            "spilled_bytes": module.attributes.get("spilled_bytes", 0),
        }


def _groups(module: Module, memory: Target) -> int:
    """The number of bank groups that `schedule` has chosen, 0 if it has not; CompileError if there are not so many."""
    given = module.attributes.get("sram_groups")
    if given is None:
        return 0
    if type(given) is int and 1 <= given <= memory.groups:
        return given
    raise CompileError(
        f"'sram_groups' is {given}, expected 1 to {memory.groups} bank groups; run the pass 'schedule' for this target"
    )


def _part(module: Module, target: Target) -> Part:
    """The part of the SRAM that `schedule` has chosen; CompileError if it is none of this target."""
    given = module.attributes.get("sram_part")
    if given is None:
        return whole(target)
    part = Part(*given) if isinstance(given, tuple) and len(given) == 3 and all(type(n) is int for n in given) else None
    if part is None or not is_part(part, target):
        sram = target.sram
        raise CompileError(
            f"'sram_part' is {given}, expected at most {sram.banks} banks in groups of {sram.interleave}, "
            f"{LEAST_LINES} to {sram.bank_lines} lines, and {target.crossbar.reach_banks} banks that blocks reach; run "
            "the pass 'schedule' for this target"
        )
    return part

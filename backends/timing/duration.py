"""The cost of one instruction: how long its engine is busy, what that costs the array, which bank groups it holds.

A cost depends on the attributes of the instruction, the addresses of its operands and the target, never on data. The
parts that take time are memoised by the fields that matter and by addresses modulo the period of the banks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...dialects.core.diagnostics import CompileError
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp
from ..target import Target
from .banks import BankMap
from .matmul import ArrayMachine, array_machine, matmul_cost, matmul_problem, matmul_shape
from .record import Instruction, InstructionTiming
from .vector import Pattern, Placed, vector_cost, work_of

__all__ = ["instruction_timing", "matmul_problem", "operand_addresses", "pretend_addresses"]


def instruction_timing(op: Instruction, target: Target, addresses: Mapping[str, int]) -> InstructionTiming:
    """The cost of one instruction on a target.

    `op` is a tile operation or anything with its name and the attributes of the same names. `addresses` gives for
    every SRAM operand its address in bytes, the operand's offset included (`operand_addresses`, `pretend_addresses`).
    Raises KeyError where an address is missing, CompileError where `useful_macs` exceeds what it multiplies.

    A transfer of n bytes takes ceil(n / dma.bytes_per_cycle) cycles and dma.latency_cycles until it is visible; for
    the other engines see `matmul` and `vector`.
    """
    if op.name == "tile.matmul":
        return _matmul_timing(op, target, addresses)
    if op.name in ("tile.load", "tile.store"):
        return _transfer_timing(op, target, addresses)
    return _vector_timing(op, target, addresses)


def operand_addresses(op: InstructionOp) -> dict[str, int]:
    """The address of every operand that is a `tile.alloc` with an address, offset included (rows in accumulators)."""
    found: dict[str, int] = {}
    for field, value in zip(op.operand_fields, op.operands, strict=False):
        alloc = value.defining_op
        if isinstance(alloc, AllocOp) and alloc.address >= 0:
            found[field.name] = alloc.address + int(getattr(op, f"{field.name}_offset"))
    return found


def pretend_addresses(op: Instruction, target: Target) -> dict[str, int]:
    """Addresses for a cost before allocation: every SRAM operand at the start of a group of its own, accumulators at 0.

    Operands of the array get groups that the block ports reach. Where the groups run out they are shared.
    """
    groups = sorted(target.reachable_groups) if op.name == "tile.matmul" else list(range(target.groups))
    found, used = {"accumulator": 0}, 0
    for name, span in _operand_spans(op):
        found[name] = groups[used % len(groups)] * target.group_bytes
        used += -(-span // target.group_bytes)
    return found


def _operand_spans(op: Any) -> Sequence[tuple[str, int]]:
    if op.name == "tile.matmul":
        shape = matmul_shape(op)
        return ("input", shape.input_span), ("weights", shape.weight_span)
    if op.name in ("tile.load", "tile.store"):
        return (_transfer_side(op),)
    work = work_of(op)
    return tuple((name, pattern.span) for name, pattern in (*work.reads, *work.writes))


def _matmul_timing(op: Any, target: Target, addresses: Mapping[str, int]) -> InstructionTiming:
    shape, machine = matmul_shape(op), _machine(target)
    held_input = frozenset(target.groups_of(addresses["input"], shape.input_span))
    held_weights = frozenset(target.groups_of(addresses["weights"], shape.weight_span))
    place = machine.banks.canonical(addresses["input"], shape.input_span)
    cost = matmul_cost(shape, machine, place, not held_input.isdisjoint(held_weights))
    block = machine.lanes * machine.columns
    dense = shape.macs // op.pack
    if op.useful_macs > dense:
        raise CompileError(f"tile.matmul: useful_macs is {op.useful_macs}, expected at most {dense}")
    slots = {
        "useful_mac": op.useful_macs,
        "reduction_padding": cost.reduction_padding + dense - op.useful_macs,
        "column_padding": cost.column_padding,
        "edge_rows": cost.edge_rows,
        "depthwise_diagonal": cost.depthwise_diagonal + shape.macs - dense,
        "wide_numbers": cost.wide_numbers,
        "weight_load": cost.weight_load_cycles * machine.blocks * block,
        "bank_stall": cost.bank_stall_cycles * machine.blocks * block,
    }
    return InstructionTiming(
        occupancy=cost.occupancy,
        latency=target.array.latency_cycles,
        slots={cause: count for cause, count in slots.items() if count},
        bank_stall_cycles=cost.bank_stall_cycles,
        reads=held_input | held_weights,
        sram_read_lines=cost.input_lines + cost.weight_lines,
    )


def _vector_timing(op: Any, target: Target, addresses: Mapping[str, int]) -> InstructionTiming:
    work, banks = work_of(op), _machine(target).banks
    reads, held_reads = _place(work.reads, addresses, target, banks)
    writes, held_writes = _place(work.writes, addresses, target, banks)
    cost = vector_cost(work.element_passes, reads, writes, target.vector.lanes, banks)
    return InstructionTiming(
        occupancy=cost.occupancy,
        latency=target.vector.latency_cycles,
        bank_stall_cycles=cost.bank_stall_cycles,
        reads=held_reads,
        writes=held_writes,
        sram_read_lines=cost.read_lines,
        sram_write_lines=cost.write_lines,
    )


def _place(
    patterns: Sequence[tuple[str, Pattern]], addresses: Mapping[str, int], target: Target, banks: BankMap
) -> tuple[Placed, frozenset[int]]:
    """Patterns at canonical addresses, their groups numbered from 0, and the bank groups they hold."""
    placed: list[tuple[Pattern, int, int]] = []
    held: set[int] = set()
    first = min((addresses[name] // banks.group_bytes for name, _ in patterns), default=0)
    for name, pattern in patterns:
        address, span = addresses[name], pattern.span
        group = address // banks.group_bytes
        placed.append((pattern, banks.canonical(address, span), group - first))
        held.update(target.groups_of(address, span))
    return tuple(placed), frozenset(held)


def _transfer_timing(op: Any, target: Target, addresses: Mapping[str, int]) -> InstructionTiming:
    size = op.outer * op.inner * op.run
    name, span = _transfer_side(op)
    held = frozenset(target.groups_of(addresses[name], span))
    lines = -(-op.run // target.sram.line_bytes) * op.outer * op.inner
    is_load = op.name == "tile.load"
    return InstructionTiming(
        occupancy=max(1, math.ceil(size / target.dma.bytes_per_cycle)),
        latency=target.dma.latency_cycles,
        reads=frozenset() if is_load else held,
        writes=held if is_load else frozenset(),
        dram_read_bytes=size if is_load else 0,
        dram_write_bytes=0 if is_load else size,
        sram_read_lines=0 if is_load else lines,
        sram_write_lines=lines if is_load else 0,
    )


def _transfer_side(op: Any) -> tuple[str, int]:
    """The SRAM side of a transfer and its span in bytes."""
    if op.name == "tile.load":
        outer, inner = op.destination_outer_stride, op.destination_inner_stride
        return "destination", (op.outer - 1) * outer + (op.inner - 1) * inner + op.run
    return "source", (op.outer - 1) * op.source_outer_stride + (op.inner - 1) * op.source_inner_stride + op.run


_MACHINES: dict[str, ArrayMachine] = {}
"""By the fingerprint of the target: hashing a target takes longer than a memoised cost."""


def _machine(target: Target) -> ArrayMachine:
    machine = _MACHINES.get(target.fingerprint)
    if machine is None:
        machine = _MACHINES[target.fingerprint] = array_machine(target)
    return machine

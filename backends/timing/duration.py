"""The cost of one instruction: how long its engine is busy, what that costs the array, which ports it demands.

A cost depends on the attributes of the instruction, the addresses of its operands and the target, never on data. The
parts that take time are memoised by the fields that matter and by addresses modulo the period of the banks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ...dialects.core.diagnostics import CompileError
from ...dialects.tile.indexing import INDEX_BYTES
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp
from ..target import Target
from .banks import BankMap
from .legality import matmul_problem
from .matmul import ArrayMachine, MatmulCost, MatmulShape, array_machine, matmul_cost, matmul_shape
from .record import PARTS, Instruction, InstructionTiming, ports_held
from .vector import Box, Pattern, Placed, Work, line_load, vector_cost, work_of

__all__ = ["instruction_timing", "matmul_problem", "operand_addresses", "pretend_addresses", "timing_at"]


def instruction_timing(op: Instruction, target: Target, addresses: Mapping[str, int]) -> InstructionTiming:
    """The cost of one instruction on a target.

    `op` is a tile operation or anything with its name and the attributes of the same names. `addresses` gives for
    every SRAM operand its address in bytes, the operand's offset included (`operand_addresses`, `pretend_addresses`).
    Raises KeyError where an address is missing, CompileError where `useful_macs` exceeds what it multiplies.

    A transfer of n bytes takes ceil(n / dma.bytes_per_cycle) cycles, or those in which the busiest bank serves its
    lines if these are more, and dma.latency_cycles until it is visible. A gather is as long, but no two runs share a
    cycle, since each has an address of its own. A call of the host takes one cycle and the same
    latency, in which the stores before it become visible: how long the host computes is not known. For the other
    engines see `matmul`, `vector`.
    """
    return timing_at(op, target)(addresses)


def timing_at(op: Instruction, target: Target) -> Callable[[Mapping[str, int]], InstructionTiming]:
    """`instruction_timing` of one instruction as a function of the addresses: what it accesses is looked at once."""
    if op.name == "tile.matmul":
        return partial(_matmul_timing, op, matmul_shape(op), target)
    if op.name in ("tile.load", "tile.store"):
        return partial(_transfer_timing, op, _transfer_side(op), target)
    if op.name == "tile.gather":
        return partial(_gather_timing, op, _gather_sides(op), target)
    if op.name == "tile.call_host":
        timing = InstructionTiming(occupancy=1, latency=target.dma.latency_cycles)
        return lambda _: timing
    return partial(_vector_timing, work_of(op), target)


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
        side, pattern = _transfer_side(op)
        return ((side, pattern.span),)
    if op.name == "tile.gather":
        indices, written = _gather_sides(op)
        return ("indices", indices.span), ("destination", written.span)
    if op.name == "tile.call_host":
        return ()
    work = work_of(op)
    return tuple((name, pattern.span) for name, pattern in (*work.reads, *work.writes))


def _matmul_timing(op: Any, shape: MatmulShape, target: Target, addresses: Mapping[str, int]) -> InstructionTiming:
    machine = _machine(target)
    held_input = target.groups_of(addresses["input"], shape.input_span)
    held_weights = target.groups_of(addresses["weights"], shape.weight_span)
    place = machine.banks.canonical(addresses["input"], shape.input_span)
    cost = matmul_cost(shape, machine, place, not set(held_input).isdisjoint(held_weights))
    block = machine.lanes * machine.columns
    dense = -(-shape.macs // op.pack)
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
        reads=_matmul_reads(cost, held_input[0], held_weights, machine.banks),
        sram_read_lines=cost.input_lines + cost.weight_lines,
    )


def _matmul_reads(cost: MatmulCost, first: int, weights: Sequence[int], banks: BankMap) -> dict[int, int]:
    """The ports that a product demands: weights lie line by line in their groups, and are due one step later."""
    held = _held(first, cost.busiest_reads, banks.read_ports, cost.occupancy)
    part = ports_held(-(-cost.weight_lines // banks.interleave), banks.read_ports, cost.occupancy)
    return held | {group: min(PARTS, held.get(group, 0) + part) for group in weights}


def _vector_timing(work: Work, target: Target, addresses: Mapping[str, int]) -> InstructionTiming:
    banks = _machine(target).banks
    reads, first_read = _place(work.reads, addresses, banks)
    writes, first_write = _place(work.writes, addresses, banks)
    cost = vector_cost(work.element_passes, reads, writes, target.vector.lanes, banks)
    return InstructionTiming(
        occupancy=cost.occupancy,
        latency=target.vector.latency_cycles,
        bank_stall_cycles=cost.bank_stall_cycles,
        reads=_held(first_read, cost.busiest_reads, banks.read_ports, cost.occupancy),
        writes=_held(first_write, cost.busiest_writes, banks.write_ports, cost.occupancy),
        sram_read_lines=cost.read_lines,
        sram_write_lines=cost.write_lines,
    )


def _place(patterns: Sequence[tuple[str, Pattern]], addresses: Mapping[str, int], banks: BankMap) -> tuple[Placed, int]:
    """Patterns at canonical addresses, their groups numbered from the first one, and that bank group."""
    placed: list[tuple[Pattern, int, int]] = []
    first = min((addresses[name] // banks.group_bytes for name, _ in patterns), default=0)
    for name, pattern in patterns:
        address = addresses[name]
        group = address // banks.group_bytes
        placed.append((pattern, banks.canonical(address, pattern.span), group - first))
    return tuple(placed), first


def _held(first: int, busiest: Sequence[int], ports: int, occupancy: int) -> dict[int, int]:
    """The part of the ports of every bank group from `first` on, where a bank is accessed at all."""
    return {first + i: ports_held(lines, ports, occupancy) for i, lines in enumerate(busiest) if lines}


def _transfer_timing(
    op: Any, side: tuple[str, Pattern], target: Target, addresses: Mapping[str, int]
) -> InstructionTiming:
    size = op.outer * op.inner * op.run
    is_load, banks = op.name == "tile.load", _machine(target).banks
    ports = banks.write_ports if is_load else banks.read_ports
    placed, first = _place((side,), addresses, banks)
    busiest, _, lines = line_load(placed, banks, ports)
    occupancy = max(1, math.ceil(size / target.dma.bytes_per_cycle), -(-max(busiest, default=0) // ports))
    held = _held(first, busiest, ports, occupancy)
    return InstructionTiming(
        occupancy=occupancy,
        latency=target.dma.latency_cycles,
        reads={} if is_load else held,
        writes=held if is_load else {},
        dram_read_bytes=size if is_load else 0,
        dram_write_bytes=0 if is_load else size,
        sram_read_lines=0 if is_load else lines,
        sram_write_lines=lines if is_load else 0,
    )


def _gather_timing(
    op: Any, sides: tuple[Pattern, Pattern], target: Target, addresses: Mapping[str, int]
) -> InstructionTiming:
    banks, (indices, written) = _machine(target).banks, sides
    reads, first_read = _place((("indices", indices),), addresses, banks)
    writes, first_write = _place((("destination", written),), addresses, banks)
    read_busiest, _, read_lines = line_load(reads, banks, banks.read_ports)
    write_busiest, _, write_lines = line_load(writes, banks, banks.write_ports)
    occupancy = max(
        1,
        op.outer * op.inner * math.ceil(op.run / target.dma.bytes_per_cycle),
        -(-max(read_busiest, default=0) // banks.read_ports),
        -(-max(write_busiest, default=0) // banks.write_ports),
    )
    return InstructionTiming(
        occupancy=occupancy,
        latency=target.dma.latency_cycles,
        reads=_held(first_read, read_busiest, banks.read_ports, occupancy),
        writes=_held(first_write, write_busiest, banks.write_ports, occupancy),
        dram_read_bytes=op.outer * op.inner * op.run,
        sram_read_lines=read_lines,
        sram_write_lines=write_lines,
    )


def _gather_sides(op: Any) -> tuple[Pattern, Pattern]:
    """What a gather reads and writes in SRAM: its indices, and the runs."""
    strides = (op.destination_outer_stride, op.destination_inner_stride, 1)
    indices = Box((op.outer, op.inner, INDEX_BYTES), (op.indices_outer_stride, op.indices_inner_stride, 1))
    return indices, Box((op.outer, op.inner, op.run), strides)


def _transfer_side(op: Any) -> tuple[str, Pattern]:
    """The SRAM side of a transfer and what it accesses there."""
    side = "destination" if op.name == "tile.load" else "source"
    strides = (getattr(op, f"{side}_outer_stride"), getattr(op, f"{side}_inner_stride"), 1)
    return side, Box((op.outer, op.inner, op.run), strides)


_MACHINES: dict[str, ArrayMachine] = {}
"""By the fingerprint of the target: hashing a target takes longer than a memoised cost."""


def _machine(target: Target) -> ArrayMachine:
    machine = _MACHINES.get(target.fingerprint)
    if machine is None:
        machine = _MACHINES[target.fingerprint] = array_machine(target)
    return machine

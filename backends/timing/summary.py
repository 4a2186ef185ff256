"""The figures of a run that reports print: the whole program, and a row for every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..target import Target
from .engine import QueuedInstruction, Timeline
from .ledger import Account, Ledger, block_cycles
from .record import STREAMED, InstructionTiming


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run, or the part of it that belongs to a layer, did.

    `macs` are the multiply-accumulates of the model that the array did. `cycles` and `slots` are those of the ledger
    (MAC slots by cause), `ledger` the same in block-cycles; `utilization` is the useful part of the slots (0 where
    there are none). `bank_stall_cycles` are cycles that any engine lost to bank conflicts inside its instructions, and
    because others used the ports of its banks. `energy_pj` counts useful multiply-accumulates, SRAM lines
    and DRAM bytes; None where the target does not say what they cost.
    """

    cycles: int
    macs: int
    utilization: float
    slots: Mapping[str, int]
    ledger: Mapping[str, float]
    instructions: int
    bank_stall_cycles: int
    dram_read_bytes: int
    dram_write_bytes: int
    sram_read_bytes: int
    sram_write_bytes: int
    energy_pj: float | None


@dataclass(frozen=True, slots=True)
class LayerRow:
    """The figures of one layer; `index` is what its instructions carry."""

    index: int
    name: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of the whole run and of its layers. `engine_busy` is the occupancy of every engine in cycles."""

    target: str
    seconds: float
    total: Figures
    layers: tuple[LayerRow, ...]
    engine_busy: Mapping[str, int]
    sram_peak_bytes: int


def summarize(
    timeline: Timeline, ledger: Ledger, target: Target, layer_names: Sequence[str], sram_peak_bytes: int
) -> Summary:
    """The summary of a run. `layer_names[i]` names the layer of index i; `sram_peak_bytes` is the allocator's."""
    members: dict[int, list[QueuedInstruction]] = {layer: [] for layer in ledger.layers}
    stalls = dict.fromkeys(ledger.layers, 0)
    busy: dict[str, int] = {}
    for instruction, slot in zip(timeline.program, timeline.slots, strict=True):
        members[instruction.layer].append(instruction)
        stalls[instruction.layer] += instruction.timing.bank_stall_cycles + slot.stalled
        busy[instruction.engine] = busy.get(instruction.engine, 0) + instruction.timing.occupancy
    rows = [
        LayerRow(index, _name(layer_names, index), _figures(account, members[index], stalls[index], target))
        for index, account in ledger.layers.items()
    ]
    total = _figures(ledger.total, timeline.program, sum(stalls.values()), target)
    seconds = timeline.cycles / (target.frequency_mhz * 1e6)
    return Summary(target.name, seconds, total, tuple(rows), busy, sram_peak_bytes)


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else f"layer {index}"


def _figures(account: Account, program: Sequence[QueuedInstruction], stalls: int, target: Target) -> Figures:
    timings = [instruction.timing for instruction in program]
    macs = account.slots["useful_mac"]
    slots = account.cycles * target.macs_per_cycle
    line = target.sram.line_bytes
    dram_read, dram_write = sum(t.dram_read_bytes for t in timings), sum(t.dram_write_bytes for t in timings)
    sram_read = line * sum(t.sram_read_lines for t in timings)
    sram_write = line * sum(t.sram_write_lines for t in timings)
    return Figures(
        cycles=account.cycles,
        macs=macs,
        utilization=macs / slots if slots else 0.0,
        slots=account.slots,
        ledger=block_cycles(account.slots, target),
        instructions=len(program),
        bank_stall_cycles=stalls,
        dram_read_bytes=dram_read,
        dram_write_bytes=dram_write,
        sram_read_bytes=sram_read,
        sram_write_bytes=sram_write,
        energy_pj=_energy(target, sum(map(_narrow_macs, timings)), sram_read + sram_write, dram_read + dram_write),
    )


def _narrow_macs(timing: InstructionTiming) -> float:
    """The 8-bit multiply-accumulates that the useful ones of an instruction amount to."""
    slots = timing.slots
    streamed = sum(slots.get(cause, 0) for cause in STREAMED)
    return slots.get("useful_mac", 0) * (1 + slots.get("wide_numbers", 0) / streamed) if streamed else 0.0


def _energy(target: Target, macs: float, sram_bytes: int, dram_bytes: int) -> float | None:
    energy = target.energy
    if not (energy.mac_pj and energy.sram_byte_pj and energy.dram_byte_pj):
        return None
    return macs * energy.mac_pj + sram_bytes * energy.sram_byte_pj + dram_bytes * energy.dram_byte_pj

"""The complete ledger: every MAC slot of a run charged to one cause and one layer, in exact integers.

While the array executes, its slots are those of the instruction, and bank_stall for the cycles that it takes longer
because others use the ports of its banks. A gap of the array is followed back from its end through whatever kept the
next instruction from starting: the token's producer, what that one waited for in turn, and so on to the start of the
gap. Every cycle of it is charged to what the engine at the end of that chain does then:

    the vector unit executes: vector_wait       the vector unit's result is in its pipeline: token_wait
    load or store executes: dma_wait            its data is on the way, or it waits for the DRAM channel: dma_wait
    the array's pipeline drains: fill_drain     the last cycles of what others have slowed down: bank_stall

The cycles before the first and after the last instruction of the array are gaps like any other; the end of the
program counts as waiting for the instruction that is done last. A gap's cycle belongs to the layer of the instruction
at the end of the chain. Since every wait has such a chain, nothing is left for `idle`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..target import Target
from .engine import Timeline
from .record import CAUSES


@dataclass(frozen=True, slots=True)
class Account:
    """Cycles, and the MAC slots of these cycles by cause (all of `CAUSES`, in that order)."""

    cycles: int
    slots: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Gap:
    """Cycles `start` to `end` without work for the array; `blocker` is the instruction at the end of the chain."""

    start: int
    end: int
    cause: str
    layer: int
    blocker: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account of the whole run and of every layer; the layers sum to the total, cause by cause."""

    total: Account
    layers: Mapping[int, Account]
    gaps: tuple[Gap, ...]


def balance(timeline: Timeline, target: Target) -> Ledger:
    """The ledger of a timeline."""
    full = target.macs_per_cycle
    cycles: dict[int, int] = {}
    slots: dict[int, dict[str, int]] = {}

    def charge(layer: int, count: int, causes: Mapping[str, int]) -> None:
        cycles[layer] = cycles.get(layer, 0) + count
        account = slots.setdefault(layer, dict.fromkeys(CAUSES, 0))
        for cause, amount in causes.items():
            account[cause] += amount

    for instruction, slot in zip(timeline.program, timeline.slots, strict=True):
        charge(instruction.layer, 0, {})
        if instruction.engine == "array":
            charge(instruction.layer, instruction.timing.occupancy, instruction.timing.slots)
            charge(instruction.layer, slot.stalled, {"bank_stall": slot.stalled * full})
    gaps = tuple(array_gaps(timeline))
    for gap in gaps:
        charge(gap.layer, gap.end - gap.start, {gap.cause: (gap.end - gap.start) * full})
    layers = {layer: Account(cycles[layer], slots[layer]) for layer in sorted(cycles)}
    total = {cause: sum(account.slots[cause] for account in layers.values()) for cause in CAUSES}
    return Ledger(Account(timeline.cycles, total), layers, gaps)


def block_cycles(slots: Mapping[str, int], target: Target) -> dict[str, float]:
    """Slots as cycles of whole blocks: slots / (lanes * columns), exact where that is a power of two."""
    block = target.array.lanes * target.array.columns
    return {cause: count / block for cause, count in slots.items()}


def array_gaps(timeline: Timeline) -> Iterator[Gap]:
    """The gaps of the array in order of time, cut where the cause changes."""
    previous = timeline.previous()
    free = 0
    for index, instruction in enumerate(timeline.program):
        if instruction.engine == "array":
            slot = timeline.slots[index]
            if slot.start > free:
                yield from reversed(list(_explain(timeline, previous, index, free)))
            free = slot.end
    if timeline.cycles > free:
        last = max(range(len(timeline.slots)), key=lambda i: timeline.slots[i].done)
        slot = timeline.slots[last]
        tail = [*_running(timeline, last, free, slot.done), *_explain(timeline, previous, last, free)]
        yield from reversed(tail)


_RUNNING = {"vector": "vector_wait", "load": "dma_wait", "store": "dma_wait"}
_PIPELINE = {"array": "fill_drain", "vector": "token_wait", "load": "dma_wait", "store": "dma_wait"}


def _running(timeline: Timeline, index: int, low: int, high: int) -> Iterator[Gap]:
    """Charge low..high, as far as instruction `index` runs or is in its pipeline then, latest piece first.

    `high` is the end of one or the other.
    """
    slot, instruction = timeline.slots[index], timeline.program[index]
    engine, layer = instruction.engine, instruction.layer
    unhindered = slot.end - slot.stalled
    if high > max(low, slot.end):
        yield Gap(max(low, slot.end), high, _PIPELINE[engine], layer, index)
    if slot.end > max(low, unhindered):
        yield Gap(max(low, unhindered), slot.end, "bank_stall", layer, index)
    if unhindered > low:
        yield Gap(max(low, slot.start), unhindered, _RUNNING[engine], layer, index)


def _explain(timeline: Timeline, previous: list[int], index: int, low: int) -> Iterator[Gap]:
    """Charge the cycles from `low` to the start of instruction `index`, latest piece first."""
    while (slot := timeline.slots[index]).start > low:
        if slot.start > slot.ready:
            layer = timeline.program[slot.holder].layer
            yield Gap(max(low, slot.ready), slot.start, "dma_wait", layer, slot.holder)
        if slot.ready <= low:
            return
        blocker = slot.producer if slot.producer >= 0 else previous[index]
        yield from _running(timeline, blocker, low, slot.ready)
        index = blocker

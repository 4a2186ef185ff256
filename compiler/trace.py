"""The timeline of a program in the Chrome trace event format, which Perfetto (ui.perfetto.dev) opens.

One microsecond of the viewer is one cycle of the machine. Every engine is a thread. Instructions bear the name of
their layer, waits the name of their cause; counters show the SRAM in use and the traffic on the DRAM channel. Format:
"Trace Event Format", Google, 2016 (events `X` complete, `C` counter, `M` metadata).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.program import Program
from ..backends.timing.engine import QueuedInstruction, Timeline, run_timeline
from ..backends.timing.ledger import Ledger, balance
from ..dialects.core.files import write_atomically
from ..dialects.core.types import Array
from ..dialects.tile.instruction import ENGINES, InstructionOp
from .measuring import operations, queued

Event = dict[str, Any]

WAIT_NAMES = {
    "bank_stall": "others use the ports of the banks",
    "dma_wait": "DRAM wait",
    "vector_wait": "vector wait",
    "token_wait": "result in the pipeline",
    "fill_drain": "drain",
    "idle": "idle",
}
"""The causes of gaps of the array, as the viewer shows them."""


def write_trace(path: Path, program: Program) -> None:
    """Write the trace of one run of a program as JSON, whole or not at all."""
    text = json.dumps(trace(program), ensure_ascii=False, separators=(",", ":")) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def trace(program: Program) -> dict[str, Any]:
    """The trace as JSON data; `otherData` says what a microsecond is.

    The events of the array, instructions and waits, fill all cycles of the run and sum to its ledger.
    """
    target, ops = program.target, operations(program)
    queue = queued(program, ops)
    timeline = run_timeline(queue)
    names = [layer.name for layer in program.layers]
    events = [
        *_threads(program),
        *_instructions(timeline, names, target.macs_per_cycle),
        *_array_waits(timeline, balance(timeline, target), names),
        *_other_waits(timeline, names),
        *_dram_traffic(timeline),
        *_sram_use(timeline, ops, target.sram_bytes, target.sram.line_bytes),
    ]
    facts = {
        "unit": "1 us is 1 cycle",
        "model": program.model,
        "target": target.name,
        "frequency_mhz": target.frequency_mhz,
        "cycles": timeline.cycles,
    }
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": facts}


def _thread(engine: str) -> int:
    return ENGINES.index(engine) + 1


def _threads(program: Program) -> Iterator[Event]:
    yield _metadata("process_name", 0, {"name": f"{program.model} on {program.target.name}"})
    for engine in ENGINES:
        yield _metadata("thread_name", _thread(engine), {"name": engine})
        yield _metadata("thread_sort_index", _thread(engine), {"sort_index": _thread(engine)})


def _metadata(kind: str, thread: int, arguments: dict[str, Any]) -> Event:
    return {"ph": "M", "pid": 1, "tid": thread, "name": kind, "args": arguments}


def _complete(engine: str, name: str, category: str, start: int, end: int, arguments: dict[str, Any]) -> Event:
    return {
        "ph": "X",
        "pid": 1,
        "tid": _thread(engine),
        "name": name,
        "cat": category,
        "ts": start,
        "dur": end - start,
        "args": arguments,
    }


def _layer(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else f"layer {index}"


def _described(timeline: Timeline, index: int, names: Sequence[str]) -> str:
    instruction = timeline.program[index]
    return f"{index} {instruction.name.removeprefix('tile.')} of {_layer(names, instruction.layer)}"


def _instructions(timeline: Timeline, names: Sequence[str], full: int) -> Iterator[Event]:
    """All instructions; `full` are the MAC slots of a cycle."""
    for index, (instruction, slot) in enumerate(zip(timeline.program, timeline.slots, strict=True)):
        timing = instruction.timing
        arguments: dict[str, Any] = {
            "instruction": index,
            "operation": instruction.name,
            "layer": _layer(names, instruction.layer),
            "layer_index": instruction.layer,
            "visible_at": slot.done,
        }
        numbers = {
            "bank_stall_cycles": timing.bank_stall_cycles + slot.stalled,
            "dram_read_bytes": timing.dram_read_bytes,
            "dram_write_bytes": timing.dram_write_bytes,
        }
        arguments |= {name: number for name, number in numbers.items() if number}
        if slot.stalled:
            arguments["slowed_by"] = _described(timeline, slot.rival, names)
        if timing.slots:
            slots = dict(timing.slots)
            slots["bank_stall"] = slots.get("bank_stall", 0) + slot.stalled * full
            arguments["slots"] = {cause: count for cause, count in slots.items() if count}
        name = _layer(names, instruction.layer)
        yield _complete(instruction.engine, name, "instruction", slot.start, slot.end, arguments)


def _array_waits(timeline: Timeline, ledger: Ledger, names: Sequence[str]) -> Iterator[Event]:
    """The gaps of the array, each with the cause that the ledger charges it to."""
    for gap in ledger.gaps:
        arguments = {"cause": gap.cause, "layer": _layer(names, gap.layer), "layer_index": gap.layer}
        if gap.blocker >= 0:
            arguments["because_of"] = _described(timeline, gap.blocker, names)
        yield _complete("array", WAIT_NAMES.get(gap.cause, gap.cause), "wait", gap.start, gap.end, arguments)


def _other_waits(timeline: Timeline, names: Sequence[str]) -> Iterator[Event]:
    """What kept the other engines from starting: first a token, then the DRAM channel."""
    for instruction, slot in zip(timeline.program, timeline.slots, strict=True):
        engine = instruction.engine
        if engine == "array":
            continue
        layer = _layer(names, instruction.layer)
        if slot.ready > slot.free:
            producer = timeline.program[slot.producer].engine
            because = _described(timeline, slot.producer, names)
            arguments = {"cause": "token_wait", "layer": layer, "because_of": because}
            yield _complete(engine, f"waits for {producer}", "wait", slot.free, slot.ready, arguments)
        if slot.start > slot.ready:
            because = _described(timeline, slot.holder, names)
            arguments = {"cause": "dma_wait", "layer": layer, "because_of": because}
            yield _complete(engine, "DRAM channel is held", "wait", slot.ready, slot.start, arguments)


def _dram_traffic(timeline: Timeline) -> Iterator[Event]:
    """Bytes a cycle on the DRAM channel while load or store execute, 0 between."""
    transfers = [
        (slot.start, slot.end, instruction)
        for instruction, slot in zip(timeline.program, timeline.slots, strict=True)
        if instruction.timing.dram_read_bytes or instruction.timing.dram_write_bytes
    ]
    transfers.sort(key=lambda transfer: transfer[0])
    for number, (start, end, instruction) in enumerate(transfers):
        yield _traffic(start, instruction, end - start)
        if number + 1 == len(transfers) or transfers[number + 1][0] > end:
            yield _counter("DRAM bytes a cycle", end, {"read": 0, "write": 0})


def _traffic(start: int, instruction: QueuedInstruction, cycles: int) -> Event:
    timing = instruction.timing
    rates = {"read": timing.dram_read_bytes / cycles, "write": timing.dram_write_bytes / cycles}
    return _counter("DRAM bytes a cycle", start, rates)


def _counter(name: str, time: int, values: dict[str, float]) -> Event:
    return {"ph": "C", "pid": 1, "tid": 0, "name": name, "ts": time, "args": values}


def _sram_use(timeline: Timeline, ops: Sequence[InstructionOp], capacity: int, line_bytes: int) -> Iterator[Event]:
    """Bytes of the SRAM lines that hold something which is still to be read: from its first write to its last read.

    Written again before it is read, a line stays in use; read and written again, it is first free, then in use.
    """
    lines = -(-capacity // line_bytes)
    begin, end = np.full(lines, -1, np.int64), np.full(lines, -1, np.int64)
    changes: dict[int, int] = {}

    def close(which: Array, limit: int) -> None:
        """The lines were in use from their first write to their last read, but not beyond `limit`."""
        used = which[(end[which] > begin[which]) & (begin[which] >= 0)]
        for times, sign in ((begin[used], 1), (np.minimum(end[used], limit), -1)):
            found, counts = np.unique(times, return_counts=True)
            for time, count in zip(found.tolist(), counts.tolist(), strict=True):
                changes[time] = changes.get(time, 0) + sign * count

    order = sorted(range(len(ops)), key=lambda index: (timeline.slots[index].start, index))
    for index in order:
        op, slot = ops[index], timeline.slots[index]
        regions = [r for r in op.regions() if op.spaces.get(r.operand, "sram") == "sram" and r.size]
        for region in sorted(regions, key=lambda region: region.writes):
            which = np.arange(region.offset // line_bytes, -(-region.end // line_bytes))
            if not region.writes:
                end[which] = np.maximum(end[which], slot.done)
                continue
            finished = which[end[which] > begin[which]]
            close(finished, slot.start)
            end[finished] = -1
            fresh = which[end[which] < 0]
            begin[fresh] = np.where((begin[fresh] < 0) | np.isin(fresh, finished), slot.start, begin[fresh])
    close(np.arange(lines), timeline.cycles)
    used = 0
    for time in sorted(changes):
        if changes[time]:
            used += changes[time]
            yield _counter("SRAM bytes in use", time, {"bytes": used * line_bytes})

"""From a program to its report: times every instruction, balances the ledger, collects the figures of every layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..backends.host import final_type, stored_bytes
from ..backends.program import Program
from ..backends.target import Target
from ..backends.timing.bounds import Bounds, LayerFacts, layer_bounds, network_bounds
from ..backends.timing.duration import instruction_timing
from ..backends.timing.engine import QueuedInstruction, run_timeline
from ..backends.timing.ledger import balance
from ..backends.timing.matmul import matmul_shape, reduction_vectors
from ..backends.timing.summary import Figures, summarize
from ..backends.timing.vector import work_of
from ..dialects.nn.onnx import host_word
from ..dialects.tile.array import MatmulOp
from ..dialects.tile.instruction import ENGINES, InstructionOp
from ..dialects.tile.memory import LoadOp, StoreOp, TransferOp
from ..dialects.tile.pooling import DepthwiseOp
from .notes import Notes, ShuffleNote, read_notes
from .report import BlockMapping, HostCall, Layer, Machine, Product, Report, Shuffle


def measure(
    program: Program,
    accuracy: Mapping[str, Any] | None = None,
    agreement: Mapping[str, Any] | None = None,
    losses: Mapping[str, Any] | None = None,
) -> Report:
    """The report of a program, from its instructions, from the notes in it, and from what it was compared with.

    Raises CompileError if the notes are not what a compiler writes.
    """
    target, notes = program.target, read_notes(program)
    ops = operations(program)
    timeline = run_timeline(queued(program, ops))
    ledger = balance(timeline, target)
    names = [layer.name for layer in program.layers]
    summary = summarize(timeline, ledger, target, names, notes.sram.get("peak_bytes", 0))
    members: dict[int, list[InstructionOp]] = {}
    for op, layer in zip(ops, program.instruction_layers, strict=True):
        members.setdefault(int(layer), []).append(op)
    layers = tuple(_layer(row.index, row.figures, members[row.index], program, notes) for row in summary.layers)
    crossing = _crossing_bytes(ops, program)
    facts = [
        _facts(layer, members[row.index], {name: count[row.index] for name, count in crossing.items()})
        for row, layer in zip(summary.layers, layers, strict=True)
    ]
    layers = tuple(
        replace(layer, bounds=_cycles(layer_bounds(known, target))) for layer, known in zip(layers, facts, strict=True)
    )
    engines = [op.engine for op in ops]
    return Report(
        model=program.model,
        machine=_machine(program),
        precision=program.precision,
        macs=sum(layer.macs for layer in layers),
        cycles=timeline.cycles,
        slots=summary.total.slots,
        bounds=_cycles(network_bounds(facts, target)),
        instructions={engine: engines.count(engine) for engine in ENGINES},
        layers=layers,
        sram=_sram(notes.sram, summary.total.bank_stall_cycles, target.sram_bytes),
        dram_read_bytes=summary.total.dram_read_bytes,
        dram_write_bytes=summary.total.dram_write_bytes,
        energy_pj=summary.total.energy_pj,
        opt_level=notes.opt_level,
        pipeline=notes.pipeline,
        shuffles=tuple(_shuffle(note, layers) for note in notes.shuffles),
        host=_host(program, ops),
        warnings=notes.warnings,
        remarks=notes.remarks,
        accuracy=accuracy,
        agreement=agreement,
        losses=losses,
    )


def _layer(index: int, figures: Figures, ops: Sequence[InstructionOp], program: Program, notes: Notes) -> Layer:
    """The row of one layer, without its bounds."""
    known = program.layers[index]
    nodes = notes.layer_nodes[index] if index < len(notes.layer_nodes) else (known.name,)
    return Layer(
        name=known.name,
        nodes=nodes,
        kind=known.kind,
        macs=known.macs,
        cycles=figures.cycles,
        slots=figures.slots,
        instructions=figures.instructions,
        sram_bytes=_touched_bytes(ops),
        dram_read_bytes=figures.dram_read_bytes,
        dram_write_bytes=figures.dram_write_bytes,
        bank_stall_cycles=figures.bank_stall_cycles,
        lanes=_lanes(ops, program.target),
        mapping=_mapping(ops),
        product=_product(nodes, notes.products),
    )


def _cycles(bounds: Bounds) -> dict[str, int]:
    return {f"{name}_cycles": cycles for name, cycles in bounds.by_name.items()}


def queued(program: Program, ops: Sequence[InstructionOp]) -> list[QueuedInstruction]:
    """The engines' queues of a program, for `run_timeline`; `ops` are its `operations`."""
    return [
        QueuedInstruction(
            engine=op.engine,
            timing=instruction_timing(op, program.target, instruction.addresses),
            wait=op.wait,
            signal=op.signal,
            layer=int(layer),
            name=op.name,
        )
        for op, instruction, layer in zip(ops, program.instructions, program.instruction_layers, strict=True)
    ]


def operations(program: Program) -> list[InstructionOp]:
    """The instructions as tile operations at absolute addresses, with the model's MACs, which are not encoded."""
    ops = [instruction.operation() for instruction in program.instructions]
    for op, macs in zip(ops, program.useful_macs.tolist(), strict=True):
        if macs:
            op.attributes["useful_macs"] = macs
    return ops


def _machine(program: Program) -> Machine:
    target = program.target
    return Machine(
        name=target.name,
        frequency_mhz=target.frequency_mhz,
        lanes=target.array.lanes,
        columns=target.array.columns,
        blocks=target.array.blocks,
        vector_lanes=target.vector.lanes,
        sram_bytes=target.sram_bytes,
        dram_bytes_per_cycle=target.dma.bytes_per_cycle,
    )


def _sram(noted: Mapping[str, int], stalls: int, capacity: int) -> dict[str, int]:
    return {
        "peak_bytes": noted.get("peak_bytes", 0),
        "lower_bound_bytes": noted.get("lower_bound_bytes", 0),
        "bank_stall_cycles": stalls,
        "spilled_bytes": noted.get("spilled_bytes", 0),
        "capacity_bytes": capacity,
    }


def _touched_bytes(ops: Sequence[InstructionOp]) -> int:
    """SRAM bytes between the first and the last element of every region that instructions touch, each byte once."""
    return _union(
        (region.offset, region.end)
        for op in ops
        for region in op.regions()
        if op.spaces.get(region.operand, "sram") == "sram" and region.size
    )


def _crossing_bytes(ops: Sequence[InstructionOp], program: Program) -> dict[str, Counter[int]]:
    """Bytes by layer that must cross the DRAM channel in any schedule: of constants, inputs and outputs."""
    inputs = [
        (write.address, write.address + stored_bytes(final_type(port.type, write.steps)))
        for port in program.inputs
        for write in port.writes
    ]
    outputs = [
        (port.address, port.address + stored_bytes(port.stored)) for port in program.outputs if port.source is None
    ]
    layers = program.instruction_layers.tolist()
    return {
        "weight_bytes": _credited(ops, layers, LoadOp, [(0, program.constants.size)]),
        "input_bytes": _credited(ops, layers, LoadOp, inputs),
        "output_bytes": _credited(ops, layers, StoreOp, outputs),
    }


def _credited(
    ops: Sequence[InstructionOp], layers: Sequence[int], kind: type[TransferOp], limits: Sequence[tuple[int, int]]
) -> Counter[int]:
    """DRAM bytes within `limits` that transfers of a kind touch, each byte credited to one layer only."""
    spans: list[tuple[int, int, int]] = []
    for op, layer in zip(ops, layers, strict=True):
        if isinstance(op, kind):
            region = next(r for r in op.regions() if op.spaces.get(r.operand) == "dram")
            places = ((max(region.offset, low), min(region.end, high)) for low, high in limits)
            spans += [(low, high, layer) for low, high in places if low < high and region.size]
    found, reached = Counter[int](), 0
    for start, end, layer in sorted(spans):
        found[layer] += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return found


def _host(program: Program, ops: Sequence[InstructionOp]) -> tuple[HostCall, ...]:
    """The calls of the host with the transfers that they need: an instruction counts once, for the first of them."""
    calls: list[HostCall] = []
    counted: set[int] = set()
    for call in program.host_calls:
        read = [(p.address, p.address + stored_bytes(p.stored)) for p in call.arguments if p.source is None]
        steps = [(write, port) for port in call.results for write in port.writes]
        written = [(w.address, w.address + stored_bytes(final_type(p.type, w.steps))) for w, p in steps]
        moving: list[int] = []
        for kind, limits in ((StoreOp, read), (LoadOp, written)):
            moving += [i for i, op in enumerate(ops) if isinstance(op, kind) and _reaches(op, limits)]
        own = [index for index in moving if index not in counted]
        counted.update(own)
        timings = [instruction_timing(ops[i], program.target, program.instructions[i].addresses) for i in own]
        calls.append(
            HostCall(
                call.callee,
                tuple(host_word(op) for op in program.host.functions[call.callee].body if op.results),
                sum(end - start for start, end in read),
                sum(end - start for start, end in written),
                sum(timing.occupancy for timing in timings),
            )
        )
    return tuple(calls)


def _reaches(op: TransferOp, limits: Sequence[tuple[int, int]]) -> bool:
    region = next(r for r in op.regions() if op.spaces.get(r.operand) == "dram")
    return any(region.offset < end and start < region.end for start, end in limits)


def _union(spans: Iterable[tuple[int, int]]) -> int:
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return covered


def _facts(layer: Layer, ops: Sequence[InstructionOp], crossing: Mapping[str, int]) -> LayerFacts:
    """What a layer has to do, whatever its mapping."""
    product = layer.product if layer.macs else None  # the row of an input is named after its first reader
    shape = {} if product is None else _shape(product)
    passes = sum(_least_passes(op) for op in ops if op.engine == "vector")
    return LayerFacts(layer.name, macs=layer.macs, vector_elements=passes, **shape, **crossing)


def _shape(product: Product) -> dict[str, int]:
    depth = product.kernel[0] * product.kernel[1] * product.in_channels
    return {"rows": product.rows, "depth": depth, "columns": product.out_channels, "groups": product.groups}


def _least_passes(op: InstructionOp) -> int:
    """Element passes that only the vector unit can do: a depthwise product could as well run on the blocks."""
    if isinstance(op, DepthwiseOp):
        return op.out_h * op.out_w * op.channels
    return work_of(op).element_passes


def _lanes(ops: Sequence[InstructionOp], target: Target) -> float | None:
    """Useful MACs over lanes x columns of every (output pixel, reduction vector, column tile) that a block works on."""
    useful = streamed = 0
    for op in ops:
        if isinstance(op, MatmulOp):
            vectors = len(reduction_vectors(matmul_shape(op), target.array.lanes).length)
            useful += op.useful_macs
            streamed += op.groups * op.rows * vectors * op.column_tiles * target.array.lanes * target.array.columns
    return useful / streamed if streamed else None


def _mapping(ops: Sequence[InstructionOp]) -> BlockMapping | None:
    op = next((op for op in ops if isinstance(op, MatmulOp)), None)
    return None if op is None else BlockMapping(op.fold, op.split_k, op.split_n, op.split_m, op.diagonal)


def _product(nodes: Iterable[str], known: Mapping[str, Product]) -> Product | None:
    return next((known[node] for node in nodes if node in known), None)


def _shuffle(note: ShuffleNote, layers: Iterable[Layer]) -> Shuffle:
    """What is left of a shuffle: the cycles of the layers that only move data for one of its nodes."""
    nodes = set(note.nodes)
    moved = note.outcome == "moved"
    left = sum(layer.cycles for layer in layers if moved and layer.kind == "move" and nodes & set(layer.nodes))
    before = left if note.cycles_before is None else note.cycles_before
    return Shuffle(note.name, before, left, f"{note.outcome} ({note.mechanism})", note.absorbed_into)

"""Tensors that live in DRAM: strip buffers for what an instruction touches, the loads before it, the stores after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...dialects.core.diagnostics import Location
from ...dialects.core.operation import Operation, Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.instruction import InstructionOp, Region
from ...dialects.tile.memory import AllocOp, LoadOp, StoreOp, TransferOp
from ...dialects.tile.types import BufferType
from .chunks import held_layout, rows_touched
from .residency import Residency
from .strips import with_attributes

HostLoads = dict[Value[Any], list[LoadOp]]


@dataclass
class Strips:
    """Strip buffers of the instructions of one step: for every spilled tensor a buffer and its first byte there.

    Only bytes that an instruction reads are loaded, and only bytes that it writes are stored: a row may have gaps that
    nothing ever writes, and parts that other instructions write later.
    """

    loads: list[Operation] = field(default_factory=list[Operation])
    stores: list[Operation] = field(default_factory=list[Operation])
    buffers: dict[Value[Any], tuple[Value[Any], int]] = field(default_factory=dict[Value[Any], tuple[Value[Any], int]])

    def bind(self, op: InstructionOp, index: int) -> None:
        """Point one operand at the strip buffer of its tensor."""
        buffer, base = self.buffers[op.operands[index]]
        name = f"{op.operand_fields[index].name}_offset"
        offset = op.attribute_or_default(name)
        assert isinstance(offset, int)
        op.attributes[name] = offset - base
        op.set_operand(index, buffer)


@dataclass
class Spills:
    """Where spilled tensors live: `backing` are their DRAM buffers, `inputs` the loads of those the host fills.

    `strided` are inputs that something else writes as well, or not in whole rows.
    """

    plan: Residency
    backing: dict[Value[Any], Value[Any]] = field(default_factory=dict[Value[Any], Value[Any]])
    inputs: HostLoads = field(default_factory=HostLoads)
    strided: set[Value[Any]] = field(default_factory=set[Value[Any]])

    def keep_input(self, load: LoadOp) -> bool:
        """True if the strips of a spilled model input can come straight from where the host puts it.

        Then this load is left out: only loads of whole rows write the tensor, one for each sample.
        """
        tensor, plan = load.destination, self.plan
        if tensor in self.inputs:
            return True
        if tensor not in plan.spilled or tensor in self.strided:
            return False
        stride, size = plan.row_stride(tensor), plan.program.tensors[tensor]
        writers = [op for unit in plan.program.units for op in unit.operations if touches(op, tensor, writes=True)]
        loads = [op for op in writers if isinstance(op, LoadOp)]
        whole = sum(op.outer for op in loads) * stride == size and all(
            op.outer == 1 or op.destination_outer_stride == stride for op in loads
        )
        if len(loads) < len(writers) or not whole:
            self.strided.add(tensor)
            return False
        self.inputs[tensor] = loads
        return True

    def strips(self, operations: Sequence[InstructionOp], name: str, layer: int, location: Location) -> Strips:
        """Buffers and transfers for the spilled operands of cut instructions."""
        strips = Strips()
        spilled = self.plan.spilled
        touched = {v: list[Region]() for op in operations for v in op.operands if v in spilled}
        for op in operations if touched else ():
            for region in op.regions():
                if (tensor := operand_of(op, region)) in touched:
                    touched[tensor].append(region)
        for tensor, regions in touched.items():
            stride = self.plan.row_stride(tensor)
            first, last = rows_touched(regions, stride)
            alloc = AllocOp((), (BufferType("sram", (last - first) * stride),))
            alloc.buffer.name = name
            buffer, base = alloc.buffer, first * stride
            strips.buffers[tensor] = (buffer, base)
            reads = dict.fromkeys(_once(region) for region in regions if region.size and not region.writes)
            if reads and tensor in self.inputs:
                strips.loads += self._load_input(tensor, buffer, first, last)
            elif reads:
                strips.loads += self._transfers(LoadOp, _distinct(list(reads)), tensor, buffer, base)
            written = [region for region in regions if region.writes]
            strips.stores += self._transfers(StoreOp, written, tensor, buffer, base)
        for op in (*strips.loads, *strips.stores):
            assert isinstance(op, InstructionOp)
            op.layer, op.location = layer, location
        return strips

    def hold(self, op: MatmulOp, name: str) -> LoadOp:
        """The load of the matrix of a spilled tensor that is the weights of a product, into a buffer of its own."""
        rows, stride = held_layout(op, self.plan.target)
        alloc = AllocOp((), (BufferType("sram", rows * stride),))
        alloc.buffer.name = name
        attributes = {
            "outer": rows,
            "run": op.stored_rows[1] * op.size_of("weights"),
            "source_offset": op.weights_offset,
            "source_outer_stride": op.weights_stride,
            "destination_outer_stride": stride,
        }
        kept = {field: value for field, value in attributes.items() if value != LoadOp.attribute_fields[field].default}
        return LoadOp([self._dram(op.weights), alloc.buffer], (), {**kept, "layer": op.layer}, op.location)

    def _dram(self, tensor: Value[Any]) -> Value[Any]:
        """The DRAM buffer of a spilled tensor; a new one has the layout of the SRAM buffer."""
        if tensor not in self.backing:
            op = AllocOp((), (BufferType("dram", self.plan.program.tensors[tensor]),))
            op.buffer.name = f"{tensor.name or 'tensor'}.spill"
            self.backing[tensor] = op.buffer
        return self.backing[tensor]

    def _load_input(self, tensor: Value[Any], buffer: Value[Any], first: int, last: int) -> list[Operation]:
        """Load rows [first, last) of a model input from where the host has put them."""
        stride = self.plan.row_stride(tensor)
        loads: list[Operation] = []
        for original in self.inputs[tensor]:
            begin, inside = divmod(original.destination_offset, stride)
            low, high = max(first, begin), min(last, begin + original.outer)
            if low < high:
                load = with_attributes(
                    original,
                    outer=high - low,
                    source_offset=original.source_offset + (low - begin) * original.source_outer_stride,
                    destination_offset=(low - first) * stride + inside,
                )
                load.set_operands([original.source, buffer])
                loads.append(load)
        return loads

    def _transfers(
        self, kind: type[TransferOp], regions: list[Region], tensor: Value[Any], buffer: Value[Any], base: int
    ) -> list[Operation]:
        """Loads or stores of exactly these bytes, as few as their strides allow."""
        dram, found = self._dram(tensor), list[Operation]()
        fields = kind.attribute_fields
        for offset, outer, inner, run in (part for region in regions for part in _runs(region)):
            places = {"source": offset, "destination": offset - base}
            operands = [dram, buffer]
            if kind is StoreOp:
                places = {"source": offset - base, "destination": offset}
                operands = [buffer, dram]
            attributes: dict[str, Any] = {"outer": outer[0], "inner": inner[0], "run": run}
            for side, place in places.items():
                attributes |= {f"{side}_offset": place}
                attributes |= {f"{side}_outer_stride": outer[1], f"{side}_inner_stride": inner[1]}
            kept = {name: v for name, v in attributes.items() if v != fields[name].default}
            found.append(kind(operands, (), kept))
        return found


def operand_of(op: InstructionOp, region: Region) -> Value[Any]:
    """The buffer that a region of an instruction lies in."""
    names = [declared.name for declared in op.operand_fields]
    return op.operands[names.index(region.operand)]


def touches(op: InstructionOp, tensor: Value[Any], *, writes: bool) -> bool:
    """True if the instruction reads (or writes) any byte of the tensor."""
    return any(r.writes == writes and operand_of(op, r) is tensor for r in op.regions())


def _once(region: Region) -> Region:
    """The region without the axes that repeat the same bytes."""
    axes = [(n, s) for n, s in zip(region.shape, region.strides, strict=True) if n > 1 and s]
    return Region("", region.writes, region.offset, tuple(n for n, _ in axes), tuple(s for _, s in axes))


def _distinct(regions: list[Region]) -> list[Region]:
    """Read regions without those that lie in another one that has no gaps."""
    kept: list[Region] = []
    for region in sorted(regions, key=lambda r: r.offset - r.end):
        if not any(o.is_dense and o.offset <= region.offset and region.end <= o.end for o in kept):
            kept.append(region)
    return kept


def _runs(region: Region) -> list[tuple[int, tuple[int, int], tuple[int, int], int]]:
    """(offset, (outer count, stride), (inner count, stride), run) transfers that cover a region exactly."""
    if region.size == region.end - region.offset:
        return [(region.offset, (1, 0), (1, 0), region.size)]
    axes = [(n, s) for n, s in zip(region.shape, region.strides, strict=True) if n != 1]
    axes.sort(key=lambda axis: -axis[1])
    run = 1
    while axes and axes[-1][1] == run:
        run *= axes.pop()[0]
    padded = [(1, 0)] * (2 - len(axes)) + axes
    *loops, outer, inner = padded
    offsets = [region.offset]
    for count, stride in loops:
        offsets = [offset + index * stride for offset in offsets for index in range(count)]
    return [(offset, outer, inner, run) for offset in offsets]

"""Emits the strips and chunks of every unit, software-pipelined over the four engines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...dialects.core.operation import Operation, Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.instruction import InstructionOp, Region
from ...dialects.tile.memory import AllocOp, LoadOp, StoreOp
from ...dialects.tile.types import BufferType
from ...dialects.tile.vector import RequantizeOp
from .chunks import Chunking, rows_touched
from .layers import Unit
from .residency import Cut, Residency
from .strips import cut_depth, cut_groups, cut_rows, cut_tiles, with_attributes


@dataclass
class Step:
    """What the engines do for one strip or chunk; the stages of neighbouring steps overlap."""

    loads: list[Operation] = field(default_factory=list[Operation])
    array: list[Operation] = field(default_factory=list[Operation])
    vector: list[Operation] = field(default_factory=list[Operation])
    stores: list[Operation] = field(default_factory=list[Operation])


@dataclass
class StripEmitter:
    """Builds the scheduled operations; buffers of the lowered program are replaced by buffers that fit."""

    plan: Residency
    operations: list[Operation] = field(default_factory=list[Operation])
    buffers: dict[Value[Any], Value[Any]] = field(default_factory=dict[Value[Any], Value[Any]])
    backing: dict[Value[Any], tuple[Value[Any], LoadOp | None]] = field(
        default_factory=dict[Value[Any], tuple[Value[Any], "LoadOp | None"]]
    )

    def emit(self) -> list[Operation]:
        """All instructions, with the buffers they need before them."""
        for unit, cut in zip(self.plan.program.units, self.plan.cuts, strict=True):
            if self._is_kept_in_dram(unit):
                self.backing[unit.main.operands[1]] = (unit.main.operands[0], unit.main)  # type: ignore[assignment]
                continue
            self._pipeline(self._steps(unit, cut))
        return self.operations

    def _is_kept_in_dram(self, unit: Unit) -> bool:
        """True for the load of a model input that is spilled: its strips come straight from where the host put it."""
        if not isinstance(unit.main, LoadOp) or unit.main.destination not in self.plan.spilled:
            return False
        tensor = unit.main.destination
        whole = unit.main.outer * self.plan.row_stride(tensor) == self.plan.program.tensors[tensor]
        return whole and unit.main.destination_offset == 0

    def _pipeline(self, steps: list[Step]) -> None:
        """Stages in an order in which the array of one step overlaps the vector unit and the stores of earlier ones."""
        for index in range(len(steps) + 2):
            if index < len(steps):
                self.operations += steps[index].loads + steps[index].array
            if 0 < index <= len(steps):
                self.operations += steps[index - 1].vector
            if index > 1:
                self.operations += steps[index - 2].stores

    def _steps(self, unit: Unit, cut: Cut) -> list[Step]:
        if isinstance(unit.main, MatmulOp):
            return self._product_steps(unit, cut)
        steps: list[Step] = []
        for start in range(0, unit.rows, cut.rows):
            step = Step(self._constants(unit))
            op = cut_rows(unit.main, start, min(cut.rows, unit.rows - start))
            reads, writes = self._strips(unit, [op])
            step.loads += reads
            own = self._bound([op])
            stage = {"load": step.loads, "vector": step.vector, "store": step.stores}[op.engine]
            stage += own
            step.stores += writes
            steps.append(step)
        return steps

    # products

    def _product_steps(self, unit: Unit, cut: Cut) -> list[Step]:
        assert isinstance(unit.main, MatmulOp) and cut.chunks is not None
        strips = [(start, min(cut.rows, unit.rows - start)) for start in range(0, unit.rows, cut.rows)]
        chunks = _chunks(unit.main, cut.chunks)
        account = _MacAccount(unit.main)
        constants = self._constants(unit)
        cached: dict[tuple[int, int, int, int], Value[Any]] = {}
        depths = range(0, unit.main.in_c, cut.chunks.depth)
        steps: list[Step] = []

        def fill(step: Step, strip: list[InstructionOp], chunk: tuple[int, int, int, int]) -> None:
            assert isinstance(unit.main, MatmulOp) and cut.chunks is not None
            matmul, requantize = _cut_chunk(strip, chunk)
            accumulator = self._allocate("acc", matmul.accumulator_rows, "acc", unit, columns=matmul.tile_columns)
            for first in depths:
                depth = min(cut.chunks.depth, unit.main.in_c - first)
                key = (*chunk[:3], first)
                if key not in cached or not (cut.weights_stay or cut.chunks_outside):
                    cached[key], loads = self._load_weights(unit, chunk, first, depth)
                    step.array += loads
                part = matmul if len(depths) == 1 else cut_depth(matmul, first, depth)
                part = with_attributes(part, useful_macs=account.share(part))
                part.set_operands([part.input, cached[key], accumulator])
                step.array += self._bound([part])
            for op in requantize:
                op.set_operands([accumulator, op.parameters, op.output])
            step.vector += self._bound(list(requantize))

        if cut.chunks_outside:
            for chunk in chunks:
                for start, count in strips:
                    step = Step(constants)
                    constants = []
                    strip = [cut_rows(op, start, count) for op in unit.operations]
                    whole = _cut_chunk(strip, chunk)
                    reads, writes = self._strips(unit, [whole[0], *whole[1]])
                    step.loads += reads
                    fill(step, strip, chunk)
                    step.stores += writes
                    self._forget_strips()
                    steps.append(step)
            return steps
        for start, count in strips:
            strip = [cut_rows(op, start, count) for op in unit.operations]
            reads, writes = self._strips(unit, strip)
            for index, chunk in enumerate(chunks):
                step = Step(constants + (reads if index == 0 else []))
                constants = []
                fill(step, strip, chunk)
                if index == len(chunks) - 1:
                    step.stores += writes
                steps.append(step)
            self._forget_strips()
        return steps

    def _load_weights(
        self, unit: Unit, chunk: tuple[int, int, int, int], first: int, depth: int
    ) -> tuple[Value[Any], list[Operation]]:
        """Load the weights of a chunk, input channels [first, first + depth): one or two transfers."""
        op, source = unit.main, unit.weights
        assert isinstance(op, MatmulOp) and source is not None
        group, groups, tile, tiles = chunk
        full_depth = op.taps * (1 if op.diagonal else op.in_c)
        columns = min((tile + tiles) * op.tile_columns, op.out_c) - tile * op.tile_columns
        base = source.source_offset + group * full_depth * op.out_c + tile * op.tile_columns * full_depth
        if depth == op.in_c or op.diagonal:
            size = groups * full_depth * columns
            buffer = self._allocate("sram", size, "weights", unit)
            load = self._load(source, buffer, run=size, source_offset=base)
            return buffer, [load]
        buffer = self._allocate("sram", op.taps * depth * columns, "weights", unit)
        loads: list[Operation] = []
        full, rest = divmod(columns, op.tile_columns)
        for count, width, skip in ((full, op.tile_columns, 0), (1, rest, full)):
            if count and width:
                loads.append(
                    self._load(
                        source,
                        buffer,
                        outer=count,
                        inner=op.taps,
                        run=depth * width,
                        source_offset=base + skip * op.tile_columns * full_depth + first * width,
                        source_outer_stride=full_depth * width,
                        source_inner_stride=op.in_c * width,
                        destination_offset=skip * op.tile_columns * op.taps * depth,
                        destination_outer_stride=op.taps * depth * width,
                        destination_inner_stride=depth * width,
                    )
                )
        return buffer, loads

    def _load(self, like: LoadOp, buffer: Value[Any], **attributes: int) -> LoadOp:
        kept = {name: v for name, v in attributes.items() if v != LoadOp.attribute_fields[name].default}
        return LoadOp([like.source, buffer], (), {**kept, "layer": like.layer}, like.location)

    # buffers

    def _allocate(self, space: str, size: int, suffix: str, unit: Unit, *, columns: int = 1) -> Value[Any]:
        op = AllocOp((), (BufferType(space, size),), {"columns": columns} if columns != 1 else {})
        nodes = unit.main.location.nodes
        op.buffer.name = f"{nodes[0] if nodes else f'layer{unit.layer}'}.{suffix}"
        return op.buffer

    def _constants(self, unit: Unit) -> list[Operation]:
        """Loads of parameters and tables that are not in SRAM yet."""
        loads: list[Operation] = []
        for load in unit.constants:
            if load.destination not in self.buffers:
                buffer = self._allocate("sram", load.run, "parameters", unit)
                self.buffers[load.destination] = buffer
                loads.append(self._load(load, buffer, run=load.run))
        return loads

    def _strips(
        self, unit: Unit, operations: list[InstructionOp]
    ) -> tuple[list[Operation], list[Operation]]:
        """Strip buffers for the spilled operands of cut instructions: loads of what is read, stores of what is written."""
        loads: list[Operation] = []
        stores: list[Operation] = []
        self.strips: dict[Value[Any], tuple[Value[Any], int]] = {}
        tensors = dict.fromkeys(v for op in operations for v in op.operands if v in self.plan.spilled)
        for tensor in tensors:
            stride = self.plan.row_stride(tensor)
            spans = [rows_touched(op, tensor, stride) for op in operations if tensor in op.operands]
            spans = [span for span in spans if span[1] > span[0]] or [(0, 1)]
            first, last = min(s[0] for s in spans), max(s[1] for s in spans)
            buffer = self._allocate("sram", (last - first) * stride, "strip", unit)
            self.strips[tensor] = (buffer, first * stride)
            written = [op for op in operations if _writes(op, tensor)]
            if any(_reads(op, tensor) for op in operations):
                loads.append(self._load_strip(unit, tensor, buffer, first, last))
            for op in written:
                stores += self._store_strip(unit, tensor, buffer, first * stride, op)
        return loads, stores

    def _forget_strips(self) -> None:
        self.strips = {}

    def _backing(self, tensor: Value[Any]) -> tuple[Value[Any], LoadOp | None]:
        """The DRAM buffer of a spilled tensor; a new one has the layout of the SRAM buffer."""
        if tensor not in self.backing:
            op = AllocOp((), (BufferType("dram", self.plan.program.tensors[tensor]),))
            op.buffer.name = f"{tensor.name or 'tensor'}.spill"
            self.backing[tensor] = (op.buffer, None)
        return self.backing[tensor]

    def _load_strip(self, unit: Unit, tensor: Value[Any], buffer: Value[Any], first: int, last: int) -> Operation:
        dram, original = self._backing(tensor)
        stride = self.plan.row_stride(tensor)
        location, layer = unit.main.location, unit.layer
        if original is None:
            attributes = {"run": (last - first) * stride, "source_offset": first * stride}
            kept = {name: v for name, v in attributes.items() if v}
            return LoadOp([dram, buffer], (), {**kept, "layer": layer}, location)
        load = with_attributes(
            original,
            outer=last - first,
            source_offset=original.source_offset + first * original.source_outer_stride,
            layer=layer,
        )
        load.set_operands([dram, buffer])
        load.location = location
        return load

    def _store_strip(
        self, unit: Unit, tensor: Value[Any], buffer: Value[Any], base: int, op: InstructionOp
    ) -> list[Operation]:
        """Store exactly the bytes an instruction writes, in as few transfers as their strides allow."""
        dram, _ = self._backing(tensor)
        (region,) = [r for r in op.regions() if r.writes]
        stores: list[Operation] = []
        for offset, outer, inner, run in _runs(region):
            attributes: dict[str, Any] = {
                "outer": outer[0],
                "inner": inner[0],
                "run": run,
                "source_offset": offset - base,
                "source_outer_stride": outer[1],
                "source_inner_stride": inner[1],
                "destination_offset": offset,
                "destination_outer_stride": outer[1],
                "destination_inner_stride": inner[1],
            }
            kept = {name: v for name, v in attributes.items() if v != StoreOp.attribute_fields[name].default}
            stores.append(StoreOp([buffer, dram], (), {**kept, "layer": unit.layer}, unit.main.location))
        return stores

    def _bound(self, operations: list[InstructionOp]) -> list[Operation]:
        """Point cut instructions at the new buffers; offsets into strips count from the strip's first row."""
        for op in operations:
            for index, (declared, value) in enumerate(zip(op.operand_fields, op.operands, strict=True)):
                if value in self.plan.spilled:
                    buffer, base = self.strips[value]
                    name = f"{declared.name}_offset"
                    offset = op.attribute_or_default(name)
                    assert isinstance(offset, int)
                    op.attributes[name] = offset - base
                    op.set_operand(index, buffer)
                elif value in self.plan.program.tensors:
                    op.set_operand(index, self._resident(value))
                elif value in self.buffers:
                    op.set_operand(index, self.buffers[value])
        return list(operations)

    def _resident(self, tensor: Value[Any]) -> Value[Any]:
        if tensor not in self.buffers:
            op = AllocOp((), (tensor.type,), {"row_stride": self.plan.row_stride(tensor)})
            op.buffer.name = tensor.name
            self.buffers[tensor] = op.buffer
        return self.buffers[tensor]


def _chunks(op: MatmulOp, chunks: Chunking) -> list[tuple[int, int, int, int]]:
    """(first group, groups, first tile, tiles) of every chunk of a product."""
    found: list[tuple[int, int, int, int]] = []
    for group in range(0, op.groups, chunks.groups):
        groups = min(chunks.groups, op.groups - group)
        for tile in range(0, op.column_tiles, chunks.tiles):
            found.append((group, groups, tile, min(chunks.tiles, op.column_tiles - tile)))
    return found


def _cut_chunk(
    strip: list[InstructionOp], chunk: tuple[int, int, int, int]
) -> tuple[MatmulOp, list[RequantizeOp]]:
    """One chunk of a strip of a product."""
    main = strip[0]
    assert isinstance(main, MatmulOp)
    matmul, requantize = main, [op for op in strip[1:] if isinstance(op, RequantizeOp)]
    group, groups, tile, tiles = chunk
    # accumulators of a strip are laid out for its own number of rows
    requantize = [_own_accumulators(op, matmul) for op in requantize]
    if groups < matmul.groups:
        matmul, requantize = cut_groups(matmul, requantize, group, groups)
    if tiles < matmul.column_tiles:
        matmul, requantize = cut_tiles(matmul, requantize, tile, tiles)
    return with_attributes(matmul), [with_attributes(op) for op in requantize]


def _own_accumulators(op: RequantizeOp, matmul: MatmulOp) -> RequantizeOp:
    """The group offset of a requantization in accumulator rows of the strip, not of the whole layer."""
    whole = op.operands[0].type.size // matmul.groups
    return with_attributes(op, accumulator_offset=op.accumulator_offset // whole * matmul.column_tiles * matmul.rows)


def _writes(op: InstructionOp, tensor: Value[Any]) -> bool:
    return any(r.writes for r in op.regions() if _operand(op, r) is tensor)


def _reads(op: InstructionOp, tensor: Value[Any]) -> bool:
    return any(not r.writes for r in op.regions() if _operand(op, r) is tensor)


def _operand(op: InstructionOp, region: Region) -> Value[Any]:
    names = [f.name for f in op.operand_fields]
    return op.operands[names.index(region.operand)]


def _runs(region: Region) -> list[tuple[int, tuple[int, int], tuple[int, int], int]]:
    """(offset, (outer count, stride), (inner count, stride), run) transfers that cover a written region exactly."""
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


class _MacAccount:
    """Spreads the useful multiply-accumulates of a product over its pieces so that they sum up exactly."""

    def __init__(self, op: MatmulOp) -> None:
        self.useful = op.useful_macs
        self.total = op.rows * op.weight_bytes
        self.done = 0

    def share(self, piece: MatmulOp) -> int:
        """The useful multiply-accumulates of the next piece; cumulative rounding keeps each at most its size."""
        before = self.useful * self.done // self.total
        self.done += piece.rows * piece.weight_bytes
        return self.useful * self.done // self.total - before

"""Building instruction operations layer by layer: constants, buffers, loads, and the list of layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np

from ...backends.target import Target
from ...dialects.core.diagnostics import UNKNOWN, Location
from ...dialects.core.fields import AttributeValue
from ...dialects.core.operation import Constant, Module, Operation, Value
from ...dialects.core.types import Array
from ...dialects.tile.elements import element_of_size
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import AllocOp, LoadOp
from ...dialects.tile.movement import FillOp, MoveOp
from ...dialects.tile.types import BufferType
from .placement import Placement
from .views import View, dense_view, number_size, shape4

InstructionT = TypeVar("InstructionT", bound=InstructionOp)


@dataclass(frozen=True)
class Layer:
    """One row of the report: its name (ONNX nodes), what it is, and the multiply-accumulates of the model in it."""

    name: str
    kind: str
    macs: int


@dataclass
class Share:
    """Spreads a count over `parts` equal parts so that the pieces sum up exactly; a piece is never rounded up twice."""

    total: int
    parts: int
    done: int = 0

    def next(self, parts: int) -> int:
        """The share of the next so many parts."""
        before = self.total * self.done // self.parts
        self.done += parts
        return self.total * self.done // self.parts - before


@dataclass
class Emitter:
    """Collects the instruction operations of a function in order; every instruction belongs to the current layer."""

    module: Module
    target: Target
    placement: Placement
    operations: list[Operation] = field(default_factory=list[Operation])
    layers: list[Layer] = field(default_factory=list[Layer])
    views: dict[Value[Any], View] = field(default_factory=dict[Value[Any], View])
    location: Location = UNKNOWN
    _constants: dict[tuple[tuple[str, ...], bytes], Constant] = field(
        default_factory=dict[tuple[tuple[str, ...], bytes], Constant]
    )

    def begin_layer(self, source: Operation, kind: str, *others: Operation, macs: int = 0) -> None:
        """Start a layer for the tensor operations that it stands for."""
        self.location = source.location.merged(*(op.location for op in others))
        self.layers.append(Layer(self.location.layer or source.name, kind, macs))

    def add(
        self, op_class: type[InstructionT], operands: list[Value[Any]], **attributes: AttributeValue
    ) -> InstructionT:
        """Append one instruction of the current layer; attributes equal to their default are left out."""
        defaults = op_class.attribute_fields
        kept = {name: value for name, value in attributes.items() if value != defaults[name].default}
        kept["layer"] = len(self.layers) - 1
        op = op_class(operands, (), kept, self.location)
        self.operations.append(op)
        return op

    def allocate(self, space: str, size: int, name: str, *, columns: int = 1) -> Value[Any]:
        """A buffer for this layer."""
        op = AllocOp((), (BufferType(space, size),), {"columns": columns} if columns != 1 else {}, self.location)
        op.buffer.name = name
        self.operations.append(op)
        return op.buffer

    def load_constant(self, name: str, data: Array) -> Value[Any]:
        """Put bytes into the module as a constant and into SRAM; returns the SRAM buffer.

        Layers of the same ONNX nodes, the steps of a recurrent one, share constants. Others do not, even where bytes
        happen to be equal: cycles would hang on the values of weights.
        """
        flat = np.ascontiguousarray(data).reshape(-1).view(np.int8)
        key = (self.location.nodes, sha256(flat.data).digest())
        if key not in self._constants:
            self._constants[key] = self.module.add_constant(name, flat)
        constant = self._constants[key]
        buffer = self.allocate("sram", flat.size, name)
        self.add(LoadOp, [constant, buffer], **contiguous(flat.size))
        return buffer

    def name(self, suffix: str) -> str:
        """A name for a constant or buffer of this layer."""
        nodes = self.location.nodes
        return f"{nodes[0] if nodes else f'layer{len(self.layers) - 1}'}.{suffix}"

    def move(self, source: View, target: View) -> None:
        """Copy a tensor between two views of the same shape, sample by sample."""
        for index in range(source.shape[0]):
            a, b = source.sample(index), target.sample(index)
            self.strided_move(a, b, a.shape[1:], a.strides[1:], b.strides[1:])

    def strided_move(
        self,
        source: View,
        target: View,
        sizes: tuple[int, ...],
        source_strides: tuple[int, ...],
        target_strides: tuple[int, ...],
    ) -> None:
        """Copy up to four axes of numbers from the offset of one view to the offset of another."""
        axes = [(n, s, t) for n, s, t in zip(sizes, source_strides, target_strides, strict=True) if n != 1]
        merged = merged_axes(axes) or [(1, source.size, target.size)]
        padded = [(1, 0, 0)] * (4 - len(merged)) + merged
        attributes: dict[str, AttributeValue] = {"input_offset": source.offset, "output_offset": target.offset}
        for i, (n, s, t) in enumerate(padded):
            attributes |= {f"size{i}": n, f"input_stride{i}": s, f"output_stride{i}": t}
        operands = [source.buffer, target.buffer]
        self.add(MoveOp, operands, element=element_of_size(source.size), **attributes)

    def fill(self, view: View, element: str, value: int) -> None:
        """Write one number, as fields of instructions hold it, to every element of a view."""
        for index in range(view.shape[0]):
            part = view.sample(index)
            _, h, w, c = part.shape
            if h and w and c:
                strides = {"output_outer_stride": part.strides[1], "output_inner_stride": part.strides[2]}
                shape = {"outer": h, "inner": w, "run": c, "output_offset": part.offset}
                self.add(FillOp, [view.buffer], element=element, value=value, **shape, **strides)

    def temporary(self, shape: tuple[int, ...], name: str, size: int, alignment: int | None = None) -> View:
        """A buffer for an intermediate tensor of this layer, of numbers of `size` bytes."""
        return self.placement.allocate(shape, self.name(name), size, alignment)

    def view(self, value: Value[Any]) -> View:
        """Where the whole tensor can be read; a constant is loaded for the current layer."""
        if isinstance(value, Constant):
            buffer = self.load_constant(self.name("constant"), value.array)
            return dense_view(buffer, value.type.shape, number_size(value))
        return self.views[value]

    def written(self, value: Value[Any], view: View | None = None) -> None:
        """Say that a tensor has been written to its destinations (or to `view` only)."""
        home = view or self.placement.home(value)
        if home is not None:
            self.views[value] = home

    def outputs(self, value: Value[Any]) -> list[tuple[int, int, View]]:
        """(first channel, count, place) of every destination of a tensor."""
        return [(d.first, d.count, d.view) for d in self.placement.destinations[value]]

    def computed_outputs(self, value: Value[Any]) -> tuple[list[tuple[int, int, View]], list[tuple[View, View]]]:
        """For layers that cost more than a copy: the destinations to compute, and (from, to) of those to copy.

        Every channel is computed once. Where destinations overlap, a whole one is computed first and the others are
        copies; overlapping parts without a whole one are cut.
        """
        outputs = sorted(self.outputs(value), key=lambda place: (-place[1], place[0]))
        computed: list[tuple[int, int, View]] = []
        copies: list[tuple[View, View]] = []
        for first, count, place in outputs:
            position = first
            while position < first + count:
                known = next(((f, n, v) for f, n, v in computed if f <= position < f + n), None)
                ends = [f for f, _, _ in computed if f > position] if known is None else [known[0] + known[1]]
                length = min([first + count, *ends]) - position
                part = place.channels(position - first, length)
                if known is None:
                    computed.append((position, length, part))
                else:
                    copies.append((known[2].channels(position - known[0], length), part))
                position += length
        return computed, copies

    def copy(self, pairs: list[tuple[View, View]]) -> None:
        """Move the contents of views to others of the same shape."""
        for source, target in pairs:
            self.move(source, target)

    def scatter(self, value: Value[Any], whole: View) -> None:
        """Copy a tensor that could only be computed as a whole to its destinations."""
        for first, count, place in self.outputs(value):
            if place != whole:
                self.move(whole.channels(first, count), place)

    def whole_output(self, value: Value[Any]) -> View:
        """A view to compute a whole tensor in: its home, or a temporary when only parts of it are kept."""
        return self.placement.home(value) or self.temporary(value.type.shape, "whole", number_size(value))


LONGEST_RUN = 2**24 - 1
"""The longest run of a transfer, in bytes."""


def contiguous(size: int) -> dict[str, int]:
    """The attributes of a transfer of consecutive bytes: one run, or several equal ones where it is too long."""
    runs = next((n for n in range(1, 2**16) if size % n == 0 and size // n <= LONGEST_RUN), 1)
    if runs == 1:
        return {"run": size}
    run = size // runs
    return {"outer": runs, "run": run, "source_outer_stride": run, "destination_outer_stride": run}


def row_strides(prefix: str, view: View) -> dict[str, int]:
    """The attributes that describe one sample of a view as operand `prefix`."""
    return {
        f"{prefix}_offset": view.offset,
        f"{prefix}_row_stride": view.strides[1],
        f"{prefix}_pixel_stride": view.strides[2],
    }


def image_shape(value: Value[Any]) -> tuple[int, int, int]:
    """(H, W, C) of a tensor."""
    return shape4(value.type.shape)[1:]


def merged_axes(axes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbouring axes that are contiguous on both sides become one."""
    result: list[tuple[int, int, int]] = []
    for n, s, t in axes:
        if result and result[-1][1] == n * s and result[-1][2] == n * t and result[-1][0] * n < 2**16:
            result[-1] = (result[-1][0] * n, s, t)
        else:
            result.append((n, s, t))
    return result

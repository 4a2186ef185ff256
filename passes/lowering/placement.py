"""Where every tensor lives: concatenation, padding and slicing become places in a buffer instead of copies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...backends.target import Target
from ...dialects.core.operation import Constant, Function, Operation, Value
from ...dialects.core.types import TensorType
from ...dialects.nn import ConcatOp, Conv2dOp, MatmulOp, PadOp, PReluOp, ReshapeOp, SliceOp, TransposeOp
from ...dialects.nn.elementwise import BinaryOperation
from ...dialects.quant.ops import LookupOp, QuantizeOp, RequantizeOp
from ...dialects.quant.types import is_number
from ...dialects.tile.memory import AllocOp
from ...dialects.tile.types import BufferType
from .views import View, axis4, number_size, shape4


@dataclass(frozen=True, slots=True)
class Destination:
    """Channels [first, first + count) of a tensor are written to `view`."""

    first: int
    count: int
    view: View


@dataclass
class Placement:
    """The destinations of every tensor that is computed, and the operands of concats and pads that need a copy.

    A tensor used by a concat or pad is written directly to its place there; a contiguous channel slice of a tensor
    likewise, so that one tensor may be written in several ranges to several places. A tensor that is also read as a
    whole has one destination that covers all its channels. A concat whose operands stand side by side in a later concat
    is a part of that one. An element-wise operation works in place where it can.
    """

    target: Target
    destinations: dict[Value[Any], list[Destination]] = field(default_factory=dict[Value[Any], list[Destination]])
    placed: set[tuple[Operation, int]] = field(default_factory=set[tuple[Operation, int]])
    allocations: list[AllocOp] = field(default_factory=list[AllocOp])

    @classmethod
    def of(cls, function: Function, target: Target) -> Placement:
        """Decide for a whole function, from its end to its start."""
        placement = cls(target)
        finished: set[Operation] = set()
        for op in reversed(function.body):
            if isinstance(op, ConcatOp):
                placement._place_within(op, finished)
            for value in op.results:
                if is_stored(value):
                    placement._settle(value)
            placement._overwrite_operand(op, finished)
            finished.add(op)
            if isinstance(op, (ConcatOp, PadOp)):
                placement._place_operands(op)
        return placement

    def allocate(self, shape: tuple[int, ...], name: str | None, size: int, alignment: int | None = None) -> View:
        """A new SRAM buffer for a tensor of numbers of `size` bytes.

        Pixels are aligned to `alignment` bytes, by default to lines if the crossbar cannot rotate lanes.
        """
        n, h, w, c = shape4(shape)
        unit = alignment or (1 if self.target.crossbar.lane_rotation else self.target.sram.line_bytes)
        pixel = -(-c * size // unit) * unit
        strides = (h * w * pixel, w * pixel, pixel, size)
        kind = BufferType("sram", n * strides[0])
        op = AllocOp((), (kind,), {"row_stride": strides[1]})
        op.buffer.name = name
        self.allocations.append(op)
        return View(op.buffer, 0, (n, h, w, c), strides, size)

    def home(self, value: Value[Any]) -> View | None:
        """A view of the whole tensor, if one destination holds all of it."""
        channels = shape4(value.type.shape)[3]
        full = [d.view for d in self.destinations.get(value, ()) if (d.first, d.count) == (0, channels)]
        aligned = [view for view in full if self.is_aligned(view)]
        return next(iter(aligned or full), None)

    def is_aligned(self, view: View) -> bool:
        """True if the array can read the pixels of this view without rotating lanes, or the crossbar rotates."""
        line = self.target.sram.line_bytes
        return self.target.crossbar.lane_rotation or not any(n % line for n in (view.offset, *view.strides[:3]))

    def _settle(self, value: Value[Any]) -> None:
        """All readers are known: make sure the tensor has a home if anything reads it as a whole."""
        found = self.destinations.setdefault(value, [])
        home = self.home(value)
        is_read = any(self._is_read(op, index) for op, index in value.uses)
        if not found or (is_read and (home is None or not self.is_aligned(home))):
            channels = shape4(value.type.shape)[3]
            found.insert(0, Destination(0, channels, self._new_home(value)))

    def _new_home(self, value: Value[Any]) -> View:
        """A buffer of its own; in the order of the transpose that alone reads it, which then moves nothing."""
        reader = value.users[0] if value.has_one_use else None
        if isinstance(reader, TransposeOp) and (axes := view_axes(reader)) is not None:
            inverse = tuple(axes.index(axis) for axis in range(4))
            return self.allocate(reader.out.type.shape, _name(value), number_size(value)).permuted(inverse)
        return self.allocate(value.type.shape, _name(value), number_size(value))

    def _overwrite_operand(self, op: Operation, finished: set[Operation]) -> None:
        """An element-wise result takes the place of an operand that nothing reads afterwards."""
        if not isinstance(op, (BinaryOperation, LookupOp, RequantizeOp, PReluOp)) or not is_stored(op.result):
            return
        place = self.home(op.result)
        if len(self.destinations[op.result]) > 1:
            return  # the second destination would be computed from the result in the first
        for value in sorted(op.operands, key=_should_stay):
            if (
                place is not None
                and not isinstance(value, Constant)
                and is_stored(value)
                and value not in self.destinations
                and shape4(value.type.shape) == shape4(op.result.type.shape)
                and number_size(value) == number_size(op.result)
                and not _is_read_after(value, op, finished)
            ):
                self.destinations[value] = [Destination(0, shape4(value.type.shape)[3], place)]
                return

    def _is_read(self, op: Operation, index: int) -> bool:
        if isinstance(op, SliceOp) and _channel_range(op) is not None and op.out.uses:
            return any((user, i) not in self.placed for user, i in op.out.uses)
        return (op, index) not in self.placed

    def _place_operands(self, op: ConcatOp | PadOp) -> None:
        for index, value in enumerate(op.operands):
            root, first, count = _root(value)
            producer = root.defining_op
            whole = (first, count) == (0, shape4(root.type.shape)[3])
            if producer is None or not is_stored(root) or (isinstance(producer, (ConcatOp, PadOp)) and not whole):
                continue
            parts = [operand_place(op, index, destination.view) for destination in self.destinations[op.out]]
            if any(part is None for part in parts) or len(shape4(root.type.shape)) != 4:
                continue
            self.placed.add((op, index))
            found = self.destinations.setdefault(root, [])
            places = [Destination(first, count, part) for part in parts if part is not None]
            found += [place for place in places if place not in found]

    def _place_within(self, op: ConcatOp, finished: set[Operation]) -> None:
        """A concat is a part of the shortest later one that has all its operands side by side."""
        users = [user for user in op.inputs[0].users if isinstance(user, ConcatOp) and user in finished]
        for user in sorted(users, key=lambda other: len(other.inputs)):
            start = user.inputs.index(op.inputs[0])
            if user.axis == op.axis and user.inputs[start : start + len(op.inputs)] == op.inputs:
                axis = axis4(op.out.type.rank, op.axis)
                view = next((d.view for d in self.destinations[user.out] if d.view.shape == _shape(user)), None)
                if axis is not None and view is not None:
                    first = sum(value.type.shape[op.axis] for value in user.inputs[:start])
                    part = view.narrowed(axis, first, op.out.type.shape[op.axis])
                    self.destinations.setdefault(op.out, []).append(Destination(0, part.shape[3], part))
                    return


def _shape(op: ConcatOp) -> tuple[int, ...]:
    return shape4(op.out.type.shape)


def _should_stay(value: Value[Any]) -> bool:
    """True for what a sum had better not overwrite if it has a choice.

    The result of a product with one reader needs no place once the sum has joined it. An input that nothing writes can
    be loaded from where the host puts it, as often as needed.
    """
    op = value.defining_op
    if isinstance(op, QuantizeOp):
        return True
    product = op.data.defining_op if isinstance(op, RequantizeOp) else op
    return isinstance(product, (Conv2dOp, MatmulOp)) and value.has_one_use


_VIEWS = (ConcatOp, PadOp, SliceOp, ReshapeOp, TransposeOp)
"""Operations whose result may share the bytes of their operand, and be read later than they stand."""


def _is_read_after(value: Value[Any], op: Operation, finished: set[Operation]) -> bool:
    """True if anything but `op` may read the tensor, or a tensor that is part of it, while or after `op` runs."""
    if any(user is not op and (user in finished or isinstance(user, _VIEWS)) for user in value.users):
        return True
    return isinstance(value.defining_op, (ConcatOp, PadOp)) and any(
        _is_part_read(part, value.defining_op, op, finished) for part in value.defining_op.operands
    )


def _is_part_read(part: Value[Any], whole: Operation, op: Operation, finished: set[Operation]) -> bool:
    root, _, _ = _root(part)
    return op in root.users or _is_read_after(root, whole, finished)


def _name(value: Value[Any]) -> str:
    """A buffer name that says which ONNX node computed the tensor."""
    nodes = value.defining_op.location.nodes if value.defining_op else ()
    return value.name or (f"{nodes[-1]}.out" if nodes else "tensor")


def is_stored(value: Value[Any]) -> bool:
    """True for tensors that get bytes of their own: quantized or bf16 results of all but slices, reshapes and views."""
    kind = value.type
    if not isinstance(kind, TensorType) or not is_number(kind.element):
        return False
    op = value.defining_op
    if isinstance(op, SliceOp):
        return _axes(op) is None
    return not is_reshape(op) and not (isinstance(op, TransposeOp) and view_axes(op) is not None)


def is_reshape(op: Operation | None) -> bool:
    """True for operations that keep all elements in row-major order: reshapes, and transposes of axes of length 1."""
    if isinstance(op, TransposeOp):
        kept = [axis for axis in op.permutation if op.data.type.shape[axis] != 1]
        return kept == sorted(kept)
    return isinstance(op, ReshapeOp)


def view_axes(op: TransposeOp) -> tuple[int, ...] | None:
    """The order of the axes [N, H, W, C] of a transpose that leaves the channels last, else None."""
    rank = op.data.type.rank
    axes = [axis4(rank, axis) for axis in op.permutation]
    if rank not in (3, 4) or axes[-1] != 3 or None in axes:
        return None
    return (*range(4 - rank), *(axis for axis in axes if axis is not None))


def operand_place(op: ConcatOp | PadOp, index: int, whole: View) -> View | None:
    """The part of the result's view that one operand fills; None if the axis merges with others."""
    rank = len(op.operands[index].type.shape)
    if isinstance(op, ConcatOp):
        axis = axis4(rank, op.axis)
        if axis is None:
            return None
        start = sum(value.type.shape[op.axis] for value in op.operands[:index])
        return whole.narrowed(axis, start, op.operands[index].type.shape[op.axis])
    for own, (low, size) in enumerate(zip(op.low, op.data.type.shape, strict=True)):
        axis = axis4(rank, own)
        if axis is None:
            if low or op.high[own]:
                return None
            continue
        whole = whole.narrowed(axis, low, size)
    return whole


def slice_view(op: SliceOp, source: View) -> View | None:
    """The slice as a view of its operand's view; None if it needs a copy."""
    axes = _axes(op)
    if axes is None:
        return None
    for own, axis in axes:
        source = source.narrowed(axis, op.starts[own], op.out.type.shape[own], op.steps[own])
    return source


def _axes(op: SliceOp) -> list[tuple[int, int]] | None:
    """(own axis, axis of the [N, H, W, C] form) of each axis that is cut; None if a view cannot express it."""
    shape, cut = op.data.type.shape, op.out.type.shape
    axes: list[tuple[int, int]] = []
    for own in range(len(shape)):
        if cut[own] == shape[own] and op.steps[own] == 1:
            continue
        axis = axis4(len(shape), own)
        if axis is None or (axis == 3 and op.steps[own] != 1):
            return None
        axes.append((own, axis))
    return axes


def _channel_range(op: SliceOp) -> tuple[int, int] | None:
    """(first, count) if the slice cuts only channels."""
    axes = _axes(op)
    last = len(op.data.type.shape) - 1
    if axes is None or any(own != last for own, _ in axes):
        return None
    return op.starts[last], op.out.type.shape[last]


def _root(value: Value[Any]) -> tuple[Value[Any], int, int]:
    """The tensor a chain of channel slices starts from, and the range of channels that remains."""
    first, count = 0, shape4(value.type.shape)[3]
    op = value.defining_op
    while isinstance(op, SliceOp) and (channels := _channel_range(op)) is not None:
        first += channels[0]
        value = op.data
        op = value.defining_op
    return value, first, count

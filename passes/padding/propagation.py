"""How each operation works on padded channels: what it needs of its operands, and what layout its result has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...dialects.core.fields import AttributeValue
from ...dialects.core.operation import Constant, Module, Operation, Terminator, Value
from ...dialects.core.types import Array, TensorType
from ...dialects.nn.activation import PReluOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import BinaryOperation
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import ConcatOp, GatherOp, PadOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.quant.ops import LookupOp, RequantizeOp
from ...dialects.quant.types import QuantizedType
from .layout import Layout


@dataclass
class Padding:
    """The state of one run: where the channels of every value that was widened lie.

    `outputs` chooses the layout of the results of convolutions and matrix products (a missing one stays plain);
    `multiple` > 0 also widens their inputs to that multiple, where they are not wide already.
    """

    module: Module
    outputs: Mapping[Value[Any], Layout]
    multiple: int = 0
    wide: dict[Value[Any], tuple[Value[Any], Layout]] = field(
        default_factory=dict[Value[Any], tuple[Value[Any], Layout]]
    )
    replaced: dict[Value[Any], Value[Any]] = field(default_factory=dict[Value[Any], Value[Any]])
    retired: list[Operation] = field(default_factory=list[Operation])
    """The operations whose work a wider one does now; nothing but each other reads them in the end."""

    def rewrite(self, op: Operation) -> None:
        """Insert the padded form of `op` before it if it has one; otherwise let it read unpadded values."""
        if op.has_trait(Terminator) or len(op.results) != 1 or not _rule(op)(op, self):
            for index, value in enumerate(op.operands):
                plain = self.plain(value, op)
                if plain is not value:
                    op.set_operand(index, plain)

    def layout(self, value: Value[Any]) -> Layout | None:
        """Where the channels of a value of the original function lie; None if nothing is empty."""
        return self.wide[value][1] if value in self.wide else None

    def plain(self, value: Value[Any], anchor: Operation) -> Value[Any]:
        """The value without empty places, cut out before `anchor` at its first use."""
        if value not in self.wide:
            return value
        if value not in self.replaced:
            source, layout = self.wide[value]
            rank = source.type.rank
            if layout.is_tail:
                starts, stops, steps = (0,) * rank, (*source.type.shape[:-1], layout.channels), (1,) * rank
                new: Operation = SliceOp.build(source, starts=starts, stops=stops, steps=steps)
            else:
                new = GatherOp.build(source, axis=rank - 1, indices=layout.positions)
            definition = source.defining_op
            new.location = definition.location if definition is not None else anchor.location
            self.replaced[value] = self._insert(anchor, new).result
        return self.replaced[value]

    def padded(self, value: Value[Any], layout: Layout, anchor: Operation) -> Value[Any] | None:
        """The value in exactly this layout; None where that takes more than one pad at the end."""
        if value in self.wide:
            wide, present = self.wide[value]
            return wide if present == layout else None
        if layout.is_plain or isinstance(value, Constant) or not layout.is_tail:
            return value if layout.is_plain else None
        rank = value.type.rank
        low, high = (0,) * rank, (*(0,) * (rank - 1), layout.width - layout.channels)
        new = self._insert(anchor, PadOp.build(value, low=low, high=high))
        self.wide[value] = (new.result, layout)
        self.replaced[value] = value
        return new.result

    def constant(self, value: Value[Any], axes: Mapping[int, Layout], fill: int | float = 0) -> Value[Any]:
        """A constant with the channels of each of `axes` in its layout, `fill` in between.

        Negative axes count from the end. An axis with one entry for all channels, or without empty places, is kept.
        """
        assert isinstance(value, Constant)
        array: Array = value.array
        for axis, layout in axes.items():
            index = axis + (value.type.rank if axis < 0 else 0)
            if index >= 0 and value.type.shape[index] == layout.channels and not layout.is_plain:
                array = layout.scatter(array, index, fill)
        if array is value.array:
            return value
        return self.module.add_constant(f"{value.name}.padded", array, TensorType(array.shape, value.type.element))

    def replace(
        self, op: Operation, operands: Sequence[Value[Any]], layout: Layout, **attributes: AttributeValue
    ) -> bool:
        """Insert `op` on other operands and with some other attributes, its result in `layout`. Returns True."""
        old: TensorType = op.result.type
        shape = (*old.shape[:-1], layout.width)
        new = type(op)(operands, (old.with_shape(shape),), {**op.attributes, **attributes}, op.location)
        new.result.name = op.result.name
        self._insert(op, new)
        self.retired.append(op)
        if layout.is_plain:
            op.result.replace_all_uses_with(new.result)
        else:
            self.wide[op.result] = (new.result, layout)
        return True

    def _insert(self, anchor: Operation, op: Operation) -> Operation:
        assert anchor.parent is not None
        op.location = op.location if op.location.nodes else anchor.location
        return anchor.parent.insert_before(anchor, op)


Rule = Callable[[Any, Padding], bool]
"""Rewrites an operation through Padding.replace and says True, or leaves everything as it is and says False."""


def _rule(op: Operation) -> Rule:
    return next((rule for kind, rule in _RULES.items() if isinstance(op, kind)), _unpadded)


def _unpadded(op: Operation, padding: Padding) -> bool:
    return False


def _convolution(op: Conv2dOp, padding: Padding) -> bool:
    """conv(x, w) == slice(conv(pad(x), pad(w))): rows and columns of zeros in the weights, zeros in the bias."""
    channels = op.data.type.shape[-1]
    if op.groups > 1:
        layout = padding.layout(op.data)
        if layout is None or op.groups != channels or op.weight.type.shape[-1] != channels:
            return False
        operands = [padding.wide[op.data][0], *(padding.constant(v, {-1: layout}) for v in op.operands[1:])]
        return padding.replace(op, operands, layout, groups=layout.width, macs=op.macs_total)
    return _weighted(op, padding, rows_axis=2)


def _matmul(op: MatmulOp, padding: Padding) -> bool:
    """As a convolution, with weights [K, N]."""
    return op.has_weights and _weighted(op, padding, rows_axis=0)


def _weighted(op: Conv2dOp | MatmulOp, padding: Padding, rows_axis: int) -> bool:
    data, weight, *bias = op.operands
    channels, outputs = data.type.shape[-1], weight.type.shape[-1]
    before = padding.layout(data)
    if padding.multiple and (before is None or before.width % padding.multiple):
        target = Layout.padded(channels, padding.multiple)
        if before is None and padding.padded(data, target, op) is not None:
            before = padding.layout(data)
    after = padding.outputs.get(op.result, Layout(tuple(range(outputs))))
    if before is None and after.is_plain:
        return False
    if before is not None:
        data = padding.wide[data][0]
    rows = {rows_axis: before} if before is not None else {}
    operands = [data, padding.constant(weight, {**rows, -1: after}), *(padding.constant(v, {-1: after}) for v in bias)]
    return padding.replace(op, operands, after, macs=op.macs_total)


def _elementwise(op: BinaryOperation, padding: Padding) -> bool:
    """Empty places meet empty places; an operand with one channel is spread over all of them."""
    channels = op.out.type.shape[-1] if op.out.type.rank else 0
    activations = [v for v in op.operands if not isinstance(v, Constant) and v.type.shape[-1:] == (channels,)]
    layout = next((layout for v in activations if (layout := padding.layout(v)) is not None), None)
    if layout is None or layout.channels != channels:
        return False
    if any(padding.layout(v) not in (None, layout) for v in activations) or (
        not layout.is_tail and any(padding.layout(v) is None for v in activations)
    ):
        return False
    operands: list[Value[Any]] = []
    for value in op.operands:
        if isinstance(value, Constant):
            element = value.type.element
            fill = element.zero_point if isinstance(element, QuantizedType) else 0
            operands.append(padding.constant(value, {-1: layout}, fill))
        elif value in activations:
            wide = padding.padded(value, layout, op)
            assert wide is not None
            operands.append(wide)
        else:
            operands.append(padding.plain(value, op))
    return padding.replace(op, operands, layout)


def _channelwise(op: Operation, padding: Padding) -> bool:
    """Every channel by itself; constants beside the data have one entry a channel or one for all."""
    layout = padding.layout(op.operands[0])
    if layout is None:
        return False
    fill = 0.0
    if isinstance(op, RequantizeOp) and isinstance(op.scale, Constant):
        fill = float(op.scale.array.flat[0])
    rest = [padding.constant(v, {-1: layout}, fill) for v in op.operands[1:]]
    return padding.replace(op, [padding.wide[op.operands[0]][0], *rest], layout)


def _lookup(op: LookupOp, padding: Padding) -> bool:
    layout = padding.layout(op.data)
    return layout is not None and padding.replace(op, [padding.wide[op.data][0], op.table], layout)


def _reduce(op: ReduceMeanOp, padding: Padding) -> bool:
    return op.data.type.rank - 1 not in op.axes and _channelwise(op, padding)


def _pad(op: PadOp, padding: Padding) -> bool:
    return op.low[-1] == op.high[-1] == 0 and _channelwise(op, padding)


def _transpose(op: TransposeOp, padding: Padding) -> bool:
    return op.permutation[-1] == len(op.permutation) - 1 and _channelwise(op, padding)


def _reshape(op: ReshapeOp, padding: Padding) -> bool:
    """A reshape that leaves the last axis alone."""
    layout = padding.layout(op.data)
    if layout is None or not op.shape or op.shape[-1] != layout.channels:
        return False
    return padding.replace(op, [padding.wide[op.data][0]], layout, shape=(*op.shape[:-1], layout.width))


def _permute(op: PermuteChannelsOp, padding: Padding) -> bool:
    layout = padding.layout(op.data)
    if layout is None:
        return False
    return padding.replace(op, [padding.wide[op.data][0]], layout, permutation=layout.permuted(op.permutation))


def _slice(op: SliceOp, padding: Padding) -> bool:
    layout = padding.layout(op.data)
    if layout is None or op.steps[-1] != 1:
        return False
    first, last, kept = layout.cut(op.starts[-1], op.stops[-1])
    return padding.replace(
        op, [padding.wide[op.data][0]], kept, starts=(*op.starts[:-1], first), stops=(*op.stops[:-1], last)
    )


def _concat(op: ConcatOp, padding: Padding) -> bool:
    """Along the channels the layouts join; along another axis they must be the same."""
    layouts = [padding.layout(v) for v in op.inputs]
    present = [layout for layout in layouts if layout is not None]
    if not present:
        return False
    if op.axis == op.out.type.rank - 1:
        joined = [
            layout or Layout(tuple(range(v.type.shape[-1]))) for layout, v in zip(layouts, op.inputs, strict=True)
        ]
        operands = [padding.wide[v][0] if v in padding.wide else v for v in op.inputs]
        return padding.replace(op, operands, Layout.joined(joined))
    if len(present) != len(layouts) or len(set(present)) != 1:
        return False
    return padding.replace(op, [padding.wide[v][0] for v in op.inputs], present[0])


_RULES: dict[type[Operation], Rule] = {
    Conv2dOp: _convolution,
    MatmulOp: _matmul,
    BinaryOperation: _elementwise,
    RequantizeOp: _channelwise,
    PReluOp: _channelwise,
    MaxPoolOp: _channelwise,
    AveragePoolOp: _channelwise,
    LookupOp: _lookup,
    ReduceMeanOp: _reduce,
    PadOp: _pad,
    TransposeOp: _transpose,
    ReshapeOp: _reshape,
    PermuteChannelsOp: _permute,
    SliceOp: _slice,
    ConcatOp: _concat,
}
"""Everything else (softmax and LRN over channels, gather, dequantize) reads unpadded values."""

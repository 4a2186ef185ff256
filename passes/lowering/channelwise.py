"""Vector-unit layers that look at all channels of a pixel: softmax and normalisations."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from ...dialects.core.operation import Constant, Value
from ...dialects.core.types import Array
from ...dialects.nn import LayerNormOp, LrnOp, SoftmaxOp
from ...dialects.quant.types import is_brain_float, number_of
from ...dialects.tile import normalization
from .axes import axis_strides, dense, dense_output, move_axes
from .elementwise import LONGEST_AXIS, extent
from .emission import Emitter, row_strides
from .views import element_name, number_size


def emit_softmax(emitter: Emitter, op: SoftmaxOp) -> None:
    """nn.softmax: over channels as it is, over another axis with a move before and one after."""
    emitter.begin_layer(op, "softmax")
    table = emitter.load_constant(emitter.name("table"), cast(Constant, op.table).array)
    if op.axis == op.data.type.rank - 1:
        _emit_channelwise(emitter, op, table, normalization.SoftmaxOp, {})
        return
    shape, size = op.data.type.shape, number_size(op.data)
    order = (*(other for other in range(len(shape)) if other != op.axis), op.axis)
    moved = tuple(shape[axis] for axis in order)
    rows = (1, math.prod(moved[:-2]), *moved[-2:])
    channels = emitter.temporary(rows if rows[1] < LONGEST_AXIS else moved, "channels", size, 1)
    source, whole = emitter.view(op.data), emitter.whole_output(op.result)
    if len(shape) > 4:
        source, whole = dense(emitter, source), dense_output(emitter, op.result)
    own = axis_strides(moved, channels)
    read, written = (
        tuple(strides[axis] for axis in order) for strides in (axis_strides(shape, view) for view in (source, whole))
    )
    move_axes(emitter, source, channels, moved, read, own)
    for sample in range(channels.shape[0]):
        part = channels.sample(sample)
        places = {**row_strides("input", part), **row_strides("output", part)}
        operands = [part.buffer, table, part.buffer]
        emitter.add(normalization.SoftmaxOp, operands, element=element_name(op.result), **places, **extent(part))
    move_axes(emitter, channels, whole, moved, own, written)
    emitter.scatter(op.result, whole)
    emitter.written(op.result)


def emit_lrn(emitter: Emitter, op: LrnOp) -> None:
    """nn.lrn."""
    emitter.begin_layer(op, "lrn")
    entries = cast(Constant, op.table).array
    table = emitter.load_constant(emitter.name("table"), entries)
    source, target = number_of(op.data.type), number_of(op.result.type)
    attributes = {
        "size": op.size,
        "entries": entries.size,
        "shift": op.shift,
        "input_zero": source.zero_point,
        "zero_point": target.zero_point,
        "low": target.low,
        "high": target.high,
    }
    _emit_channelwise(emitter, op, table, normalization.LrnOp, attributes)


def emit_layer_norm(emitter: Emitter, op: LayerNormOp) -> None:
    """nn.layer_norm: the table holds the integer epsilon, then a gain and an offset for each channel."""
    emitter.begin_layer(op, "layer norm")
    if is_brain_float(op.data):
        gains, offsets, shift = cast(Constant, op.scale).array, cast(Constant, op.bias).array, 0
        head: Array = np.array([op.epsilon, 0.0], "<f4")
    else:
        gains, offsets, shift, epsilon = op.parameters()
        head = np.array([epsilon], "<i8").view("<i4")
    words = np.concatenate([head, np.stack([gains, offsets], axis=-1).reshape(-1).astype(head.dtype)])
    table = emitter.load_constant(emitter.name("parameters"), words)
    source, target = number_of(op.data.type), number_of(op.result.type)
    attributes = {
        "centred": op.centred,
        "shift": shift,
        "input_zero": source.zero_point,
        "zero_point": target.zero_point,
        "low": target.low,
        "high": target.high,
    }
    _emit_channelwise(emitter, op, table, normalization.LayerNormOp, attributes)


def _emit_channelwise(
    emitter: Emitter,
    op: SoftmaxOp | LrnOp | LayerNormOp,
    table: Value[Any],
    instruction: type[normalization.ChannelwiseOp],
    attributes: dict[str, int],
) -> None:
    whole = emitter.whole_output(op.result)
    for sample in range(whole.shape[0]):
        source, view = emitter.view(op.data).sample(sample), whole.sample(sample)
        operands = [source.buffer, table, view.buffer]
        places = {**row_strides("input", source), **row_strides("output", view)}
        emitter.add(instruction, operands, element=element_name(op.result), **places, **extent(view), **attributes)
    emitter.scatter(op.result, whole)
    emitter.written(op.result)

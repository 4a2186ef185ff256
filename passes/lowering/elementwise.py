"""Vector-unit layers that work element by element, or pool."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ...dialects.core.fields import AttributeValue
from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import Array
from ...dialects.nn import (
    AveragePoolOp,
    MaxPoolOp,
    PReluOp,
    ReduceMeanOp,
)
from ...dialects.nn.elementwise import BinaryOperation
from ...dialects.quant.arithmetic import fixed_point
from ...dialects.quant.bfloat16_tables import page_count
from ...dialects.quant.ops import LookupOp, RequantizeOp
from ...dialects.quant.types import is_brain_float, number_of, quantized_element
from ...dialects.tile import pooling, records, vector
from ...dialects.tile.window import LARGEST_WINDOW
from .emission import Emitter, row_strides
from .views import Shape4, View, axis4, dense_view, element_name, number_size, shape4, shared_axes

LONGEST_AXIS = 2**16
"""Rows and pixels of an instruction are fewer."""


def emit_binary(emitter: Emitter, op: BinaryOperation) -> None:
    """nn.add, sub, mul, div: one instruction a destination and sample; constants are loaded, small sides broadcast."""
    kind = op.name.removeprefix("nn.")
    emitter.begin_layer(op, kind)
    multipliers, shift = ((0, 0), 0) if is_brain_float(op.result) else op.multipliers()
    left, right, out = (number_of(value.type) for value in (*op.operands, op.result))
    low, high = op.integer_bounds
    for _, (lhs, rhs), view in _samples(emitter, op, op.operands):
        emitter.add(
            vector.BinaryOp,
            [lhs.buffer, rhs.buffer, view.buffer],
            kind=kind,
            **row_strides("lhs", lhs),
            lhs_channel_stride=lhs.strides[3],
            **row_strides("rhs", rhs),
            rhs_channel_stride=rhs.strides[3],
            **row_strides("output", view),
            **extent(view),
            element=element_name(op.result),
            lhs_zero=left.zero_point,
            rhs_zero=right.zero_point,
            lhs_multiplier=int(multipliers[0]),
            rhs_multiplier=int(multipliers[1]) if len(multipliers) > 1 else 0,
            shift=shift,
            zero_point=out.zero_point,
            low=low,
            high=high,
        )
    emitter.written(op.result)


def emit_lookup(emitter: Emitter, op: LookupOp) -> None:
    """quant.lookup: the table is loaded, then one instruction a destination and sample."""
    emitter.begin_layer(op, "lookup")
    entries = cast(Constant, op.table).array
    table = emitter.load_constant(emitter.name("table"), entries)
    pages = page_count(entries.size) if is_brain_float(op.data) else None
    for _, (source,), view in _samples(emitter, op, [op.data]):
        emitter.add(
            vector.LookupOp,
            [source.buffer, table, view.buffer],
            **row_strides("input", source),
            **row_strides("output", view),
            **extent(view),
            element=element_name(op.result),
            pages=pages or 0,
        )
    emitter.written(op.result)


def emit_rescale(emitter: Emitter, op: RequantizeOp) -> None:
    """quant.requantize between two quantized types: one factor for both signs, a channel or in all."""
    multiplier, shift = op.multipliers(cast(Constant, op.scale).array)
    emitter.begin_layer(op, "rescale")
    packed = records.pack_multipliers(multiplier, shift)
    _emit_rescale(emitter, op, packed, packed, op.bounds)


def emit_prelu(emitter: Emitter, op: PReluOp) -> None:
    """nn.prelu: one factor for values >= 0 and one for each channel below."""
    slope = cast(Constant, op.slope).array
    if slope.size != slope.shape[-1]:
        raise op.error(f"slope has shape {list(slope.shape)}, expected one slope, or one for each channel")
    target = number_of(op.result.type)
    emitter.begin_layer(op, "prelu")
    if is_brain_float(op.data):
        below: Array = slope.astype("<f4").reshape(-1)
        above = np.ones_like(below)
    else:
        positive, negative, shift = op.fixed_point()
        below = records.pack_multipliers(negative.reshape(-1), np.asarray(shift))
        above = np.broadcast_to(records.pack_multipliers(np.asarray(positive), np.asarray(shift)), below.shape)
    _emit_rescale(emitter, op, above, below, (target.low, target.high))


def _emit_rescale(
    emitter: Emitter,
    op: RequantizeOp | PReluOp,
    above: Array,
    below: Array,
    bounds: tuple[int, int],
) -> None:
    """Rescale by one 32-bit word for numbers >= 0 and one for those below, for all channels or one each."""
    per_channel = above.size > 1
    words = np.stack([above, below], axis=-1).reshape(-1)
    parameters = emitter.load_constant(emitter.name("parameters"), words)
    data = op.operands[0]
    for first, (source,), view in _samples(emitter, op, [data]):
        emitter.add(
            vector.RescaleOp,
            [source.buffer, parameters, view.buffer],
            **row_strides("input", source),
            **row_strides("output", view),
            **extent(view),
            parameters_offset=8 * first if per_channel else 0,
            per_channel=per_channel,
            element=element_name(op.result),
            input_element=element_name(data),
            input_zero=number_of(data.type).zero_point,
            zero_point=number_of(op.result.type).zero_point,
            low=bounds[0],
            high=bounds[1],
        )
    emitter.written(op.result)


def emit_max_pool(emitter: Emitter, op: MaxPoolOp) -> None:
    """nn.max_pool."""
    emitter.begin_layer(op, "max pool")
    for source, view in _pairs(emitter, op.data, op.result):
        emitter.add(
            pooling.MaxPoolOp,
            [source.buffer, view.buffer],
            **row_strides("input", source),
            **row_strides("output", view),
            **_window(source, view, op),
            element=element_name(op.result),
        )
    emitter.written(op.result)


def emit_average_pool(emitter: Emitter, op: AveragePoolOp) -> None:
    """nn.average_pool: the multipliers are a table indexed by the number of counted elements."""
    emitter.begin_layer(op, "average pool")
    top, left, bottom, right = op.counted_pads
    counted = {"counted_top": top, "counted_left": left, "counted_bottom": bottom, "counted_right": right}
    table = _average_table(emitter, op, op.kernel[0] * op.kernel[1])
    for source, view in _pairs(emitter, op.data, op.result):
        operands = [source.buffer, table, view.buffer]
        emitter.add(
            pooling.AveragePoolOp, operands, **_average(op, source, view), **_window(source, view, op), **counted
        )
    emitter.written(op.result)


def is_pooled(op: ReduceMeanOp) -> bool:
    """True if the mean is over rows and pixels that fit the window of an average pool."""
    rank, shape = op.data.type.rank, op.data.type.shape
    axes = [axis4(rank, axis) for axis in op.axes]
    return set(axes) <= {1, 2} and max(shape[axis] for axis in op.axes) < LARGEST_WINDOW


def emit_reduce_mean(emitter: Emitter, op: ReduceMeanOp) -> None:
    """nn.reduce_mean over rows and pixels: an average pool with one window over them."""
    rank = op.data.type.rank
    if not is_pooled(op):
        raise op.error(f"axes are {list(op.axes)} of {rank}, expected short axes between samples and channels")
    axes = {axis4(rank, axis) for axis in op.axes}
    emitter.begin_layer(op, "average pool")
    n, h, w, c = shape4(op.data.type.shape)
    kernel_h, kernel_w = h if 1 in axes else 1, w if 2 in axes else 1
    pooled = (n, h // kernel_h, w // kernel_w, c)
    table = _average_table(emitter, op, kernel_h * kernel_w)
    places = [
        (first, count, place.reshaped((*pooled[:3], count))) for first, count, place in emitter.outputs(op.result)
    ]
    whole: View | None = None
    if any(place is None for _, _, place in places):
        whole = emitter.temporary(pooled, "pooled", number_size(op.result), 1)
        places = [(0, c, whole)]
    for first, count, place in places:
        for sample in range(n):
            view = cast(View, place).sample(sample)
            source = emitter.view(op.data).channels(first, count).sample(sample)
            emitter.add(
                pooling.AveragePoolOp,
                [source.buffer, table, view.buffer],
                **_average(op, source, view),
                **_image(source, view),
                kernel_h=kernel_h,
                kernel_w=kernel_w,
                stride_h=kernel_h,
                stride_w=kernel_w,
            )
    if whole is not None:
        emitter.scatter(op.result, dense_view(whole.buffer, op.result.type.shape, whole.size))
    emitter.written(op.result)


def _average_table(emitter: Emitter, op: AveragePoolOp | ReduceMeanOp, taps: int) -> Value[Any]:
    factor = op.factor if isinstance(op, ReduceMeanOp) else 1.0
    if is_brain_float(op.data):
        factors = np.append(0.0, factor / np.arange(1, taps + 1)).astype("<f4")
        return emitter.load_constant(emitter.name("multipliers"), factors)
    source, target = quantized_element(op.data.type), quantized_element(op.result.type)
    multiplier, shift = fixed_point(factor * source.scale / (target.scale * np.arange(1, taps + 1)))
    words = records.pack_multipliers(np.append(0, multiplier), np.append(0, shift))
    return emitter.load_constant(emitter.name("multipliers"), words)


def _average(op: AveragePoolOp | ReduceMeanOp, source: View, view: View) -> dict[str, AttributeValue]:
    low, high = op.integer_bounds
    return {
        **row_strides("input", source),
        **row_strides("output", view),
        "element": element_name(op.result),
        "input_zero": number_of(op.data.type).zero_point,
        "zero_point": number_of(op.result.type).zero_point,
        "low": low,
        "high": high,
    }


def _pairs(emitter: Emitter, data: Value[Any], result: Value[Any]) -> list[tuple[View, View]]:
    """Input and output views of one sample, for every destination and sample of a channel-wise layer."""
    source = emitter.view(data)
    return [
        (source.channels(first, count).sample(sample), place.sample(sample))
        for first, count, place in emitter.outputs(result)
        for sample in range(place.shape[0])
    ]


def extent(view: View) -> dict[str, int]:
    """The attributes for the pixels and channels of one sample of a view."""
    return {"out_h": view.shape[1], "out_w": view.shape[2], "out_c": view.shape[3]}


def _image(source: View, view: View) -> dict[str, int]:
    sizes = {"in_h": source.shape[1], "in_w": source.shape[2], "out_h": view.shape[1], "out_w": view.shape[2]}
    return {**sizes, "channels": view.shape[3]}


def _window(source: View, view: View, op: MaxPoolOp | AveragePoolOp) -> dict[str, int]:
    return {
        **_image(source, view),
        "kernel_h": op.kernel[0],
        "kernel_w": op.kernel[1],
        "stride_h": op.strides[0],
        "stride_w": op.strides[1],
        "dilation_h": op.dilations[0],
        "dilation_w": op.dilations[1],
        "pad_top": op.pads[0],
        "pad_left": op.pads[1],
    }


def _samples(emitter: Emitter, op: Operation, operands: Sequence[Value[Any]]) -> Iterator[tuple[int, list[View], View]]:
    """For every destination and sample: its first channel, the operands broadcast to it, and where it is written."""
    rank = op.result.type.rank
    shapes = [(1,) * (rank - value.type.rank) + value.type.shape for value in (op.result, *operands)]
    sources, places = [emitter.view(value) for value in operands], emitter.outputs(op.result)
    axes = shared_axes(shapes) if rank > 4 else list(zip(*map(shape4, shapes), strict=True))
    full, *owns = (shape4(sizes) for sizes in zip(*axes, strict=True))
    sides = [source.reshaped(own) for source, own in zip(sources, owns, strict=True)]
    targets = [place.reshaped((*full[:3], count)) for _, count, place in places]
    if None in sides or None in targets or max(full[1:3]) >= LONGEST_AXIS:
        axes = list(zip(*shapes, strict=True)) if rank > 4 else axes
        full, *owns = (shape4(sizes) for sizes in zip(*axes, strict=True))
        sides = [_dense(emitter, source, own) for source, own in zip(sources, owns, strict=True)]
        targets = [place for _, _, place in places]
    views = [_repeated(cast(View, side), full) for side in sides]
    leading, *repeated = zip(*axes[:-3], strict=True)
    chosen = [np.broadcast_to(np.arange(math.prod(own)).reshape(own), leading).reshape(-1).tolist() for own in repeated]
    for (first, count, _), target in zip(places, targets, strict=True):
        for sample, indices in enumerate(zip(*chosen, strict=True)):
            parts = [
                view.channels(first if view.strides[3] else 0, count).sample(index)
                for view, index in zip(views, indices, strict=True)
            ]
            yield first, parts, cast(View, target).sample(sample)


def _dense(emitter: Emitter, source: View, shape: Shape4) -> View:
    """The elements under another shape, copied if strides do not allow it."""
    view = source.reshaped(shape)
    if view is None:
        copy = emitter.temporary(source.shape, "dense", source.size, 1)
        emitter.move(source, copy)
        view = dense_view(copy.buffer, shape, source.size)
    return view


def _repeated(view: View, full: Shape4) -> View:
    """A view with the rows, pixels and channels of the full shape; axes of length 1 that repeat have stride 0."""
    strides = [0 if a == 1 != b else s for a, b, s in zip(view.shape, full, view.strides, strict=True)]
    return replace(
        view, shape=(view.shape[0], *full[1:]), strides=(view.strides[0], strides[1], strides[2], strides[3])
    )

"""Layers that only move data: what placement could not turn into views becomes strided moves and fills."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.nn import ConcatOp, GatherOp, PadOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from ...dialects.quant.ops import DequantizeOp, QuantizeOp
from ...dialects.quant.types import number_of
from ...dialects.tile.memory import LoadOp, StoreOp
from .axes import axis_strides, dense, dense_output, move_axes, move_block
from .emission import Emitter
from .placement import is_reshape, operand_place, slice_view, view_axes
from .views import View, axis4, dense_view, element_name, number_size, shape4


def emit_concat(emitter: Emitter, op: ConcatOp) -> None:
    """nn.concat: operands that were not written in place are copied there."""
    if axis4(op.out.type.rank, op.axis) is None:
        _join_leading(emitter, op)
        return
    places = [view for _, _, view in emitter.outputs(op.out)]
    missing = [(i, value) for i, value in enumerate(op.inputs) if (op, i) not in emitter.placement.placed]
    if missing:
        emitter.begin_layer(op, "move")
    for index, value in missing:
        for place in places:
            part = operand_place(op, index, place)
            assert part is not None
            emitter.move(emitter.view(value), part)
    emitter.written(op.out)


def _join_leading(emitter: Emitter, op: ConcatOp) -> None:
    """A concat along an axis that others are merged with."""
    emitter.begin_layer(op, "move")
    whole, position = dense_output(emitter, op.out), 0
    for value in op.inputs:
        shape = value.type.shape
        at = tuple(position if own == op.axis else 0 for own in range(len(shape)))
        source = dense(emitter, emitter.view(value))
        move_block(emitter, (source, shape), (whole, op.out.type.shape), shape, write_at=at)
        position += shape[op.axis]
    emitter.scatter(op.out, whole)
    emitter.written(op.out)


def emit_pad(emitter: Emitter, op: PadOp) -> None:
    """nn.pad: the border is filled; the inside is copied unless it was written in place."""
    emitter.begin_layer(op, "move")
    value = number_of(op.data.type).integer(op.value)
    shape, rank = op.data.type.shape, op.data.type.rank
    if any(
        (low or high) and axis4(rank, own) is None for own, (low, high) in enumerate(zip(op.low, op.high, strict=True))
    ):
        whole = dense_output(emitter, op.out)
        emitter.fill(whole, element_name(op.data), value)
        source = dense(emitter, emitter.view(op.data))
        move_block(emitter, (source, shape), (whole, op.out.type.shape), shape, write_at=op.low)
        emitter.scatter(op.out, whole)
        emitter.written(op.out)
        return
    for _, _, place in emitter.outputs(op.out):
        inside = operand_place(op, 0, place)
        assert inside is not None
        for border in _borders(op, place):
            emitter.fill(border, element_name(op.data), value)
        if (op, 0) not in emitter.placement.placed:
            emitter.move(emitter.view(op.data), inside)
    emitter.written(op.out)


def emit_slice(emitter: Emitter, op: SliceOp) -> None:
    """nn.slice: a view, or a copy when channels are skipped."""
    source = emitter.view(op.data) if isinstance(op.data, Constant) or op.data in emitter.views else None
    if source is None:
        return  # every reader of the slice was placed, so nothing reads the whole tensor
    view = slice_view(op, source)
    if view is not None:
        emitter.written(op.out, view)
        return
    emitter.begin_layer(op, "move")
    shape, cut = op.data.type.shape, op.out.type.shape
    axes = [own for own in range(len(shape)) if cut[own] != shape[own]]
    if any(axis4(len(shape), own) is None for own in axes):
        source, whole = dense(emitter, source), dense_output(emitter, op.out)
        move_block(emitter, (source, shape), (whole, cut), cut, read_at=op.starts, steps=op.steps)
    else:
        for own in axes:
            axis = axis4(len(shape), own)
            assert axis is not None
            source = source.narrowed(axis, op.starts[own], cut[own], op.steps[own])
        whole = emitter.whole_output(op.out)
        emitter.move(source, whole)
    emitter.scatter(op.out, whole)
    emitter.written(op.out)


def emit_reshape(emitter: Emitter, op: ReshapeOp | TransposeOp) -> None:
    """nn.reshape and nn.transpose of axes of length 1: the same bytes in another shape; a copy only if not dense."""
    source = emitter.view(op.data)
    view = source.reshaped(shape4(op.out.type.shape))
    if view is None:
        emitter.begin_layer(op, "move")
        copy = emitter.temporary(op.data.type.shape, "dense", source.size, 1)
        emitter.move(source, copy)
        view = copy.reshaped(shape4(op.out.type.shape))
    emitter.written(op.out, view)


def emit_gather(emitter: Emitter, op: GatherOp | PermuteChannelsOp) -> None:
    """nn.gather and nn.permute_channels: one move for each run of evenly spaced indices."""
    emitter.begin_layer(op, "move")
    own = len(op.data.type.shape) - 1 if isinstance(op, PermuteChannelsOp) else op.axis
    indices = op.permutation if isinstance(op, PermuteChannelsOp) else op.indices
    axis = axis4(len(op.data.type.shape), own)
    if axis is None:
        _gather_leading(emitter, op, own, indices)
        return
    source, whole = emitter.view(op.data), emitter.whole_output(op.out)
    samples = [(source, whole)] if axis == 0 else [(source.sample(i), whole.sample(i)) for i in range(source.shape[0])]
    for read, written in samples:
        _move_steps(emitter, axis, indices, (read, read.strides), (written, written.strides), written.shape)
    emitter.scatter(op.out, whole)
    emitter.written(op.out)


def _gather_leading(emitter: Emitter, op: GatherOp | PermuteChannelsOp, own: int, indices: tuple[int, ...]) -> None:
    """A gather along an axis that others are merged with."""
    source, whole = dense(emitter, emitter.view(op.data)), dense_output(emitter, op.out)
    read, written = axis_strides(op.data.type.shape, source), axis_strides(op.out.type.shape, whole)
    _move_steps(emitter, own, indices, (source, read), (whole, written), op.out.type.shape)
    emitter.scatter(op.out, whole)
    emitter.written(op.out)


def _move_steps(
    emitter: Emitter,
    axis: int,
    indices: tuple[int, ...],
    source: tuple[View, tuple[int, ...]],
    target: tuple[View, tuple[int, ...]],
    shape: tuple[int, ...],
) -> None:
    """Move the entries `indices` of one axis of a view with these strides: one move for each pattern of indices."""
    (read, far), (written, near) = source, target
    # An instruction is cut along its outermost axis: it must not have fewer parts than there are inside one.
    most_inner = len(indices) if axis == len(shape) - 1 else math.isqrt(len(indices))
    for position, start, outer, inner in _patterns(indices, most_inner):
        a = replace(read, offset=read.offset + start * far[axis])
        b = replace(written, offset=written.offset + position * near[axis])
        sizes = (*shape[:axis], outer[0], inner[0], *shape[axis + 1 :])
        steps_in = (*far[:axis], outer[1] * far[axis], inner[1] * far[axis], *far[axis + 1 :])
        steps_out = (*near[:axis], inner[0] * near[axis], *near[axis:])
        move_axes(emitter, a, b, sizes, steps_in, steps_out)


def emit_transpose(emitter: Emitter, op: TransposeOp) -> None:
    """nn.transpose: a view where the channels stay last, else strided moves."""
    if is_reshape(op):
        emit_reshape(emitter, op)
        return
    axes = view_axes(op)
    if axes is not None:
        emitter.written(op.out, emitter.view(op.data).permuted(axes))
        return
    emitter.begin_layer(op, "move")
    source, whole = emitter.view(op.data), emitter.whole_output(op.out)
    if op.data.type.rank > 4:
        source, whole = dense(emitter, source), dense_output(emitter, op.out)
    source_strides = axis_strides(op.data.type.shape, source)
    target_strides = axis_strides(op.out.type.shape, whole)
    sizes = op.out.type.shape
    moved = tuple(source_strides[axis] for axis in op.permutation)
    move_axes(emitter, source, whole, sizes, moved, target_strides)
    emitter.scatter(op.out, whole)
    emitter.written(op.out)


def emit_input(emitter: Emitter, op: QuantizeOp, buffer: Value[Any], offset: int = 0) -> None:
    """The quantized model input: loaded from `offset` of the DRAM buffer the host has written, row by row."""
    emitter.begin_layer(op, "input")
    dense = replace(dense_view(buffer, op.out.type.shape, number_size(op.out)), offset=offset)
    for first, count, place in emitter.outputs(op.out):
        for sample in range(dense.shape[0]):
            _transfer(emitter, LoadOp, dense.channels(first, count).sample(sample), place.sample(sample))
    emitter.written(op.out)


def emit_output(emitter: Emitter, op: DequantizeOp, buffer: Value[Any]) -> None:
    """A quantized model output: stored densely into the DRAM buffer the host reads."""
    emitter.begin_layer(op, "output")
    dense = dense_view(buffer, op.data.type.shape, number_size(op.data))
    for sample in range(dense.shape[0]):
        _transfer(emitter, StoreOp, emitter.view(op.data).sample(sample), dense.sample(sample))


def _transfer(emitter: Emitter, op_class: type[LoadOp] | type[StoreOp], source: View, target: View) -> None:
    _, h, w, c = source.shape
    run = c * source.size
    contiguous = all(view.strides[3] == view.size and (view.strides[2] == run or w == 1) for view in (source, target))
    emitter.add(
        op_class,
        [source.buffer, target.buffer],
        outer=h,
        inner=1 if contiguous else w,
        run=w * run if contiguous else run,
        source_offset=source.offset,
        source_outer_stride=source.strides[1],
        source_inner_stride=0 if contiguous else source.strides[2],
        destination_offset=target.offset,
        destination_outer_stride=target.strides[1],
        destination_inner_stride=0 if contiguous else target.strides[2],
    )


def _borders(op: PadOp, whole: View) -> list[View]:
    """The padded region as disjoint boxes, outermost axis first."""
    boxes: list[View] = []
    rank = len(op.data.type.shape)
    for own, size in enumerate(op.data.type.shape):
        axis = axis4(rank, own)
        if axis is None:
            continue
        low, high = op.low[own], op.high[own]
        if low:
            boxes.append(whole.narrowed(axis, 0, low))
        if high:
            boxes.append(whole.narrowed(axis, low + size, high))
        whole = whole.narrowed(axis, low, size)
    return boxes


Steps = tuple[int, int]
"""How many indices, and what each adds to the one before."""


def _patterns(indices: tuple[int, ...], most_inner: int) -> list[tuple[int, int, Steps, Steps]]:
    """(position, first index, outer steps, inner steps) of moves that make up a gather.

    One move where start + i * outer + j * inner are all indices, as in shuffles, repetitions and enlargements, with at
    most `most_inner` inner steps; else one for each maximal run of equal or evenly growing indices.
    """
    array = np.asarray(indices, np.int64)
    breaks = np.flatnonzero(np.diff(array, 2)) + 2
    inner = int(breaks[0]) if breaks.size else len(indices)
    if inner < len(indices) and len(indices) % inner == 0 and inner <= most_inner:
        step, far = int(array[1] - array[0]), int(array[inner] - array[0])
        nested = array[0] + far * np.arange(len(indices) // inner)[:, None] + step * np.arange(inner)
        if step >= 0 and far >= 0 and np.array_equal(nested.ravel(), array):
            return [(0, indices[0], (len(indices) // inner, far), (inner, step))]
    patterns: list[tuple[int, int, Steps, Steps]] = []
    position = 0
    while position < len(indices):
        start, count = indices[position], 1
        step = indices[position + 1] - start if position + 1 < len(indices) else 1
        while step >= 0 and position + count < len(indices) and indices[position + count] == start + step * count:
            count += 1
        patterns.append((position, start, (1, 0), (count, max(step, 0))))
        position += count
    return patterns


def emit_movement(emitter: Emitter, op: Operation) -> bool:
    """Emit one data movement operation; False if it is not one."""
    match op:
        case ConcatOp():
            emit_concat(emitter, op)
        case PadOp():
            emit_pad(emitter, op)
        case SliceOp():
            emit_slice(emitter, op)
        case ReshapeOp():
            emit_reshape(emitter, op)
        case GatherOp() | PermuteChannelsOp():
            emit_gather(emitter, op)
        case TransposeOp():
            emit_transpose(emitter, op)
        case _:
            return False
    return True

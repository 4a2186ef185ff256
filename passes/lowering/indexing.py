"""Layers on indices: rows of a table in DRAM that indices in SRAM name, and the index of the largest channel."""

from __future__ import annotations

import math
from typing import Any, cast

from ...dialects.core.operation import Constant, Value
from ...dialects.nn import ArgMaxOp, EmbeddingOp
from ...dialects.tile import indexing
from .emission import Emitter, row_strides
from .views import Shape4, View, dense_strides, dense_view, element_name, number_size


def emit_embedding(emitter: Emitter, op: EmbeddingOp) -> None:
    """nn.embedding: the table stays in DRAM, of which the load DMA gathers the rows; one instruction a destination."""
    emitter.begin_layer(op, "embedding")
    table = cast(Constant, op.table)
    rows, width = table.type.shape
    size = number_size(table)
    indices = _dense(emitter, op.indices)
    count = math.prod(op.indices.type.shape)
    whole = emitter.whole_output(op.out)
    place = whole.reshaped((1, count, 1, width))
    scattered = place is None
    place = place or emitter.temporary((1, count, 1, width), "rows", size, 1)
    emitter.add(
        indexing.GatherOp,
        [table, indices.buffer, place.buffer],
        outer=count,
        run=width * size,
        rows=rows,
        source_stride=width * size,
        indices_offset=indices.offset,
        indices_outer_stride=indexing.INDEX_BYTES,
        destination_offset=place.offset,
        destination_outer_stride=place.strides[1],
    )
    if scattered:
        emitter.move(dense_view(place.buffer, op.out.type.shape, size), whole)
    emitter.scatter(op.out, whole)
    emitter.written(op.out)


def emit_arg_max(emitter: Emitter, op: ArgMaxOp) -> None:
    """nn.arg_max: one instruction a sample, an index for every pixel."""
    emitter.begin_layer(op, "arg max")
    source, whole = emitter.view(op.data), emitter.whole_output(op.out)
    n, h, w, channels = source.shape
    pixels: Shape4 = (n, h, w, 1)
    place = whole.reshaped(pixels) if whole.is_dense else None
    scattered = place is None
    if place is None:
        found = emitter.temporary(op.out.type.shape, "indices", whole.size, 1)
        place = View(found.buffer, found.offset, pixels, dense_strides(pixels, whole.size), whole.size)
    for sample in range(n):
        read, written = source.sample(sample), place.sample(sample)
        emitter.add(
            indexing.ArgMaxOp,
            [read.buffer, written.buffer],
            channels=channels,
            last=op.last,
            input_element=element_name(op.data),
            element=element_name(op.out),
            out_h=h,
            out_w=w,
            out_c=1,
            **row_strides("input", read),
            **row_strides("output", written),
        )
    if scattered:
        emitter.move(dense_view(place.buffer, op.out.type.shape, whole.size), whole)
    emitter.scatter(op.out, whole)
    emitter.written(op.out)


def _dense(emitter: Emitter, value: Value[Any]) -> View:
    """A tensor whose numbers follow each other, copied if they do not."""
    view = emitter.view(value)
    if view.is_dense:
        return view
    copy = emitter.temporary(value.type.shape, "dense", view.size, 1)
    emitter.move(view, copy)
    return copy

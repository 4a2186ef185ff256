"""Softmax layers of which a mask hides elements: a constant that is loaded, or a tensor that was computed."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from ...dialects.core.operation import Constant
from ...dialects.nn import MaskedSoftmaxOp
from ...dialects.tile import normalization
from .elementwise import extent
from .emission import Emitter, row_strides
from .views import Shape4, View, dense_strides, dense_view, element_name, shape4


def emit_masked_softmax(emitter: Emitter, op: MaskedSoftmaxOp) -> None:
    """nn.masked_softmax: one instruction a sample; axes of length 1 of the mask repeat."""
    emitter.begin_layer(op, "softmax")
    table = emitter.load_constant(emitter.name("table"), cast(Constant, op.table).array)
    mask, whole = _mask(emitter, op), emitter.whole_output(op.result)
    for sample in range(whole.shape[0]):
        source, view, shown = emitter.view(op.data).sample(sample), whole.sample(sample), mask.sample(sample)
        emitter.add(
            normalization.MaskedSoftmaxOp,
            [source.buffer, table, view.buffer, shown.buffer],
            element=element_name(op.result),
            **row_strides("input", source),
            **row_strides("output", view),
            **extent(view),
            **row_strides("mask", shown),
        )
    emitter.scatter(op.result, whole)
    emitter.written(op.result)


def _mask(emitter: Emitter, op: MaskedSoftmaxOp) -> View:
    """The mask with the shape of the data and one byte for every channel; axes that repeat have stride 0."""
    rank, channels = op.data.type.rank, op.data.type.shape[-1]
    own = shape4((1,) * (rank - op.mask.type.rank) + op.mask.type.shape)
    full = shape4(op.data.type.shape)
    if any(n not in (1, size) for n, size in zip(own, full, strict=True)):
        raise op.error(f"mask {op.mask.type} does not broadcast to {op.data.type} once leading axes merge")
    if isinstance(op.mask, Constant):
        own = (*own[:3], channels)
        spread = np.broadcast_to(op.mask.array, (*op.mask.type.shape[:-1], channels))
        loaded = emitter.load_constant(emitter.name("mask"), spread)
        view = View(loaded, 0, own, dense_strides(own, 1))
    else:
        if own[3] != channels:
            raise op.error(f"mask {op.mask.type} is one number for a row of {op.data.type}, expected one an element")
        source = emitter.view(op.mask)
        view = source.reshaped(own)
        if view is None:
            copy = emitter.temporary(source.shape, "dense", source.size, 1)
            emitter.move(source, copy)
            view = dense_view(copy.buffer, own, source.size)
    steps = tuple(0 if n == 1 != size else step for n, size, step in zip(own, full, view.strides, strict=True))
    return replace(view, shape=full, strides=cast(Shape4, steps))

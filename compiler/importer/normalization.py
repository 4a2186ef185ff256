"""BatchNormalization, LRN and Softmax."""

from __future__ import annotations

import math

from ...dialects.nn.normalization import BatchNormOp, LrnOp
from ...dialects.nn.softmax import SoftmaxOp
from .lowering import Imported, Lowering, Unsupported, shape_of


def lower_batch_normalization(lowering: Lowering) -> Imported:
    """Inference form only: scale, bias, mean and variance of each channel."""
    node, shape = lowering.node, lowering.shape(0)
    if len(shape) < 2:
        raise lowering.error(f"data has rank {len(shape)}, expected at least 2")
    if node.integer("training_mode", 0):
        raise Unsupported("training_mode is 1, expected 0")
    if node.integer("spatial", 1) != 1:
        raise Unsupported("spatial is 0, expected 1")
    if any(node.outputs[1:]) or (node.opset < 14 and len(node.outputs) > 1):
        raise Unsupported("has the outputs of training, expected one output")
    for index, what in enumerate(("scale", "bias", "mean", "variance"), start=1):
        if lowering.shape(index) != (shape[1],):
            raise lowering.error(f"{what} has shape {list(lowering.shape(index))}, expected [{shape[1]}]")
    image = lowering.emit(
        BatchNormOp,
        lowering.channels_last(lowering.input(0)),
        *(lowering.input(index) for index in range(1, 5)),
        epsilon=node.number("epsilon", 1e-5),
    )
    return lowering.channels_first(image, len(shape))


def lower_lrn(lowering: Lowering) -> Imported:
    """LRN over the channels."""
    node, rank = lowering.node, len(lowering.shape(0))
    if rank < 3:
        raise lowering.error(f"data has rank {rank}, expected at least 3")
    size = node.integer("size", 0)
    if size < 1:
        raise lowering.error(f"size is {size}, expected at least 1")
    image = lowering.emit(
        LrnOp,
        lowering.channels_last(lowering.input(0)),
        size=size,
        alpha=node.number("alpha", 1e-4),
        beta=node.number("beta", 0.75),
        bias=node.number("bias", 1.0),
    )
    return lowering.channels_first(image, rank)


def lower_softmax(lowering: Lowering) -> Imported:
    """Softmax over one axis, which is moved to the end; before opset 13 over all axes from `axis` on, flattened."""
    node, data, shape = lowering.node, lowering.input(0), lowering.shape(0)
    rank = len(shape)
    if node.opset >= 13:
        return _softmax(lowering, data, lowering.axis(node.integer("axis", -1), rank))
    first = lowering.axis(node.integer("axis", 1), rank + 1 if node.integer("axis", 1) == rank else rank)
    wide = [axis for axis in range(first, rank) if shape[axis] != 1]
    if len(wide) <= 1 and first < rank:
        return _softmax(lowering, data, wide[0] if wide else first)
    flat = lowering.reshaped(data, (math.prod(shape[:first]), math.prod(shape[first:])))
    return lowering.reshaped(_softmax(lowering, flat, 1), shape)


def _softmax(lowering: Lowering, data: Imported, axis: int) -> Imported:
    rank = len(shape_of(data))
    order = (*(other for other in range(rank) if other != axis), axis)
    result = lowering.emit(SoftmaxOp, lowering.transposed(data, order), axis=rank - 1)
    return lowering.transposed(result, tuple(order.index(position) for position in range(rank)))

"""BatchNormalization, LRN, Softmax, LogSoftmax, LpNormalization and MeanVarianceNormalization."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...dialects.nn.activation import ClipOp
from ...dialects.nn.elementwise import DivOp, SubOp
from ...dialects.nn.functions import AbsOp, PowOp, SqrtOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.normalization import BatchNormOp, LrnOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import SoftmaxOp
from .lowering import Imported, Known, Lowering, Unsupported, shape_of
from .reductions import log_of_powers, maximum


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
    """Softmax over one axis, which is moved to the end."""
    return _over_one_axis(lowering, lambda data, axis: lowering.emit(SoftmaxOp, data, axis=axis))


def lower_log_softmax(lowering: Lowering) -> Imported:
    """LogSoftmax: d - log(sum(exp(d))) with d = x - max(x)."""

    def log_softmax(data: Imported, axis: int) -> Imported:
        below = lowering.emit(SubOp, data, maximum(lowering, data, (axis,), keep=True))
        return lowering.emit(SubOp, below, log_of_powers(lowering, below, (axis,)))

    return _over_one_axis(lowering, log_softmax)


def lower_lp_normalization(lowering: Lowering) -> Imported:
    """LpNormalization along an axis by the sum of magnitudes (p = 1) or the root of the sum of squares (p = 2).

    Rows of zeros stay zero: the norm is at least the smallest normal float32.
    """
    data, shape, order = lowering.input(0), lowering.shape(0), lowering.node.integer("p", 2)
    axis = lowering.axis(lowering.node.integer("axis", -1), len(shape))
    if order not in (1, 2):
        raise lowering.error(f"p is {order}, expected 1 or 2")
    parts = lowering.emit(AbsOp, data) if order == 1 else lowering.emit(PowOp, data, exponent=2.0)
    norm = lowering.emit(ReduceMeanOp, parts, axes=(axis,), factor=float(shape[axis]))
    norm = norm if order == 1 else lowering.emit(SqrtOp, norm)
    return lowering.emit(DivOp, data, lowering.emit(ClipOp, norm, min=float(np.finfo(np.float32).tiny)))


def lower_mean_variance_normalization(lowering: Lowering) -> Imported:
    """MeanVarianceNormalization: nn.layer_norm without parameters over the axes, which are moved to the end."""
    data, shape = lowering.input(0), lowering.shape(0)
    given = lowering.node.integers("axes")
    axes = sorted(lowering.axis(axis, len(shape)) for axis in ((0, 2, 3) if given is None else given))
    order = (*(axis for axis in range(len(shape)) if axis not in axes), *axes)
    row = math.prod(shape[axis] for axis in axes)
    rows = lowering.reshaped(lowering.transposed(data, order), (math.prod(shape) // row, row))
    ones, zeros = Known("scale", np.ones(row, np.float32)), Known("bias", np.zeros(row, np.float32))
    normal = lowering.emit(LayerNormOp, rows, ones, zeros, epsilon=1e-9)
    moved = lowering.reshaped(normal, [shape[axis] for axis in order])
    return lowering.transposed(moved, tuple(order.index(position) for position in range(len(shape))))


def _over_one_axis(lowering: Lowering, function: Callable[[Imported, int], Imported]) -> Imported:
    """A function along the last axis; before opset 13 that is all axes from `axis` on, flattened."""
    node, data, shape = lowering.node, lowering.input(0), lowering.shape(0)
    rank = len(shape)
    if node.opset >= 13:
        return _moved_last(lowering, data, lowering.axis(node.integer("axis", -1), rank), function)
    first = lowering.axis(node.integer("axis", 1), rank + 1 if node.integer("axis", 1) == rank else rank)
    wide = [axis for axis in range(first, rank) if shape[axis] != 1]
    if len(wide) <= 1 and first < rank:
        return _moved_last(lowering, data, wide[0] if wide else first, function)
    flat = lowering.reshaped(data, (math.prod(shape[:first]), math.prod(shape[first:])))
    return lowering.reshaped(function(flat, 1), shape)


def _moved_last(
    lowering: Lowering, data: Imported, axis: int, function: Callable[[Imported, int], Imported]
) -> Imported:
    rank = len(shape_of(data))
    order = (*(other for other in range(rank) if other != axis), axis)
    result = function(lowering.transposed(data, order), rank - 1)
    return lowering.transposed(result, tuple(order.index(position) for position in range(rank)))

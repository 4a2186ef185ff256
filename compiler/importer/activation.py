"""Element-wise functions of one input: the Relu family, Clip, and the saturating curves."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...dialects.core.operation import Operation
from ...dialects.nn.activation import (
    ClipOp,
    HardSigmoidOp,
    HardSwishOp,
    LeakyReluOp,
    PReluOp,
    ReluOp,
    SigmoidOp,
    TanhOp,
)
from ...dialects.nn.elementwise import AddOp, MulOp, SubOp
from .lowering import Imported, Known, Lowering, shape_of

FLOAT_MAX = float(np.finfo(np.float32).max)


def unary(kind: type[Operation]) -> Callable[[Lowering], Imported]:
    """A handler for an operator without attributes that is one nn operation."""

    def lower_unary(lowering: Lowering) -> Imported:
        return lowering.emit(kind, lowering.input(0))

    return lower_unary


lower_relu = unary(ReluOp)
lower_sigmoid = unary(SigmoidOp)
lower_tanh = unary(TanhOp)
lower_hard_swish = unary(HardSwishOp)


def lower_leaky_relu(lowering: Lowering) -> Imported:
    """LeakyRelu: alpha defaults to 0.01."""
    return lowering.emit(LeakyReluOp, lowering.input(0), alpha=lowering.node.number("alpha", 0.01))


def lower_hard_sigmoid(lowering: Lowering) -> Imported:
    """HardSigmoid: max(0, min(1, alpha x + beta))."""
    node = lowering.node
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    return lowering.emit(HardSigmoidOp, lowering.input(0), alpha=alpha, beta=beta)


def _clipped_by_computed(lowering: Lowering) -> Imported:
    """Bounds that are computed: max(x, a) == a + relu(x - a), min(x, a) == x - relu(x - a)."""
    result = lowering.input(0)
    for index, what in ((1, "min"), (2, "max")):
        if not lowering.has(index):
            continue
        bound = lowering.input(index)
        if isinstance(bound, Known) and bound.array.size == 1:
            number = float(bound.array.reshape(-1)[0])
            limit = {"min": number} if index == 1 else {"max": number}
            result = result if math.isinf(number) else lowering.emit(ClipOp, result, **limit)
            continue
        if math.prod(shape_of(bound)) != 1:
            raise lowering.error(f"input '{what}' has shape {list(shape_of(bound))}, expected one element")
        bound = lowering.reshaped(bound, (1,) * len(shape_of(result)))
        beyond = lowering.emit(ReluOp, lowering.emit(SubOp, result, bound))
        result = lowering.emit(AddOp, bound, beyond) if index == 1 else lowering.emit(SubOp, result, beyond)
    return result


def lower_clip(lowering: Lowering) -> Imported:
    """Clip: bounds are attributes before opset 11 and inputs from then on; a missing bound does not bind."""
    node = lowering.node
    if node.opset < 11:
        low, high = node.number("min", -math.inf), node.number("max", math.inf)
    elif any(lowering.has(index) and not isinstance(lowering.input(index), Known) for index in (1, 2)):
        return _clipped_by_computed(lowering)
    else:
        low, high = lowering.scalar(1, "min", -math.inf), lowering.scalar(2, "max", math.inf)
    if math.isnan(low) or math.isnan(high):
        raise lowering.error("a bound is NaN")
    low, high = -math.inf if low <= -FLOAT_MAX else low, math.inf if high >= FLOAT_MAX else high
    if (low, high) == (-math.inf, math.inf):
        return lowering.input(0)
    if (low, high) == (0.0, math.inf):
        return lowering.emit(ReluOp, lowering.input(0))
    # The standard lets the upper bound win where the bounds cross.
    return lowering.emit(ClipOp, lowering.input(0), min=min(low, high), max=high)


def lower_prelu(lowering: Lowering) -> Imported:
    """PRelu: one slope becomes nn.leaky_relu, a slope per index of one axis nn.prelu over that axis, moved to the end.

    Any other slope: prelu(x, s) == relu(x) + s * min(x, 0).
    """
    data, slope = lowering.input(0), lowering.input(1)
    shape = lowering.shape(0)
    rank = len(shape)
    aligned = (1,) * (rank - len(shape_of(slope))) + shape_of(slope)
    if len(aligned) != rank or any(n not in (1, size) for n, size in zip(aligned, shape, strict=True)):
        raise lowering.error(f"slope has shape {list(shape_of(slope))}, which does not broadcast to {list(shape)}")
    wide = [axis for axis, n in enumerate(aligned) if n != 1]
    if isinstance(slope, Known) and not wide:
        return lowering.emit(LeakyReluOp, data, alpha=float(slope.array.reshape(-1)[0]))
    if isinstance(slope, Known) and len(wide) == 1:
        return _prelu_over(lowering, data, Known(slope.name, slope.array.reshape(-1)), wide[0])
    negative = lowering.emit(ClipOp, data, max=0.0)
    return lowering.emit(AddOp, lowering.emit(ReluOp, data), lowering.emit(MulOp, negative, slope))


def _prelu_over(lowering: Lowering, data: Imported, slope: Known, axis: int) -> Imported:
    rank = len(shape_of(data))
    if axis == 1:
        image = lowering.emit(PReluOp, lowering.channels_last(data), slope)
        return lowering.channels_first(image, rank)
    order = (*(other for other in range(rank) if other != axis), axis)
    moved = lowering.emit(PReluOp, lowering.transposed(data, order), slope)
    return lowering.transposed(moved, tuple(order.index(position) for position in range(rank)))

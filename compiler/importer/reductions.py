"""Reductions over any axes: means and sums, largest and smallest elements, norms."""

from __future__ import annotations

import math

from ...dialects.nn.activation import UnaryOperation
from ...dialects.nn.functions import AbsOp, NegOp, PowOp, SqrtOp
from ...dialects.nn.pooling import MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from .lowering import Imported, Lowering, Unsupported, shape_of
from .windows import WINDOW_LIMIT


def lower_reduce_mean(lowering: Lowering) -> Imported:
    """ReduceMean over any axes."""
    return _mean(lowering, lowering.input(0), is_sum=False)


def lower_reduce_sum(lowering: Lowering) -> Imported:
    """ReduceSum = the mean times the number of elements."""
    return _mean(lowering, lowering.input(0), is_sum=True)


def lower_reduce_l1(lowering: Lowering) -> Imported:
    """ReduceL1 = the sum of magnitudes."""
    return _sum_of(lowering, AbsOp)


def lower_reduce_sum_square(lowering: Lowering) -> Imported:
    """ReduceSumSquare = the sum of squares."""
    return _sum_of(lowering, PowOp, exponent=2.0)


def lower_reduce_l2(lowering: Lowering) -> Imported:
    """ReduceL2 = the root of the sum of squares; where nothing is reduced, the magnitude."""
    if reduced_axes(lowering) == ():
        return lowering.emit(AbsOp, lowering.input(0))
    return lowering.emit(SqrtOp, _sum_of(lowering, PowOp, exponent=2.0))


def lower_reduce_max(lowering: Lowering) -> Imported:
    """ReduceMax = a max pool whose window is all that is reduced."""
    axes = reduced_axes(lowering)
    return _maximum(lowering, lowering.input(0), axes) if axes else lowering.input(0)


def lower_reduce_min(lowering: Lowering) -> Imported:
    """ReduceMin = -max(-x)."""
    axes = reduced_axes(lowering)
    if not axes:
        return lowering.input(0)
    return lowering.emit(NegOp, _maximum(lowering, lowering.emit(NegOp, lowering.input(0)), axes))


def global_mean(lowering: Lowering, axes: tuple[int, ...], *, keep: bool) -> Imported:
    """The mean over axes of input 0; over the two axes of an image channels last."""
    return _mean_over(lowering, lowering.input(0), axes, keep=keep, factor=1.0)


def reduced_axes(lowering: Lowering) -> tuple[int, ...]:
    """The sorted axes that a Reduce node names; none mean all of them, or none with noop_with_empty_axes."""
    rank = len(lowering.shape(0))
    axes = lowering.axes(1, rank) or ()
    empty_is_none = lowering.node.integer("noop_with_empty_axes", 0)
    return tuple(sorted(axes)) if axes or empty_is_none else tuple(range(rank))


def _keeps(lowering: Lowering) -> bool:
    return bool(lowering.node.integer("keepdims", 1))


def _sum_of(lowering: Lowering, kind: type[UnaryOperation], **attributes: float) -> Imported:
    return _mean(lowering, lowering.emit(kind, lowering.input(0), **attributes), is_sum=True)


def _mean(lowering: Lowering, data: Imported, *, is_sum: bool) -> Imported:
    axes = reduced_axes(lowering)
    if not axes:
        return data
    count = math.prod(shape_of(data)[axis] for axis in axes)
    return _mean_over(lowering, data, axes, keep=_keeps(lowering), factor=float(count) if is_sum else 1.0)


def _mean_over(lowering: Lowering, data: Imported, axes: tuple[int, ...], *, keep: bool, factor: float) -> Imported:
    options = {} if factor == 1.0 else {"factor": factor}
    if axes != (2, 3) or len(shape_of(data)) != 4:
        return lowering.emit(ReduceMeanOp, data, axes=axes, keepdims=keep, **options)
    image = lowering.channels_last(data)
    mean = lowering.emit(ReduceMeanOp, image, axes=(1, 2), keepdims=keep, **options)
    return lowering.channels_first(mean, 4) if keep else mean


def _maximum(lowering: Lowering, data: Imported, axes: tuple[int, ...]) -> Imported:
    """The data as [1, axes before, reduced axes, axes behind]; images channels last."""
    shape = shape_of(data)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    result = [1 if axis in axes else n for axis, n in enumerate(shape) if axis not in axes or _keeps(lowering)]
    if axes == (2, 3) and len(shape) == 4:
        data, shape, axes = lowering.channels_last(data), (shape[0], *shape[2:], shape[1]), (1, 2)
    elif axes != tuple(range(axes[0], axes[-1] + 1)):
        data = lowering.transposed(data, (*kept, *axes))
        shape = tuple(shape[axis] for axis in (*kept, *axes))
        axes = tuple(range(len(kept), len(shape)))
    before, count, behind = (
        math.prod(part) for part in (shape[: axes[0]], shape[axes[0] : axes[-1] + 1], shape[axes[-1] + 1 :])
    )
    if count >= WINDOW_LIMIT:
        raise Unsupported(f"reduces {count} elements, fewer than {WINDOW_LIMIT} are accepted")
    image = lowering.reshaped(data, (1, before, count, behind))
    return lowering.reshaped(lowering.emit(MaxPoolOp, image, kernel=(1, count)), result)

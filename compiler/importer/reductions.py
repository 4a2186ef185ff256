"""Reductions over any axes: means and sums, largest and smallest elements, norms, sums so far."""

from __future__ import annotations

import math

import numpy as np

from ...dialects.nn.activation import UnaryOperation
from ...dialects.nn.elementwise import AddOp, SubOp
from ...dialects.nn.functions import AbsOp, ExpOp, LogOp, NegOp, PowOp, SqrtOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.pooling import MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from .lowering import Imported, Known, Lowering, Unsupported, shape_of
from .windows import WINDOW_LIMIT

LONGEST_SUM = 2048
"""The longest axis along which sums so far are taken: the triangle has the square of it."""


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
    return maximum(lowering, lowering.input(0), axes, keep=_keeps(lowering)) if axes else lowering.input(0)


def lower_reduce_min(lowering: Lowering) -> Imported:
    """ReduceMin = -max(-x)."""
    axes = reduced_axes(lowering)
    if not axes:
        return lowering.input(0)
    negative = lowering.emit(NegOp, lowering.input(0))
    return lowering.emit(NegOp, maximum(lowering, negative, axes, keep=_keeps(lowering)))


def lower_reduce_log_sum(lowering: Lowering) -> Imported:
    """ReduceLogSum = the logarithm of the sum."""
    return lowering.emit(LogOp, _mean(lowering, lowering.input(0), is_sum=True))


def lower_reduce_log_sum_exp(lowering: Lowering) -> Imported:
    """ReduceLogSumExp = m + log(sum(exp(x - m))) with the largest element m."""
    data, axes = lowering.input(0), reduced_axes(lowering)
    if not axes:
        return data
    total = log_sum_exp(lowering, data, axes)
    kept = [n for axis, n in enumerate(shape_of(data)) if axis not in axes]
    return total if _keeps(lowering) else lowering.reshaped(total, kept)


def log_sum_exp(lowering: Lowering, data: Imported, axes: tuple[int, ...]) -> Imported:
    """The logarithm of the sum of exponentials over axes, which are kept; exponents are at most 0."""
    largest = maximum(lowering, data, axes, keep=True)
    return lowering.emit(AddOp, largest, log_of_powers(lowering, lowering.emit(SubOp, data, largest), axes))


def log_of_powers(lowering: Lowering, data: Imported, axes: tuple[int, ...]) -> Imported:
    """log(sum(exp(x))) over axes, which are kept."""
    count = math.prod(shape_of(data)[axis] for axis in axes)
    powers = lowering.emit(ExpOp, data)
    return lowering.emit(LogOp, _mean_over(lowering, powers, axes, keep=True, factor=float(count)))


def lower_cum_sum(lowering: Lowering) -> Imported:
    """CumSum along a constant axis: the product with a triangle of ones."""
    data, shape = lowering.input(0), lowering.shape(0)
    axis = lowering.axis(lowering.whole(1, "axis", 0), len(shape))
    size = shape[axis]
    if size > LONGEST_SUM:
        raise Unsupported(f"adds up {size} elements, at most {LONGEST_SUM} are accepted")
    added = np.tri(size, k=-1 if lowering.node.integer("exclusive", 0) else 0, dtype=np.float32)
    triangle = Known("triangle", added if lowering.node.integer("reverse", 0) else added.T)
    order = (*(other for other in range(len(shape)) if other != axis), axis)
    rows = lowering.reshaped(lowering.transposed(data, order), (math.prod(shape) // size, size))
    total = lowering.reshaped(lowering.emit(MatmulOp, rows, triangle), [shape[other] for other in order])
    return lowering.transposed(total, tuple(order.index(position) for position in range(len(shape))))


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


def maximum(lowering: Lowering, data: Imported, axes: tuple[int, ...], *, keep: bool) -> Imported:
    """The largest element over axes: the data as [1, axes before, reduced axes, axes behind]; images channels last."""
    shape = shape_of(data)
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    result = [1 if axis in axes else n for axis, n in enumerate(shape) if axis not in axes or keep]
    if axes == (2, 3) and len(shape) == 4:
        data, shape, axes = lowering.channels_last(data), (shape[0], *shape[2:], shape[1]), (1, 2)
    elif axes != tuple(range(axes[0], axes[-1] + 1)):
        data = lowering.transposed(data, (*kept, *axes))
        shape = tuple(shape[axis] for axis in (*kept, *axes))
        axes = tuple(range(len(kept), len(shape)))
    before, count, behind = (
        math.prod(part) for part in (shape[: axes[0]], shape[axes[0] : axes[-1] + 1], shape[axes[-1] + 1 :])
    )
    image = lowering.reshaped(data, (1, before, count, behind))
    for window in _windows(count):
        image = lowering.emit(MaxPoolOp, image, kernel=(1, window), strides=(1, window))
    return lowering.reshaped(image, result)


def _windows(count: int) -> list[int]:
    """Windows that reduce so many elements one after the other, the largest ones that there are first."""
    found: list[int] = []
    left = count
    while left > 1 or not found:
        window = next((n for n in range(min(left, WINDOW_LIMIT - 1), 0, -1) if left % n == 0), 1)
        if window == 1 < left:
            raise Unsupported(f"reduces {count} elements, which windows of fewer than {WINDOW_LIMIT} do not share out")
        found.append(window)
        left //= window
    return found

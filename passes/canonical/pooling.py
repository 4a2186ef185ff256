"""Canonical windows: global means are pools, and padding is part of the window operation behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...dialects.core.operation import Value
from ...dialects.nn.activation import ClipOp, ReluOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elements import ClampedOperation
from ...dialects.nn.movement import PadOp, ReshapeOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.windows import window_counts
from ...dialects.tile.window import LARGEST_WINDOW
from ..framework.matching import defined_by
from ..framework.rewriting import RewritePattern, Rewriter


@dataclass(frozen=True)
class PoolInsteadOfMean(RewritePattern[ReduceMeanOp]):
    """reduce_mean(x, (1, 2)) == average_pool(x) with a window as large as the image, reshaped if axes vanish."""

    def rewrite(self, op: ReduceMeanOp, rewriter: Rewriter) -> None:
        shape = op.data.type.shape
        if len(shape) != 4 or op.axes != (1, 2) or op.data.type.element != op.out.type.element:
            return
        if op.factor != 1.0 or max(shape[1:3]) >= LARGEST_WINDOW:
            return
        pool = AveragePoolOp.build(op.data, kernel=shape[1:3], clamp_min=op.clamp_min, clamp_max=op.clamp_max)
        if op.keepdims:
            rewriter.replace(op, pool)
            return
        rewriter.insert_before(op, pool)
        rewriter.replace(op, ReshapeOp.build(pool.out, shape=op.out.type.shape))


@dataclass(frozen=True)
class PadIntoWindow(RewritePattern[Conv2dOp | MaxPoolOp | AveragePoolOp]):
    """window(pad(x)) == window(x) with larger pads, where the padding is of rows and columns and of a fitting value.

    That value is 0 for a convolution and for an average (whose `counted_pads` then count it); for a maximum it is
    -inf, or 0 if x >= 0 is known. Every window of a pool must still have a tap on the image.
    """

    def rewrite(self, op: Conv2dOp | MaxPoolOp | AveragePoolOp, rewriter: Rewriter) -> None:
        pad = defined_by(op.data, PadOp)
        if pad is None or any((pad.low[0], pad.high[0], pad.low[3], pad.high[3])):
            return
        margins = (*pad.low[1:3], *pad.high[1:3])
        pads = tuple(a + b for a, b in zip(op.pads, margins, strict=True))
        if not isinstance(op, Conv2dOp) and not _sees_pixels(op, pad.data.type.shape, pads):
            return
        if isinstance(op, MaxPoolOp):
            if pad.value != -math.inf and not (pad.value == 0.0 and is_non_negative(pad.data)):
                return
        elif pad.value != 0.0:
            return
        if isinstance(op, AveragePoolOp):
            op.counted_pads = tuple(a + b for a, b in zip(op.counted_pads, margins, strict=True))
        op.pads = pads
        rewriter.set_operand(op, 0, pad.data)
        if pad.out.is_unused:
            rewriter.merge_location(op, pad)


def _sees_pixels(op: MaxPoolOp | AveragePoolOp, shape: tuple[int, ...], pads: tuple[int, ...]) -> bool:
    """True if every window of a pool with these pads has a tap on the image."""
    return all(
        window_counts(shape[i + 1], op.kernel[i], op.strides[i], op.dilations[i], (pads[i], pads[i + 2]), (0, 0)).all()
        for i in (0, 1)
    )


def is_non_negative(value: Value[Any]) -> bool:
    """True if the operation that yields `value` says that no element is below 0."""
    op = value.defining_op
    if isinstance(op, ReluOp):
        return True
    if isinstance(op, ClipOp):
        return op.min >= 0
    return isinstance(op, ClampedOperation) and op.clamp_min is not None and op.clamp_min >= 0


POOLING: tuple[RewritePattern[Any], ...] = (PoolInsteadOfMean(), PadIntoWindow())

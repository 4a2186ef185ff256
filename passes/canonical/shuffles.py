"""Channel shuffles: the reshape-transpose-reshape of grouped convolutions becomes one permutation of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...dialects.nn.movement import PermuteChannelsOp, ReshapeOp, TransposeOp
from ..framework.environment import Environment
from ..framework.matching import defined_by
from ..framework.rewriting import RewritePattern, Rewriter


@dataclass(frozen=True)
class RecogniseShuffle(RewritePattern[ReshapeOp]):
    """reshape(transpose(reshape(x))) == permute(x) along one axis, where only the parts of that axis change places.

    The permutation is `nn.permute_channels` on the last axis, between transposes where the axis is another one
    (NCHW); it bears the names of all three operations, and a remark `shuffle` says what it replaced.
    """

    environment: Environment

    def rewrite(self, op: ReshapeOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, TransposeOp)
        outer = defined_by(inner.data, ReshapeOp) if inner is not None else None
        if inner is None or outer is None or op.out.type != outer.data.type:
            return
        shape = outer.data.type.shape
        axis = shuffled_axis(shape, outer.shape, inner.permutation)
        if axis is None:
            return
        moved = [i for i, source in enumerate(inner.permutation) if i != source]
        first, last = moved[0], moved[-1] + 1
        parts = outer.shape[first:last]
        order = tuple(source - first for source in inner.permutation[first:last])
        channels = np.arange(shape[axis]).reshape(parts).transpose(order).reshape(-1)
        location = outer.location.merged(inner.location, op.location)
        to_last = (*(i for i in range(len(shape)) if i != axis), axis)
        back = tuple(int(i) for i in np.argsort(to_last))
        value = outer.data
        if axis != len(shape) - 1:
            value = rewriter.insert_before(op, TransposeOp.build(value, permutation=to_last)).out
        shuffle = PermuteChannelsOp.build(value, permutation=tuple(channels.tolist()), location=location)
        rewriter.insert_before(op, shuffle)
        value = shuffle.out
        if axis != len(shape) - 1:
            value = rewriter.insert_before(op, TransposeOp.build(value, permutation=back)).out
        rewriter.replace(op, value)
        self.environment.remark(
            "canonicalize",
            "shuffle",
            f"channel shuffle of {shape[axis]} channels in {'x'.join(str(part) for part in parts)} parts",
            location=location,
            channels=shape[axis],
            parts=list(parts),
        )


def shuffled_axis(shape: tuple[int, ...], split: tuple[int, ...], permutation: tuple[int, ...]) -> int | None:
    """The axis of `shape` whose parts a transpose of the reshaped `split` exchanges; None if it does something else."""
    moved = [i for i, source in enumerate(permutation) if i != source]
    if not moved:
        return None
    before, after = math.prod(split[: moved[0]]), math.prod(split[moved[-1] + 1 :])
    for axis, size in enumerate(shape):
        if size > 1 and math.prod(shape[:axis]) == before and math.prod(shape[axis + 1 :]) == after:
            return axis
    return None

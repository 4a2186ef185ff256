"""Masks that are added to the scores of a softmax become masks of the softmax: their numbers do not matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Value
from ...dialects.core.types import Array
from ...dialects.nn.elementwise import AddOp, MulOp
from ...dialects.nn.softmax import MaskedSoftmaxOp, SoftmaxOp
from ..framework.matching import defined_by, is_float
from ..framework.rewriting import RewritePattern, Rewriter

MASKED_BELOW = -1000.0
"""Added to a score, a constant so far below the largest of its row hides it: exp(-1000) is 0 in float32, whatever a
trained network adds it to."""


@dataclass(frozen=True)
class MaskIntoSoftmax(RewritePattern[SoftmaxOp]):
    """softmax(x + c) == masked_softmax(x + c', c > max(c) - 1000), where c' is c with 0 in the place of what is hidden.

    Scores that are hidden may be anything, so a factor of 0 in their place is left out with them. A row that is hidden
    altogether by equal numbers has the softmax of its scores still, and no masked one has.
    """

    def rewrite(self, op: SoftmaxOp, rewriter: Rewriter) -> None:
        added = defined_by(op.data, AddOp, only_use=True)
        if added is None or op.axis != op.data.type.rank - 1 or added.is_clamped or added.out.type != added.lhs.type:
            return
        if not isinstance(added.rhs, Constant) or not is_float(added.rhs):
            return
        offsets = np.atleast_1d(added.rhs.array)
        highest = offsets.max(axis=-1, keepdims=True)
        shown = offsets > highest + MASKED_BELOW
        if shown.all() or (highest <= MASKED_BELOW).any():
            return
        module = rewriter.module
        mask = module.add_constant(f"{added.rhs.name}.mask", shown.astype(np.float32))
        scores = _without_factor(added.lhs, shown)
        if (offsets[shown] != 0).any():
            rest = module.add_constant(f"{added.rhs.name}.shown", np.where(shown, offsets, 0).astype(np.float32))
            kept = AddOp.build(scores, rest, location=added.location)
            scores = rewriter.insert_before(op, kept).out
        rewriter.replace(op, MaskedSoftmaxOp.build(scores, mask))


def _without_factor(scores: Value[Any], shown: Array) -> Value[Any]:
    """The x of x * c with a constant c that is 1 wherever something is shown, else the scores."""
    scaled = defined_by(scores, MulOp, only_use=True)
    if (
        scaled is None
        or scaled.is_clamped
        or not isinstance(scaled.rhs, Constant)
        or scaled.out.type != scaled.lhs.type
    ):
        return scores
    factors, mask = np.broadcast_arrays(scaled.rhs.array, shown)
    return scaled.lhs if bool((factors[mask] == 1).all()) else scores


MASKING: tuple[RewritePattern[Any], ...] = (MaskIntoSoftmax(),)

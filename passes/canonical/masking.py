"""Masks that are added to the scores of a softmax become masks of the softmax: their numbers do not matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Value
from ...dialects.core.types import Array
from ...dialects.nn.activation import ReluOp
from ...dialects.nn.comparison import LessOp
from ...dialects.nn.elementwise import AddOp, MulOp
from ...dialects.nn.softmax import MaskedSoftmaxOp, SoftmaxOp
from ..framework.matching import defined_by, is_float, is_truth, is_whole, splat_value
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


@dataclass(frozen=True)
class ComputedMaskIntoSoftmax(RewritePattern[SoftmaxOp]):
    """softmax(x + c * h) == masked_softmax(x + relu(c * h), h < 1/2), where h is whole and c <= -1000.

    Of a truth value h the relu is 0 and left out; so is the factor 1 - h that a Where gives x. A row that is hidden
    altogether is 0: what a network makes of it is the average of what nothing belongs to, or no number at all.
    """

    def rewrite(self, op: SoftmaxOp, rewriter: Rewriter) -> None:
        added = defined_by(op.data, AddOp, only_use=True)
        if added is None or op.axis != op.data.type.rank - 1 or added.is_clamped or not is_float(added.out):
            return
        for scores, term in ((added.lhs, added.rhs), (added.rhs, added.lhs)):
            hidden = _hidden_by(term)
            if hidden is None or scores.type != added.out.type or hidden.type.shape[-1:] != op.data.type.shape[-1:]:
                continue
            if is_truth(hidden):
                kept = _without_opposite(scores, hidden)
            else:
                rest = rewriter.insert_before(op, ReluOp.build(term, location=added.location)).out
                kept = rewriter.insert_before(op, AddOp.build(scores, rest, location=added.location)).out
            shown = rewriter.insert_before(op, LessOp.build(hidden, value=0.5, location=added.location)).out
            rewriter.replace(op, MaskedSoftmaxOp.build(kept, shown))
            return


def _hidden_by(term: Value[Any]) -> Value[Any] | None:
    """The whole h of c * h with a number c <= -1000."""
    product = defined_by(term, MulOp)
    if product is None or product.is_clamped:
        return None
    for whole, factor in ((product.lhs, product.rhs), (product.rhs, product.lhs)):
        number = splat_value(factor)
        if number is not None and number <= MASKED_BELOW and whole.type == product.out.type and is_whole(whole):
            return whole
    return None


def _without_opposite(scores: Value[Any], hidden: Value[Any]) -> Value[Any]:
    """The x of x * g with g = 1 - h, else the scores."""
    product = defined_by(scores, MulOp, only_use=True)
    if product is None or product.is_clamped:
        return scores
    for value, factor in ((product.lhs, product.rhs), (product.rhs, product.lhs)):
        for one, other in ((factor, hidden), (hidden, factor)):
            turned = defined_by(one, LessOp)
            if turned is not None and turned.data is other and turned.value == 0.5 and value.type == scores.type:
                return value
    return scores


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


MASKING: tuple[RewritePattern[Any], ...] = (MaskIntoSoftmax(), ComputedMaskIntoSoftmax())

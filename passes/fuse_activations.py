"""Lets operations clamp their own results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..dialects.core.operation import Module
from ..dialects.nn.activation import ClipOp, ReluOp
from ..dialects.nn.elements import ClampedOperation
from ..dialects.nn.movement import PermuteChannelsOp, ReshapeOp, TransposeOp
from ..dialects.nn.pooling import MaxPoolOp
from .canonical.arithmetic import bounds
from .framework.base import Pass
from .framework.environment import Environment
from .framework.matching import defined_by, is_float
from .framework.rewriting import RewritePattern, Rewriter, apply_patterns

_MONOTONE = (ReshapeOp, TransposeOp, PermuteChannelsOp, MaxPoolOp)


@dataclass(frozen=True)
class FuseActivations(Pass):
    """Fuse relu and clip into the clamp of the operation before, where nothing else reads its result."""

    name: ClassVar[str] = "fuse-activations"

    def run(self, module: Module, environment: Environment) -> None:
        apply_patterns(module, [FuseClamp(), ClampBeforeMoving()])


@dataclass(frozen=True)
class FuseClamp(RewritePattern[ReluOp | ClipOp]):
    """clip(f(x) clamped to [a, b], c, d) == f(x) clamped to [clip(a, c, d), clip(b, c, d)]."""

    def rewrite(self, op: ReluOp | ClipOp, rewriter: Rewriter) -> None:
        producer = defined_by(op.data, ClampedOperation, only_use=True)
        if producer is None or not is_float(producer.out):
            return
        low, high = bounds(op)
        a = -math.inf if producer.clamp_min is None else producer.clamp_min
        b = math.inf if producer.clamp_max is None else producer.clamp_max
        a, b = min(max(a, low), high), min(max(b, low), high)
        if math.isfinite(a):
            producer.clamp_min = a
        if math.isfinite(b):
            producer.clamp_max = b
        rewriter.merge_location(producer, op)
        rewriter.replace(op, producer.out)


@dataclass(frozen=True)
class ClampBeforeMoving(RewritePattern[ReluOp | ClipOp]):
    """clip(move(x)) == move(clip(x)) for reshapes, permutations and max pools, where x can clamp itself."""

    def rewrite(self, op: ReluOp | ClipOp, rewriter: Rewriter) -> None:
        move = op.data.defining_op
        if not isinstance(move, _MONOTONE) or not op.data.has_one_use:
            return
        source = move.data
        while isinstance(source.defining_op, _MONOTONE) and source.has_one_use:
            source = source.defining_op.data
        if defined_by(source, ClampedOperation, only_use=True) is None:
            return
        clamp = type(op)([move.data], [move.data.type], op.attributes, op.location)
        rewriter.insert_before(move, clamp)
        rewriter.set_operand(move, 0, clamp.result)
        rewriter.replace(op, move.out)

"""Canonical arithmetic: neutral elements disappear, clamps merge, constants stand on the right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant
from ...dialects.nn.activation import ClipOp, ReluOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import ReshapeOp
from ..framework.matching import defined_by, is_float, splat_value
from ..framework.rewriting import RewritePattern, Rewriter


@dataclass(frozen=True)
class ConstantOnTheRight(RewritePattern[AddOp | MulOp]):
    """c + x == x + c and c * x == x * c."""

    def rewrite(self, op: AddOp | MulOp, rewriter: Rewriter) -> None:
        if not isinstance(op.lhs, Constant) or isinstance(op.rhs, Constant):
            return
        lhs, rhs = op.lhs, op.rhs
        rewriter.set_operand(op, 0, rhs)
        rewriter.set_operand(op, 1, lhs)


@dataclass(frozen=True)
class AddNegated(RewritePattern[SubOp]):
    """x - c == x + (-c), for floats."""

    def rewrite(self, op: SubOp, rewriter: Rewriter) -> None:
        if not isinstance(op.rhs, Constant) or not is_float(op.rhs):
            return
        negated = rewriter.module.add_constant(f"{op.rhs.name}.negated", -op.rhs.array)
        rewriter.replace(op, AddOp.build(op.lhs, negated, clamp_min=op.clamp_min, clamp_max=op.clamp_max))


@dataclass(frozen=True)
class MultiplyByReciprocal(RewritePattern[DivOp]):
    """x / c == x * (1 / c), for floats, where no element of c nor its reciprocal is 0 or infinite."""

    def rewrite(self, op: DivOp, rewriter: Rewriter) -> None:
        if not isinstance(op.rhs, Constant) or not is_float(op.rhs):
            return
        with np.errstate(divide="ignore", over="ignore"):
            reciprocal = (1.0 / op.rhs.array.astype(np.float64)).astype(op.rhs.array.dtype)
        if not bool((np.isfinite(reciprocal) & (reciprocal != 0)).all()):
            return
        factor = rewriter.module.add_constant(f"{op.rhs.name}.reciprocal", reciprocal)
        rewriter.replace(op, MulOp.build(op.lhs, factor, clamp_min=op.clamp_min, clamp_max=op.clamp_max))


@dataclass(frozen=True)
class DropNeutral(RewritePattern[AddOp | MulOp]):
    """x + 0 == x and x * 1 == x, for floats, where the constant does not widen the shape and nothing is clamped."""

    def rewrite(self, op: AddOp | MulOp, rewriter: Rewriter) -> None:
        if op.is_clamped or not is_float(op.lhs) or op.out.type != op.lhs.type:
            return
        if splat_value(op.rhs) != (0.0 if isinstance(op, AddOp) else 1.0):
            return
        rewriter.replace(op, op.lhs)


@dataclass(frozen=True)
class MergeClamps(RewritePattern[ReluOp | ClipOp]):
    """clip(clip(x, a, b), c, d) == clip(x, clip(a, c, d), clip(b, c, d)); relu(x) == clip(x, 0, inf)."""

    def rewrite(self, op: ReluOp | ClipOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, ReluOp) or defined_by(op.data, ClipOp)
        if inner is None:
            return
        (low, high), (a, b) = bounds(op), bounds(inner)
        if (min(max(a, low), high), min(max(b, low), high)) == (a, b):
            rewriter.replace(op, op.data)
            return
        location = inner.location if op.data.has_one_use else op.location
        merged = ClipOp.build(inner.data, min=min(max(a, low), high), max=min(max(b, low), high), location=location)
        rewriter.replace(op, merged)


@dataclass(frozen=True)
class NameClip(RewritePattern[ClipOp]):
    """clip(x, -inf, inf) == x and clip(x, 0, inf) == relu(x)."""

    def rewrite(self, op: ClipOp, rewriter: Rewriter) -> None:
        if bounds(op) == (-math.inf, math.inf):
            rewriter.replace(op, op.data)
        elif bounds(op) == (0.0, math.inf):
            rewriter.replace(op, ReluOp.build(op.data))


@dataclass(frozen=True)
class ConstantBeforeReshape(RewritePattern[AddOp | MulOp]):
    """reshape(x) op c == reshape(x op c'), for one number c for each channel of x whose axis is split.

    One number for all moves only where x is a sum or a product that may absorb it, else it stays near what follows.
    """

    def rewrite(self, op: AddOp | MulOp, rewriter: Rewriter) -> None:
        reshape = defined_by(op.lhs, ReshapeOp, only_use=True)
        if reshape is None or not isinstance(op.rhs, Constant) or op.out.type != op.lhs.type or not is_float(op.rhs):
            return
        array, source = op.rhs.array, reshape.data
        trimmed = array.shape[next((i for i, n in enumerate(array.shape) if n != 1), array.ndim) :]
        per_channel = trimmed == reshape.shape[len(reshape.shape) - len(trimmed) :] and source.type.rank > 0
        if array.size == 1:
            if not isinstance(source.defining_op, (AddOp, Conv2dOp, MatmulOp)) or not source.has_one_use:
                return
            flat = array.reshape(())
        elif per_channel and array.size == source.type.shape[-1]:
            flat = array.reshape(-1)
        else:
            return
        constant = rewriter.module.add_constant(str(op.rhs.name), flat)
        moved = type(op)([source, constant], [source.type], op.attributes, op.location)
        rewriter.insert_before(op, moved)
        rewriter.replace(op, ReshapeOp.build(moved.out, shape=reshape.shape, location=reshape.location))


def bounds(op: ReluOp | ClipOp) -> tuple[float, float]:
    """The interval an activation clamps to."""
    return (0.0, math.inf) if isinstance(op, ReluOp) else (float(op.min), float(op.max))


ARITHMETIC: tuple[RewritePattern[Any], ...] = (
    ConstantOnTheRight(),
    AddNegated(),
    MultiplyByReciprocal(),
    DropNeutral(),
    ConstantBeforeReshape(),
    MergeClamps(),
    NameClip(),
)

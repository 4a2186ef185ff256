"""Canonical matrix products: constants in their plain order, transposes and factors inside their product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Value
from ...dialects.nn.elementwise import MulOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import TransposeOp
from ..framework.matching import defined_by, is_float, only_user, splat_value
from ..framework.rewriting import RewritePattern, Rewriter


@dataclass(frozen=True)
class PlainWeights(RewritePattern[MatmulOp]):
    """f (x @ w^T) == x @ (f w^T), for constant float weights."""

    def rewrite(self, op: MatmulOp, rewriter: Rewriter) -> None:
        if not isinstance(op.rhs, Constant) or not is_float(op.rhs) or (op.factor == 1.0 and not op.transpose_rhs):
            return
        array = op.rhs.array.swapaxes(-1, -2) if op.transpose_rhs else op.rhs.array
        weight = rewriter.module.add_constant(str(op.rhs.name), np.ascontiguousarray(array * np.float32(op.factor)))
        _with_changes(op, [op.lhs, weight], rewriter, factor=1.0, transpose_rhs=False)


@dataclass(frozen=True)
class TransposedRight(RewritePattern[MatmulOp]):
    """x @ transpose(y) == x @ transpose'(y)^T, where transpose' keeps the last axis of y, or nothing moves at all."""

    def rewrite(self, op: MatmulOp, rewriter: Rewriter) -> None:
        transpose = defined_by(op.rhs, TransposeOp)
        rank = op.rhs.type.rank
        if transpose is None or not is_float(op.rhs) or transpose.permutation[-2] != rank - 1:
            return
        order = (*transpose.permutation[:-2], transpose.permutation[-1], transpose.permutation[-2])
        right: Value[Any] = transpose.data
        if order != tuple(range(rank)):
            moved = TransposeOp.build(right, permutation=order, location=transpose.location)
            right = rewriter.insert_before(op, moved).out
        _with_changes(op, [op.lhs, right], rewriter, transpose_rhs=not op.transpose_rhs)


@dataclass(frozen=True)
class TransposedProduct(RewritePattern[TransposeOp]):
    """(x @ y^T)^T == y @ x^T over the last two axes, for computed x and y: scores of keys times queries."""

    def rewrite(self, op: TransposeOp, rewriter: Rewriter) -> None:
        product = defined_by(op.data, MatmulOp, only_use=True)
        rank = op.data.type.rank
        if product is None or op.permutation != (*range(rank - 2), rank - 1, rank - 2):
            return
        fixed = isinstance(product.lhs, Constant) or isinstance(product.rhs, Constant)
        if fixed or not product.transpose_rhs or product.bias is not None or not is_float(product.lhs):
            return
        operands = [product.rhs, product.lhs]
        rewriter.replace(op, MatmulOp(operands, [op.out.type], product.attributes, product.location))


@dataclass(frozen=True)
class FactorOfOperand(RewritePattern[MatmulOp]):
    """(x c) @ y == c (x @ y) and x @ (y c) == c (x @ y), for one number c and computed x and y."""

    def rewrite(self, op: MatmulOp, rewriter: Rewriter) -> None:
        if not is_float(op.lhs) or isinstance(op.lhs, Constant) or isinstance(op.rhs, Constant):
            return
        for index in (0, 1):
            scaled = defined_by(op.operands[index], MulOp, only_use=True)
            factor = None if scaled is None or scaled.is_clamped else splat_value(scaled.rhs)
            if scaled is None or factor is None or not factor > 0 or scaled.out.type != scaled.lhs.type:
                continue
            operands = [scaled.lhs if i == index else value for i, value in enumerate(op.operands[:2])]
            rewriter.merge_location(op, scaled)
            _with_changes(op, operands, rewriter, factor=op.factor * factor)
            return


@dataclass(frozen=True)
class FactorOfResult(RewritePattern[MatmulOp]):
    """(x @ y) c == c (x @ y) in one operation, for one number c and computed x and y."""

    def rewrite(self, op: MatmulOp, rewriter: Rewriter) -> None:
        if not is_float(op.lhs) or isinstance(op.rhs, Constant) or op.bias is not None or op.is_clamped:
            return
        scaled = only_user(op, MulOp)
        factor = None if scaled is None or scaled.lhs is not op.out else splat_value(scaled.rhs)
        if scaled is None or factor is None or not factor > 0 or scaled.out.type != op.out.type:
            return
        attributes = {**op.attributes, **scaled.attributes, "factor": op.factor * factor}
        rewriter.replace(scaled, MatmulOp(op.operands, [op.out.type], attributes, op.location))


def _with_changes(op: MatmulOp, operands: list[Value[Any]], rewriter: Rewriter, **changes: float | bool) -> None:
    """Replace `op` by itself with another left and right side and other attributes."""
    attributes = {**op.attributes, **changes}
    kept = {name: value for name, value in attributes.items() if value != op.attribute_fields[name].default}
    rewriter.replace(op, MatmulOp([*operands, *op.operands[2:]], [op.out.type], kept, op.location))


PRODUCTS: tuple[RewritePattern[Any], ...] = (
    PlainWeights(),
    TransposedRight(),
    TransposedProduct(),
    FactorOfOperand(),
    FactorOfResult(),
)

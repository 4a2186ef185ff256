"""Layer normalisation that an exporter wrote as arithmetic is one operation; its gain and offset are part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import Array
from ...dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from ...dialects.nn.functions import PowOp, ReciprocalOp, SqrtOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.reduction import ReduceMeanOp
from ..framework.matching import defined_by, is_float, splat_value
from ..framework.rewriting import RewritePattern, Rewriter


@dataclass(frozen=True)
class RecogniseLayerNorm(RewritePattern[DivOp | MulOp]):
    """d / sqrt(mean(d^2) + e) == layer_norm(x, e) with d = x - mean(x), and rms_norm(d, e) with any other d."""

    def rewrite(self, op: DivOp | MulOp, rewriter: Rewriter) -> None:
        if op.is_clamped or not is_float(op.out):
            return
        for data, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)) if isinstance(op, MulOp) else ((op.lhs, op.rhs),):
            under_root = _under_root(other, inverse=isinstance(op, MulOp))
            epsilon = None if under_root is None else _mean_square(under_root, data)
            if epsilon is None or data.type != op.out.type:
                continue
            centred = _centred(data)
            channels = data.type.shape[-1]
            ones = rewriter.module.add_constant("layer_norm.scale", np.ones(channels, np.float32))
            zeros = rewriter.module.add_constant("layer_norm.bias", np.zeros(channels, np.float32))
            source = data if centred is None else centred
            norm = LayerNormOp.build(source, ones, zeros, epsilon=epsilon, centred=centred is not None)
            rewriter.replace(op, norm)
            return


@dataclass(frozen=True)
class ScaleLayerNorm(RewritePattern[MulOp]):
    """layer_norm(x, g, b) c == layer_norm(x, g c, b c), for a number or a row of numbers c."""

    def rewrite(self, op: MulOp, rewriter: Rewriter) -> None:
        norm, row = _affine(op)
        if norm is not None and row is not None:
            _replace(op, norm, _array(norm.scale) * row, _array(norm.bias) * row, rewriter)


@dataclass(frozen=True)
class OffsetLayerNorm(RewritePattern[AddOp]):
    """layer_norm(x, g, b) + c == layer_norm(x, g, b + c), for a number or a row of numbers c."""

    def rewrite(self, op: AddOp, rewriter: Rewriter) -> None:
        norm, row = _affine(op)
        if norm is not None and row is not None:
            _replace(op, norm, _array(norm.scale), _array(norm.bias) + row, rewriter)


def _under_root(value: Value[Any], *, inverse: bool) -> Value[Any] | None:
    """The v of sqrt(v), or of 1 / sqrt(v) where `inverse`."""
    power = defined_by(value, PowOp)
    if power is not None:
        return power.data if power.exponent == (-0.5 if inverse else 0.5) else None
    if inverse:
        reciprocal = defined_by(value, ReciprocalOp)
        quotient = defined_by(value, DivOp)
        if reciprocal is not None:
            value = reciprocal.data
        elif quotient is not None and not quotient.is_clamped and splat_value(quotient.lhs) == 1.0:
            value = quotient.rhs
        else:
            return None
    root = defined_by(value, SqrtOp)
    return None if root is None else root.data


def _mean_square(value: Value[Any], data: Value[Any]) -> float | None:
    """The e of mean(data^2 over the last axis) + e, or None if the value is nothing of that kind."""
    shifted = defined_by(value, AddOp)
    epsilon = 0.0 if shifted is None else splat_value(shifted.rhs)
    mean = defined_by(value if shifted is None else shifted.lhs, ReduceMeanOp)
    if epsilon is None or not epsilon >= 0 or mean is None or (shifted is not None and shifted.is_clamped):
        return None
    if mean.factor != 1.0 or mean.axes != (data.type.rank - 1,) or not mean.keepdims or mean.is_clamped:
        return None
    square = mean.data.defining_op
    is_power = isinstance(square, PowOp) and square.exponent == 2.0 and square.data is data
    is_product = isinstance(square, MulOp) and not square.is_clamped and square.lhs is data and square.rhs is data
    return epsilon if is_power or is_product else None


def _centred(data: Value[Any]) -> Value[Any] | None:
    """The x of x - mean(x over the last axis), or None."""
    difference = defined_by(data, SubOp)
    mean = None if difference is None else defined_by(difference.rhs, ReduceMeanOp)
    if difference is None or mean is None or difference.is_clamped or mean.is_clamped or not mean.keepdims:
        return None
    plain = mean.factor == 1.0 and mean.axes == (data.type.rank - 1,)
    return difference.lhs if plain and mean.data is difference.lhs else None


def _affine(op: MulOp | AddOp) -> tuple[LayerNormOp | None, Array | None]:
    """The normalisation that `op` alone reads and its constant as float64 [1 or C]."""
    norm = defined_by(op.lhs, LayerNormOp, only_use=True)
    if norm is None or not is_float(op.out) or op.is_clamped or op.out.type != op.lhs.type:
        return None, None
    fixed = isinstance(norm.scale, Constant) and isinstance(norm.bias, Constant)
    if not fixed or not isinstance(op.rhs, Constant) or any(size != 1 for size in op.rhs.array.shape[:-1]):
        return None, None
    return norm, op.rhs.array.reshape(-1).astype(np.float64)


def _replace(op: Operation, norm: LayerNormOp, scale: Array, bias: Array, rewriter: Rewriter) -> None:
    module = rewriter.module
    operands = [
        norm.data,
        module.add_constant(str(norm.scale.name), scale.astype(np.float32)),
        module.add_constant(str(norm.bias.name), bias.astype(np.float32)),
    ]
    rewriter.replace(op, LayerNormOp(operands, [norm.out.type], norm.attributes, norm.location))


def _array(value: Value[Any]) -> Array:
    assert isinstance(value, Constant)
    return value.array.astype(np.float64)


NORMALIZATION: tuple[RewritePattern[Any], ...] = (RecogniseLayerNorm(), ScaleLayerNorm(), OffsetLayerNorm())

"""Layer normalisation that an exporter wrote as arithmetic is one operation; its gain and offset are part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import Array
from ...dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from ...dialects.nn.functions import NegOp, PowOp, ReciprocalOp, SqrtOp
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
            source = data if centred is None else centred
            norm = _layer_norm(source, np.ones(1), np.zeros(1), epsilon, rewriter, centred=centred is not None)
            rewriter.replace(op, norm)
            return


@dataclass(frozen=True)
class RecogniseSpreadLayerNorm(RewritePattern[AddOp | SubOp]):
    """x m + (b - mean(x) m) == layer_norm(x, e) g + b, with m = g / sqrt(mean((x - mean(x))^2) + e): Keras' form."""

    def rewrite(self, op: AddOp | SubOp, rewriter: Rewriter) -> None:
        if op.is_clamped or not is_float(op.out):
            return
        for product, rest in ((op.lhs, op.rhs), (op.rhs, op.lhs)) if isinstance(op, AddOp) else ((op.lhs, op.rhs),):
            scaled = defined_by(product, MulOp)
            if scaled is None or scaled.is_clamped:
                continue
            for data, factor in ((scaled.lhs, scaled.rhs), (scaled.rhs, scaled.lhs)):
                found = _spread(data, factor, rest, subtracted=isinstance(op, SubOp))
                if found is not None and data.type == op.out.type:
                    scale, bias, epsilon = found
                    rewriter.replace(op, _layer_norm(data, scale, bias, epsilon, rewriter))
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
    found = _squared(value)
    return found[1] if found is not None and found[0] is data else None


def _squared(value: Value[Any]) -> tuple[Value[Any], float] | None:
    """The d and e of mean(d^2 over the last axis) + e, or None if the value is nothing of that kind."""
    shifted = defined_by(value, AddOp)
    epsilon = 0.0 if shifted is None else splat_value(shifted.rhs)
    mean = defined_by(value if shifted is None else shifted.lhs, ReduceMeanOp)
    if epsilon is None or not epsilon >= 0 or mean is None or (shifted is not None and shifted.is_clamped):
        return None
    if mean.factor != 1.0 or mean.axes != (mean.data.type.rank - 1,) or not mean.keepdims or mean.is_clamped:
        return None
    square = mean.data.defining_op
    if isinstance(square, PowOp) and square.exponent == 2.0:
        return square.data, epsilon
    if isinstance(square, MulOp) and not square.is_clamped and square.lhs is square.rhs:
        return square.lhs, epsilon
    return None


def _centred(data: Value[Any]) -> Value[Any] | None:
    """The x of x - mean(x over the last axis), or None."""
    difference = defined_by(data, SubOp)
    mean = None if difference is None else defined_by(difference.rhs, ReduceMeanOp)
    if difference is None or mean is None or difference.is_clamped or mean.is_clamped or not mean.keepdims:
        return None
    plain = mean.factor == 1.0 and mean.axes == (data.type.rank - 1,)
    return difference.lhs if plain and mean.data is difference.lhs else None


Spread = tuple[Array, Array, float]
"""Gain and offset of a layer normalisation as float64 [1 or C], and its epsilon."""


def _spread(data: Value[Any], factor: Value[Any], rest: Value[Any], *, subtracted: bool) -> Spread | None:
    """What x m + rest normalises with, or x m - rest where `subtracted`; None if it is nothing of that kind."""
    scaled = defined_by(factor, MulOp)
    gain = np.ones(1)
    inverse = factor
    if scaled is not None and not scaled.is_clamped and (row := _row(scaled.rhs)) is not None:
        gain, inverse = row, scaled.lhs
    under_root = _under_root(inverse, inverse=True)
    squared = None if under_root is None else _squared(under_root)
    if squared is None:
        return None
    centred, epsilon = squared
    difference = defined_by(centred, SubOp)
    if difference is None or _centred(centred) is not data:
        return None
    offset = _minus_mean(rest, difference.rhs, factor, sign=-1 if subtracted else 1)
    return None if offset is None else (gain, offset, epsilon)


def _minus_mean(value: Value[Any], mean: Value[Any], factor: Value[Any], *, sign: int) -> Array | None:
    """The row b of sign * value == b - mean * factor, or None."""
    op = value.defining_op
    if isinstance(op, NegOp):
        return _minus_mean(op.data, mean, factor, sign=-sign)
    if not isinstance(op, AddOp | SubOp | MulOp) or op.is_clamped:
        return None
    if isinstance(op, MulOp):
        other = op.lhs if op.rhs is factor else op.rhs if op.lhs is factor else None
        negated = None if other is None else defined_by(other, NegOp)
        found = other is mean if sign < 0 else negated is not None and negated.data is mean
        return np.zeros(1) if found else None
    for constant, rest, turned in ((op.lhs, op.rhs, isinstance(op, SubOp)), (op.rhs, op.lhs, False)):
        row = _row(constant)
        inner = None if row is None else _minus_mean(rest, mean, factor, sign=-sign if turned else sign)
        if row is not None and inner is not None:
            return inner + sign * (-row if isinstance(op, SubOp) and constant is op.rhs else row)
    return None


def _row(value: Value[Any]) -> Array | None:
    """A constant along the last axis as float64 [1 or C]; None for any other value."""
    if not isinstance(value, Constant) or any(size != 1 for size in value.array.shape[:-1]):
        return None
    return value.array.reshape(-1).astype(np.float64)


def _layer_norm(
    data: Value[Any], scale: Array, bias: Array, epsilon: float, rewriter: Rewriter, *, centred: bool = True
) -> LayerNormOp:
    channels = data.type.shape[-1]
    rows = {"scale": scale, "bias": bias}
    constants = [
        rewriter.module.add_constant(f"layer_norm.{name}", np.broadcast_to(row, (channels,)).astype(np.float32))
        for name, row in rows.items()
    ]
    return LayerNormOp.build(data, *constants, epsilon=epsilon, centred=centred)


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


NORMALIZATION: tuple[RewritePattern[Any], ...] = (
    RecogniseLayerNorm(),
    RecogniseSpreadLayerNorm(),
    ScaleLayerNorm(),
    OffsetLayerNorm(),
)

"""Moves per-channel scales and offsets into the weights and the bias of the convolution or product before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dialects.core.operation import Constant, Module, Operation, Value
from ..dialects.core.types import Array
from ..dialects.nn.convolution import Conv2dOp
from ..dialects.nn.elementwise import AddOp, MulOp
from ..dialects.nn.matmul import MatmulOp
from ..dialects.nn.normalization import BatchNormOp
from .framework.base import Pass
from .framework.environment import Environment
from .framework.matching import defined_by, is_float
from .framework.rewriting import RewritePattern, Rewriter, apply_patterns


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold batch normalisation, and mul and add by per-channel constants, into the weights before them.

    A batch normalisation of an image that has no such neighbour becomes a depthwise 1x1 convolution (one requantized
    operation with a scale per channel); of another tensor a mul and an add. Runs on channels-last graphs.
    """

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, module: Module, environment: Environment) -> None:
        apply_patterns(module, [FoldNormalization(), FoldFactor(), FoldOffset()])
        apply_patterns(module, [ExecuteNormalization(), FoldFactor(), FoldOffset()])


@dataclass(frozen=True)
class FoldNormalization(RewritePattern[BatchNormOp]):
    """batch_norm(x * w + b) == x * (w f) + ((b - mean) f + bias), where f = scale / sqrt(variance + epsilon)."""

    def rewrite(self, op: BatchNormOp, rewriter: Rewriter) -> None:
        factored = factor_and_offset(op)
        if factored is None:
            return
        rescale_producer(op, op.data, *factored, rewriter)


@dataclass(frozen=True)
class FoldFactor(RewritePattern[MulOp]):
    """(x * w + b) c == x * (w c) + b c, where c is a constant per output channel."""

    def rewrite(self, op: MulOp, rewriter: Rewriter) -> None:
        factor = per_channel(op.rhs, op.lhs)
        if factor is None or op.is_clamped:
            return
        rescale_producer(op, op.lhs, factor, np.zeros(1, factor.dtype), rewriter)


@dataclass(frozen=True)
class FoldOffset(RewritePattern[AddOp]):
    """(x * w + b) + c == x * w + (b + c), where c is a constant per output channel."""

    def rewrite(self, op: AddOp, rewriter: Rewriter) -> None:
        offset = per_channel(op.rhs, op.lhs)
        if offset is None or op.is_clamped:
            return
        rescale_producer(op, op.lhs, None, offset, rewriter)


@dataclass(frozen=True)
class ExecuteNormalization(RewritePattern[BatchNormOp]):
    """batch_norm(x) == depthwise conv(x, f, bias - mean f) for images, x f + (bias - mean f) otherwise.

    The convolution counts as no multiply-accumulate: the model has none there.
    """

    def rewrite(self, op: BatchNormOp, rewriter: Rewriter) -> None:
        factored = factor_and_offset(op)
        if factored is None:
            return
        name = op.location.layer or "batch_norm"
        channels = op.data.type.shape[-1]
        factor, offset = (values.astype(np.float32) for values in factored)
        bias = rewriter.module.add_constant(f"{name}.offset", offset)
        if op.data.type.rank == 4:
            weight = rewriter.module.add_constant(f"{name}.factor", factor.reshape(1, 1, 1, channels))
            rewriter.replace(op, Conv2dOp.build(op.data, weight, bias, groups=channels, macs=0))
            return
        scaled = MulOp.build(op.data, rewriter.module.add_constant(f"{name}.factor", factor))
        rewriter.insert_before(op, scaled)
        rewriter.replace(op, AddOp.build(scaled.out, bias))


def factor_and_offset(op: BatchNormOp) -> tuple[Array, Array] | None:
    """(f, bias - mean f) in float64, or None if a parameter is computed at run time."""
    parameters = op.operands[1:]
    if not all(isinstance(value, Constant) for value in parameters):
        return None
    scale, bias, mean, variance = (
        value.array.astype(np.float64) for value in parameters if isinstance(value, Constant)
    )
    factor = scale / np.sqrt(variance + op.epsilon)
    return factor, bias - mean * factor


def per_channel(value: Value[Any], data: Value[Any]) -> Array | None:
    """A float constant as [C] or [1] in float64 if it varies along the last axis of `data` only, else None."""
    if not isinstance(value, Constant) or not is_float(value):
        return None
    shape, target = value.array.shape, data.type.shape
    if len(shape) > len(target) or any(size != 1 for size in shape[:-1]) or value.array.size not in (1, *target[-1:]):
        return None
    return value.array.reshape(-1).astype(np.float64)


def rescale_producer(op: Operation, data: Value[Any], factor: Array | None, offset: Array, rewriter: Rewriter) -> None:
    """Replace `op` == producer(...) * factor + offset by a producer with other weights; nothing if there is none.

    The producer has constant weights, no clamp and no other reader, and the result keeps its shape.
    """
    producer = defined_by(data, Conv2dOp, only_use=True) or defined_by(data, MatmulOp, only_use=True)
    if producer is None or producer.is_clamped or op.results[0].type != data.type or not is_float(data):
        return
    weight, bias = producer.operands[1], producer.bias
    if not isinstance(weight, Constant) or not (bias is None or isinstance(bias, Constant)):
        return
    outputs = weight.type.shape[-1]
    old_bias = np.zeros(outputs) if bias is None else bias.array.astype(np.float64)
    new_bias = old_bias * (1.0 if factor is None else factor) + offset
    module = rewriter.module
    if factor is not None:
        scaled = np.empty_like(weight.array)  # in float64, block by block: float64 weights are never held as a whole
        np.multiply(weight.array, factor, out=scaled, dtype=np.float64, casting="same_kind")
        weight = module.add_constant(str(weight.name), scaled)
    if bias is not None or np.any(new_bias):
        name = str(bias.name) if bias is not None else f"{weight.name}.bias"
        bias = module.add_constant(name, np.broadcast_to(new_bias, (outputs,)).astype(np.float32))
    operands = [producer.operands[0], weight, *([bias] if bias is not None else [])]
    folded = type(producer)(operands, [op.results[0].type], producer.attributes, producer.location)
    rewriter.replace(op, folded)

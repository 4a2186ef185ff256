"""Exact rewrites that bring quantize and dequantize to the operations that compute between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...dialects.core.operation import BlockArgument, Constant, Operation, Value
from ...dialects.core.types import TensorType
from ...dialects.nn.activation import ClipOp, ReluOp
from ...dialects.nn.movement import DATA_MOVEMENT, PadOp, ReshapeOp, TransposeOp
from ...dialects.nn.normalization import BatchNormOp
from ...dialects.nn.pooling import MaxPoolOp
from ...dialects.quant.ops import DequantizeOp, QuantizeOp, RequantizeOp
from ...dialects.quant.types import QuantizedType, quantized_element
from ..canonical.arithmetic import bounds
from ..fold_batch_norm import ExecuteNormalization
from ..framework.matching import defined_by
from ..framework.rewriting import RewritePattern, Rewriter
from .conversion import LARGEST_SCALE

MOVES = (*DATA_MOVEMENT, MaxPoolOp)
"""Operations that choose among their elements: the same on reals and on the integers of one type."""


@dataclass(frozen=True)
class DequantizeAfterMoving(RewritePattern[Operation]):
    """move(dequantize(x), dequantize(y)) == dequantize(move(x, y)), where x and y have one type."""

    op_classes: ClassVar[tuple[type[Operation], ...]] = MOVES

    def rewrite(self, op: Operation, rewriter: Rewriter) -> None:
        sources = [source for value in op.operands if (source := defined_by(value, DequantizeOp)) is not None]
        if not sources or len(sources) < len(op.operands):
            return
        (element, *others) = {quantized_element(source.data.type) for source in sources}
        if others or (isinstance(op, PadOp) and not holds(element, op.value)):
            return
        kind = TensorType(op.result.type.shape, element)
        moved = type(op)([source.data for source in sources], [kind], op.attributes, op.location)
        rewriter.insert_before(op, moved)
        restored = rewriter.insert_before(op, DequantizeOp.build(moved.result, location=sources[0].location))
        rewriter.replace(op, restored.result)


@dataclass(frozen=True)
class QuantizeBeforeMoving(RewritePattern[QuantizeOp]):
    """quantize(move(x, c)) == move(quantize(x), quantize(c)), except where the host moves an input of the network."""

    def rewrite(self, op: QuantizeOp, rewriter: Rewriter) -> None:
        move = op.data.defining_op
        if not isinstance(move, MOVES) or _is_prologue(op.data):
            return
        element = quantized_element(op.out.type)
        users = move.result.users
        if any(not isinstance(user, QuantizeOp) or user.out.type != op.out.type for user in users):
            return
        operands: list[Value[Any]] = []
        for value in move.operands:
            kind = TensorType(value.type.shape, element)
            if isinstance(value, Constant):
                operands.append(rewriter.module.add_constant(str(value.name), element.quantize(value.array), kind))
            else:
                operands.append(rewriter.insert_before(move, QuantizeOp((value,), (kind,), {}, op.location)).result)
        moved = type(move)(operands, [op.out.type], move.attributes, move.location)
        rewriter.insert_before(move, moved)
        for user in users:
            rewriter.replace(user, moved.result)


@dataclass(frozen=True)
class QuantizeDequantized(RewritePattern[QuantizeOp]):
    """quantize(dequantize(x)) == x, or requantize(x) where the types differ."""

    def rewrite(self, op: QuantizeOp, rewriter: Rewriter) -> None:
        source = defined_by(op.data, DequantizeOp)
        if source is None:
            return
        if source.data.type == op.out.type:
            rewriter.replace(op, source.data)
            return
        ratio = quantized_element(source.data.type).scale / quantized_element(op.out.type).scale
        name = f"{op.location.layer or 'requantize'}.scale"
        factor = rewriter.module.add_constant(name, np.array([min(ratio, LARGEST_SCALE)], np.float32))
        rewriter.replace(op, RequantizeOp((source.data, factor), (op.out.type,)))


@dataclass(frozen=True)
class ClampBeforeQuantizing(RewritePattern[ReluOp | ClipOp]):
    """clip(dequantize(quantize(x))) == dequantize(quantize(clip(x))), where the type holds the bounds and is kept."""

    def rewrite(self, op: ReluOp | ClipOp, rewriter: Rewriter) -> None:
        source = defined_by(op.data, DequantizeOp, only_use=True)
        before = defined_by(source.data, QuantizeOp, only_use=True) if source is not None else None
        if source is None or before is None:
            return
        element = quantized_element(before.out.type)
        if any(not isinstance(user, QuantizeOp) or user.out.type != before.out.type for user in op.result.users):
            return
        low, high = bounds(op)
        least, most = (float(element.dequantize(np.array(end))) for end in (element.low, element.high))
        if not ((low <= least or holds(element, low)) and (high >= most or holds(element, high))):
            return
        clamp = type(op)([before.data], [before.data.type], op.attributes, op.location)
        rewriter.insert_before(before, clamp)
        rewriter.set_operand(before, 0, clamp.result)
        rewriter.replace(op, source.out)


@dataclass(frozen=True)
class ExecuteQuantizedNormalization(RewritePattern[BatchNormOp]):
    """batch_norm(dequantize(x)) == depthwise conv(dequantize(x)): no weight before it can take its factors."""

    def rewrite(self, op: BatchNormOp, rewriter: Rewriter) -> None:
        if defined_by(op.data, DequantizeOp) is not None:
            ExecuteNormalization().rewrite(op, rewriter)


EXCHANGES: tuple[RewritePattern[Any], ...] = (
    DequantizeAfterMoving(),
    QuantizeBeforeMoving(),
    QuantizeDequantized(),
    ClampBeforeQuantizing(),
    ExecuteQuantizedNormalization(),
)


def holds(element: QuantizedType, real: float) -> bool:
    """True if one of the integers of the type stands for exactly this float32 number."""
    single = np.asarray(real, np.float32)
    return bool(element.dequantize(element.quantize(single)) == single)


def _is_prologue(value: Value[Any]) -> bool:
    """True for an argument, transposed or reshaped with one reader a step: the host does that before it quantizes."""
    while isinstance(op := value.defining_op, (TransposeOp, ReshapeOp)) and value.has_one_use:
        value = op.data
    return isinstance(value, BlockArgument)

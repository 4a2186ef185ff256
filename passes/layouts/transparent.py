"""Operations that can work in any layout: the same operation on transposed operands gives the transposed result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...dialects.core.operation import Operation, Value
from ...dialects.core.types import TensorType
from ...dialects.nn.activation import PReluOp, UnaryOperation
from ...dialects.nn.elementwise import BinaryOperation
from ...dialects.nn.movement import ConcatOp, GatherOp, PadOp, SliceOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import SoftmaxOp
from ...dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp

Permutation = tuple[int, ...]

TRANSPARENT = (
    UnaryOperation,
    BinaryOperation,
    PReluOp,
    ConcatOp,
    SliceOp,
    PadOp,
    GatherOp,
    ReduceMeanOp,
    SoftmaxOp,
    QuantizeOp,
    DequantizeOp,
    LookupOp,
    RequantizeOp,
)

_WITH_PARAMETERS = (SoftmaxOp, LookupOp, RequantizeOp)
"""Operations whose operands but the first are parameters: tables and factors, which have no layout."""


def laid_out(op: Operation) -> tuple[Value[Any], ...]:
    """The operands of `op` that have the layout of its result."""
    return op.operands[:1] if isinstance(op, _WITH_PARAMETERS) else op.operands


def inverse(permutation: Permutation) -> Permutation:
    """The permutation that undoes `permutation`."""
    back = [0] * len(permutation)
    for position, axis in enumerate(permutation):
        back[axis] = position
    return tuple(back)


def keeps_channels(op: Operation, permutation: Permutation) -> bool:
    """True for an operation with factors along its last axis, which it has to stay, where that would move."""
    if permutation[-1:] == (len(permutation) - 1,):
        return False
    if isinstance(op, RequantizeOp):
        return op.scale.type.size > 1
    return isinstance(op, PReluOp) and op.slope.type.shape[-1:] > (1,)


def in_other_layout(
    op: Operation, permutation: Permutation, operands: Sequence[Value[Any]]
) -> tuple[Operation, Permutation] | None:
    """(twin, q) with op == transpose(twin(operands), q), where old operand == transpose(new operand, permutation).

    `operands` stand for those that are `laid_out`. None if `op` does not have as many axes as the permutation, or has
    factors for the channels of an axis that would move.
    """
    rank = len(permutation)
    if keeps_channels(op, permutation):
        return None
    if op.operands[0].type.rank != rank and not isinstance(op, BinaryOperation):
        return None
    attributes = dict(op.attributes)
    result = permutation
    if isinstance(op, (ConcatOp, GatherOp, SoftmaxOp)):
        attributes["axis"] = permutation[op.axis]
    elif isinstance(op, SliceOp):
        for name in ("starts", "stops", "steps"):
            attributes[name] = _scattered(getattr(op, name), permutation)
    elif isinstance(op, PadOp):
        attributes |= {"low": _scattered(op.low, permutation), "high": _scattered(op.high, permutation)}
    elif isinstance(op, ReduceMeanOp):
        attributes["axes"] = tuple(sorted(permutation[axis] for axis in op.axes))
        if not op.keepdims:
            result = _ranks([source for axis, source in enumerate(permutation) if axis not in op.axes])
    out = op.result.type
    if len(out.shape) != len(result):
        return None
    kind = TensorType(_scattered(out.shape, result), out.element)
    parameters = op.operands[len(operands) :]
    return type(op)([*operands, *parameters], [kind], attributes, op.location), result


def _scattered(entries: Sequence[int], permutation: Permutation) -> tuple[int, ...]:
    """Entry i, which is about axis i of the transposed tensor, at the place of the axis it was before."""
    placed = [0] * len(permutation)
    for entry, axis in zip(entries, permutation, strict=True):
        placed[axis] = entry
    return tuple(placed)


def _ranks(axes: Sequence[int]) -> Permutation:
    order = {axis: rank for rank, axis in enumerate(sorted(axes))}
    return tuple(order[axis] for axis in axes)

"""A copy of a module for several samples at once, where every operation treats samples separately."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Constant, Module, Operation, Terminator, Value
from ...dialects.core.tensor import TensorOperation
from ...dialects.core.types import TensorType
from ...dialects.nn.activation import PReluOp, UnaryOperation
from ...dialects.nn.cast import CastOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import BinaryOperation
from ...dialects.nn.indexing import ArgMaxOp, EmbeddingOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import ConcatOp, GatherOp, PadOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from ...dialects.nn.normalization import BatchNormOp, LrnOp
from ...dialects.nn.onnx import HostOp, OnnxOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import MaskedSoftmaxOp, SoftmaxOp
from ...dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp


def batched(module: Module, size: int) -> Module | None:
    """A clone whose arguments hold `size` samples along axis 0 instead of one; None where that is not certain.

    Certain means: every argument has a first axis of 1, and every operation is known to keep samples apart. Values that
    depend on the input have the rows of one sample behind those of another: one each, or several where a reshape has
    made rows of another axis, as for the products of all steps of a recurrent layer. Row i of each returned value is
    what the original computes for sample i: the same integers, and the same floats up to the order of additions inside
    BLAS.
    """
    clone = module.clone()
    main = clone.main
    rows: dict[Value[Any], int] = {}
    for argument in main.arguments:
        if not isinstance(argument.type, TensorType) or argument.type.shape[:1] != (1,):
            return None
        argument.type = argument.type.with_shape((size, *argument.type.shape[1:]))
        rows[argument] = 1
    for op in main.body:
        if op.has_trait(Terminator):
            if any(rows.get(value) != 1 for value in op.operands):
                return None
            main.result_types = tuple(value.type for value in op.operands)
            continue
        if not any(value in rows for value in op.operands):
            if any(not isinstance(value, Constant) for value in op.operands):
                return None
            continue
        own = _rows(op, rows)
        if not own or not _resize(op, size, own):
            return None
        rows.update(dict.fromkeys(op.results, own))
    return clone


def _rows(op: Operation, rows: Mapping[Value[Any], int]) -> int:
    """The rows that one sample has in the result of `op`; 0 where samples may not stay apart."""
    given = {rows[value] for value in op.operands if value in rows}
    if isinstance(op, ReshapeOp) and op.out.type.rank > 1 and op.out.type.size:
        return op.out.type.shape[0]
    if given == {1}:
        return int(_separate(op, rows))
    if len(given) > 1 or not _separate_rows(op, rows):
        return 0
    return op.result.type.shape[0]


def _separate_rows(op: Operation, rows: Mapping[Value[Any], int]) -> bool:
    """True if `op` computes every row of its dependent operands by itself, or takes one row of each sample."""
    rank = op.result.type.rank
    match op:
        case BinaryOperation():
            others = [value.type.rank for value in op.operands if value in rows]
            fixed = [v.type.shape for v in op.operands if v not in rows]
            return rank > 1 and set(others) == {rank} and all(len(s) < rank or s[0] == 1 for s in fixed)
        case UnaryOperation() | QuantizeOp() | DequantizeOp() | LookupOp() | CastOp() | RequantizeOp() | LayerNormOp():
            return rank > 1
        case MatmulOp():
            return rank > 1 and op.lhs in rows and op.rhs not in rows and op.rhs.type.rank == 2
        case SliceOp():
            return rank > 1 and (op.out.type.shape[0] == 1 or _is_whole(op, rows[op.data]))
        case _:
            return False


def _is_whole(op: SliceOp, rows: int) -> bool:
    return (op.starts[0], op.stops[0], op.steps[0]) == (0, rows, 1)


def _separate(op: Operation, dependent: Container[Value[Any]]) -> bool:
    """True if `op` keeps axis 0 of its dependent operands as the sample axis and computes every sample by itself."""
    if isinstance(op, (OnnxOp, HostOp)):
        return False
    shapes = [value.type.shape for value in op.operands if value in dependent]
    rank = op.result.type.rank
    if op.result.type.shape[:1] != (1,) or any(not shape for shape in shapes):
        return False
    match op:
        case BinaryOperation():
            fixed = [v.type.shape for v in op.operands if v not in dependent]
            return all(len(s) == rank for s in shapes) and all(len(s) < rank or s[0] == 1 for s in fixed)
        case PReluOp():
            return op.slope not in dependent and (op.slope.type.rank < rank or op.slope.type.shape[0] == 1)
        case UnaryOperation() | MaxPoolOp() | AveragePoolOp() | LrnOp() | LayerNormOp() | PermuteChannelsOp():
            return rank > 1
        case QuantizeOp() | DequantizeOp() | LookupOp() | CastOp():
            return True
        case RequantizeOp():
            return rank > 1
        case Conv2dOp() | BatchNormOp():
            return op.data in dependent and len(shapes) == 1
        case MatmulOp():
            return op.lhs in dependent and (op.rhs not in dependent or (rank > 2 and len(set(map(len, shapes))) == 1))
        case ConcatOp() | GatherOp():
            return op.axis != 0 and len(shapes) == len(op.operands)
        case EmbeddingOp():
            return rank > 1
        case ArgMaxOp():
            return rank > 0
        case MaskedSoftmaxOp():
            if op.mask in dependent:
                return rank > 1 and op.mask.type.rank == rank
            return rank > 1 and (op.mask.type.rank < rank or op.mask.type.shape[0] == 1)
        case SoftmaxOp():
            return op.axis not in (0, -rank)
        case ReduceMeanOp():
            return 0 not in op.axes and all(axis >= 0 for axis in op.axes)
        case SliceOp():
            return (op.starts[0], op.stops[0], op.steps[0]) == (0, 1, 1)
        case PadOp():
            return op.low[0] == op.high[0] == 0
        case TransposeOp():
            return op.permutation[0] == 0
        case ReshapeOp():
            # Both sides start with the sample axis, so the rest is reordered sample by sample.
            return True
        case _:
            return False


def _resize(op: Operation, size: int, rows: int) -> bool:
    """Set the result type of `op` for `size` samples of so many rows; False if the operation does not take it."""
    before = op.result.type
    if isinstance(op, ReshapeOp):
        op.shape = (size * rows, *op.shape[1:])
    elif isinstance(op, SliceOp):
        before_rows = op.data.type.shape[0] // size
        whole = _is_whole(op, before_rows)
        op.stops = (op.data.type.shape[0], *op.stops[1:])
        op.steps = (1 if whole else before_rows, *op.steps[1:])
    if not isinstance(op, TensorOperation):
        return False
    try:
        after = op.expected_shape()
    except CompileError:
        return False
    op.result.type = before.with_shape(after)
    return after == (size * rows, *before.shape[1:])

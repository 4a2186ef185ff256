"""A copy of a module for several samples at once, where every operation treats samples separately."""

from __future__ import annotations

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

    Certain means: every argument has a first axis of 1, and every operation is known to keep the first axis of every
    operand that depends on the input, without mixing its entries. Row i of each value is then what the original
    computes for sample i: the same integers, and the same floats up to the order of additions inside BLAS.
    """
    clone = module.clone()
    main = clone.main
    dependent: set[Value[Any]] = set()
    for argument in main.arguments:
        if not isinstance(argument.type, TensorType) or argument.type.shape[:1] != (1,):
            return None
        argument.type = _resized(argument.type, size)
        dependent.add(argument)
    for op in main.body:
        if op.has_trait(Terminator):
            if any(value not in dependent for value in op.operands):
                return None
            main.result_types = tuple(value.type for value in op.operands)
            continue
        if not any(value in dependent for value in op.operands):
            if any(not isinstance(value, Constant) for value in op.operands):
                return None
            continue
        if not _separate(op, dependent) or not _resize(op, size):
            return None
        dependent.update(op.results)
    return clone


def _resized(type: TensorType, size: int) -> TensorType:
    return type.with_shape((size, *type.shape[1:]))


def _separate(op: Operation, dependent: set[Value[Any]]) -> bool:
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


def _resize(op: Operation, size: int) -> bool:
    """Set the result type of `op` for `size` samples; False if the operation does not take it."""
    before = op.result.type
    if isinstance(op, ReshapeOp):
        op.shape = (size, *op.shape[1:])
    elif isinstance(op, SliceOp):
        op.stops = (size, *op.stops[1:])
    if not isinstance(op, TensorOperation):
        return False
    try:
        after = op.expected_shape()
    except CompileError:
        return False
    op.result.type = before.with_shape(after)
    return after == (size, *before.shape[1:])

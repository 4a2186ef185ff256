"""What can be quantized, checked before any work is done, and that nothing in float is left, checked afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import prod
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError, Diagnostic
from ...dialects.core.operation import Constant, Function, Operation, Terminator, Value
from ...dialects.core.types import F32, TensorType
from ...dialects.nn.activation import PReluOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.indexing import EmbeddingOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.normalization import BatchNormOp
from ...dialects.nn.onnx import HostOp, OnnxOp
from ...dialects.quant.ops import DequantizeOp, QuantizeOp, ScaleOp
from ...dialects.quant.types import is_number
from .converters import is_convertible
from .host import epilogue, prologue
from .stored import is_fixed

HOSTED = "--allow-host runs it on the host, in float"


def check_convertible(operations: Iterable[Operation]) -> None:
    """Raise one CompileError that lists every operation without an integer form, each with its reason."""
    problems = [(op, problem) for op in operations if (problem := problem_of(op))]
    if problems:
        raise CompileError([Diagnostic(f"'{op.name}': {problem}", op.location, (HOSTED,)) for op, problem in problems])


def is_quantizable(operations: Iterable[Operation]) -> bool:
    """True if every operation has an integer form: `check_convertible` would accept them."""
    return not any(problem_of(op) for op in operations)


def check_integer(function: Function, host: Collection[Operation]) -> None:
    """Raise one CompileError that lists every operation that computes in float between quantize and dequantize.

    `host` holds the operations before quantize and after dequantize that the host does.
    """
    left: list[Diagnostic] = []
    for op in function.body:
        if isinstance(op, (QuantizeOp, DequantizeOp, HostOp)) or op.has_trait(Terminator) or op in host:
            continue
        values = [*op.results, *(v for v in op.operands if not isinstance(v, Constant))]
        if any(isinstance(v.type, TensorType) and v.type.element == F32 for v in values):
            left.append(Diagnostic(f"'{op.name}': still computes in float, expected integers only", op.location))
    if left:
        raise CompileError(left)


def float_operations(function: Function) -> list[Operation]:
    """What is left to quantize: every operation but conversions, integer ones, and what the host does.

    A conversion between two integer types counts, as long as it goes through reals.
    """
    host = {**prologue(function), **epilogue(function)}
    found: list[Operation] = []
    for op in function.body:
        if op in host or op.has_trait(Terminator) or isinstance(op, (DequantizeOp, ScaleOp, HostOp)):
            continue
        if isinstance(op, QuantizeOp):
            left = isinstance(op.data.defining_op, DequantizeOp)
        else:
            # An operator of the standard has no integer form whatever its types are: bf16 is a number of the machine.
            left = isinstance(op, OnnxOp) or not any(_is_quantized(value) for value in (*op.operands, *op.results))
        if left:
            found.append(op)
    return found


def problem_of(op: Operation) -> str | None:
    """Why a float operation has no integer form; None if it has one."""
    if not is_convertible(op):
        name = f" as {op.operator}" if isinstance(op, OnnxOp) else ""
        return f"has no integer form{name}"
    for value in (*op.operands, *op.results):
        if not isinstance(value.type, TensorType) or value.type.element != F32:
            return f"works on {value.type}, expected f32 before quantization"
    broken = [v.name for v in op.operands if isinstance(v, Constant) and not np.isfinite(v.array).all()]
    if broken:
        return f"constant @{broken[0]} holds NaN or infinity, expected numbers"
    if op.operands and all(is_fixed(value) for value in op.operands):
        return "has only constant operands, expected them folded (fold-constants)"
    fixed: dict[str, Value[Any] | None] = {}
    if isinstance(op, Conv2dOp):
        fixed = {"weight": op.weight, "bias": op.bias}
    elif isinstance(op, MatmulOp):
        fixed = {"bias": op.bias}
    elif isinstance(op, PReluOp):
        fixed = {"slope": op.slope}
    elif isinstance(op, EmbeddingOp):
        fixed = {"table": op.table}
    elif isinstance(op, LayerNormOp):
        fixed = {"scale": op.scale, "bias": op.bias}
    elif isinstance(op, BatchNormOp):
        names = ("scale", "bias", "mean", "variance")
        fixed = dict(zip(names, op.operands[1:], strict=True))
    for name, value in fixed.items():
        if value is None or isinstance(value, Constant):
            continue
        if not (isinstance(op, (Conv2dOp, MatmulOp)) and is_fixed(value)):
            return f"{name} is computed, expected a constant"
    if isinstance(op, PReluOp) and op.slope.type.size != prod(op.slope.type.shape[-1:]):
        return (
            f"slope has shape {list(op.slope.type.shape)}, expected one slope, or one for each channel (the last axis)"
        )
    data = op.operands[0] if op.operands else None
    if data is not None and is_fixed(data) and isinstance(op, (Conv2dOp, PReluOp, BatchNormOp, LayerNormOp)):
        return "data is a constant, expected an activation"
    return None


def _is_quantized(value: Value[Any]) -> bool:
    return isinstance(value.type, TensorType) and is_number(value.type.element)

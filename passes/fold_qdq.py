"""The pass `fold-qdq`: a model that is quantized already computes in the integers it prescribes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module, Operation
from ..dialects.core.types import F32, TensorType
from ..dialects.quant.ops import DequantizeOp, QuantizeOp, ScaleOp
from ..dialects.quant.types import QuantizedType, quantized_element
from .framework.base import Pass
from .framework.environment import Environment
from .framework.rewriting import apply_patterns
from .fuse_activations import ClampBeforeMoving, FuseClamp
from .quantization.conversion import Conversion
from .quantization.converters import convert
from .quantization.exchange import EXCHANGES, MOVES
from .quantization.legality import float_operations, problem_of
from .quantization.stored import is_fixed


@dataclass(frozen=True)
class FoldQdq(Pass):
    """Fold dequantize, operation and quantize into one operation on integers.

    Scales, zero points and the integers of weights and biases are those of the model. Data movement works on integers,
    activations clamp the operation before them. An operation whose result is not quantized stays float, with its
    weights as they are stored, for `insert-quantization`, which finds its range. Remarks say what could not be kept.
    """

    name: ClassVar[str] = "fold-qdq"

    def run(self, module: Module, environment: Environment) -> None:
        if not any(isinstance(op, (QuantizeOp, DequantizeOp, ScaleOp)) for op in module.walk()):
            return
        if environment.precision != "int8":
            asked = f"precision is '{environment.precision}'"
            raise CompileError(f"{asked}, the model is quantized already; give the float model, or leave it at int8")
        patterns = [*EXCHANGES, FuseClamp(), ClampBeforeMoving()]
        apply_patterns(module, patterns)
        operations = {op: element for op in module.main.body if (element := prescribed_type(op)) is not None}
        conversion = Conversion(module, {op.result: element for op, element in operations.items()})
        for op in operations:
            users = [user for user in op.result.users if isinstance(user, QuantizeOp)]
            convert(op, conversion)
            twin = conversion.twins[op.result]
            for user in users:
                user.result.replace_all_uses_with(twin)
                user.erase()
            op.erase()
        apply_patterns(module, patterns)
        module.drop_unused_constants()
        for op, reason in conversion.lost.items():
            message = f"the integers of the model are not kept: {reason}"
            environment.remark(self.name, "missed", message, location=op.location)
        left = float_operations(module.main)
        message = f"folded {len(operations)} operations with the scales of the model"
        if left:
            message += f"; {len(left)} others compute in float, their ranges are left to insert-quantization"
        environment.remark(self.name, "applied", message, operations=len(operations), left=_names(left))


def prescribed_type(op: Operation) -> QuantizedType | None:
    """The type that every reader quantizes the result of a float operation to, if its operands are dequantized."""
    if isinstance(op, (*MOVES, QuantizeOp, DequantizeOp, ScaleOp)) or len(op.results) != 1:
        return None
    result = op.result.type
    if not isinstance(result, TensorType) or result.element != F32 or problem_of(op) is not None:
        return None
    sources = [value for value in op.operands if not is_fixed(value)]
    if not sources or any(not isinstance(value.defining_op, DequantizeOp) for value in sources):
        return None
    wanted = {quantized_element(user.out.type) if isinstance(user, QuantizeOp) else None for user in op.result.users}
    return wanted.pop() if len(wanted) == 1 else None


def _names(operations: Iterable[Operation]) -> list[str]:
    return [op.location.layer or op.name for op in operations]

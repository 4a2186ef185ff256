"""The pass `insert-bf16`: a float network becomes one that computes in bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module, Operation, Terminator, Value
from ..dialects.core.types import BF16, F32
from ..dialects.nn.onnx import HostOp
from ..dialects.quant.bfloat16 import rounded
from ..dialects.quant.ops import DequantizeOp, QuantizeOp, ScaleOp
from .bfloat16.conversion import Conversion, check_convertible
from .bfloat16.weights import balanced
from .framework.base import Pass
from .framework.environment import Environment
from .quantization.decided import erase_unused
from .quantization.host import epilogue, prologue
from .quantization.measure import held_back


@dataclass(frozen=True)
class InsertBf16(Pass):
    """Round the float network to bfloat16, for precision bf16 only.

    @main becomes: transposes and reshapes of the input (the host does them) -> quant.quantize -> operations on bf16 ->
    quant.dequantize -> reshapes and transposes of the output -> return. Constants are rounded to nearest, biases stay
    float32, functions of one number become tables. Nothing is calibrated. What the operations compute, to the bit, says
    `accelc.dialects.quant.bfloat16`.

    `weights` says how those of products are rounded: `nearest`, or `balanced` to one of the two numbers next to each,
    so that the errors of a sum cancel.
    """

    name: ClassVar[str] = "insert-bf16"

    weights: Literal["balanced", "nearest"] = "balanced"

    def run(self, module: Module, environment: Environment) -> None:
        if environment.precision != "bf16":
            return
        target, main = environment.target, module.main
        if target is not None and not target.array.bf16_rate:
            message = f"target '{target.name}' has no bf16: set 'bf16_rate' in [array] of its file"
            raise CompileError(f"{message} to the fraction of the int8 rate at which it multiplies such numbers")
        if any(isinstance(op, (QuantizeOp, DequantizeOp, ScaleOp)) for op in main.body):
            raise CompileError("precision is 'bf16', the model is quantized already; give the float model")
        host = {**prologue(main), **epilogue(main)}
        left = [op for op in main.body if op not in host and not op.has_trait(Terminator)]
        operations = [op for op in left if not isinstance(op, HostOp)]
        if not operations:
            return
        check_convertible(operations)
        baseline = environment.baseline
        if environment.calibration is not None:  # only to tell afterwards where the error comes from
            baseline.module = module.clone()
            _, baseline.measured = held_back(module, environment.calibration)
        copies = dict(zip(main.body, baseline.module.main.body, strict=True)) if baseline.module else {}
        conversion = Conversion(module, balanced if self.weights == "balanced" else rounded)
        _round_inputs(module, operations, conversion)
        for op in operations:
            conversion.convert(op)
        baseline.origins = {conversion.twins[op.result]: copies[op] for op in operations if op in copies}
        _restore_outputs(module, operations, conversion)
        for op in reversed(operations):
            op.erase()
        erase_unused(main)
        module.drop_unused_constants()
        message = f"rounded {len(operations)} operations to bf16"
        environment.remark(self.name, "applied", message, operations=len(operations))


def _round_inputs(module: Module, operations: list[Operation], conversion: Conversion) -> None:
    """Round what the operations read but do not compute: arguments, and what the host makes of them."""
    main, inside = module.main, set(operations)
    read = dict.fromkeys(value for op in operations for value in op.operands)
    outside = [op for op in main.body if op not in inside]
    candidates: list[Value[Any]] = [*main.arguments, *(result for op in outside for result in op.results)]
    for value in (value for value in candidates if value in read):
        if value.type.element != F32:
            raise CompileError(f"input of the part in bf16 is {value.type}, expected f32")
        op, definition = QuantizeOp((value,), (value.type.with_element(BF16),)), value.defining_op
        op.location = definition.location if definition is not None else value.users[0].location
        if definition is not None:
            main.body.insert_after(definition, op)
        else:
            main.body.insert_before(main.body.first or main.body.terminator, op)
        conversion.twins[value] = op.result


def _restore_outputs(module: Module, operations: list[Operation], conversion: Conversion) -> None:
    """Give the host's readers of results, and the return, the numbers as float32."""
    main, inside = module.main, set(operations)
    order = {op: index for index, op in enumerate(main.body)}
    for value in [op.result for op in operations]:
        outside = [(user, index) for user, index in value.uses if user not in inside]
        if outside:
            first = min((user for user, _ in outside), key=order.__getitem__)
            real = main.body.insert_before(first, DequantizeOp.build(conversion.twins[value], location=first.location))
            real.location, real.result.name = value.op.location, value.name
            for user, index in outside:
                user.set_operand(index, real.result)

"""What a target cannot hold whatever the passes do, found before they spend minutes on it."""

from __future__ import annotations

from ..backends.target import Target
from ..dialects.core.diagnostics import CompileError, Diagnostic
from ..dialects.core.operation import Module
from ..dialects.core.types import TensorType


def check_memory(module: Module, target: Target, source: str) -> None:
    """Raise CompileError if the constants, the inputs or one value of a float module exceed the target's DRAM.

    Every element counts as one byte, which no precision stores in less. `source` is the word for the model.
    """
    available = target.dram.megabytes << 20
    rest = f"target '{target.name}' has {available} of DRAM; choose one with more, or a smaller model"
    constants = sum(constant.type.size for constant in module.constants.values())
    if constants > available:
        raise CompileError(f"{source}: the constants take {constants} bytes in int8, {rest}")
    inputs = sum(a.type.size for a in module.main.arguments if isinstance(a.type, TensorType))
    if inputs > available:
        raise CompileError(f"{source}: the inputs take {inputs} bytes in int8, {rest}")
    for op in module.main.body:
        for result in op.results:
            if isinstance(result.type, TensorType) and result.type.size > available:
                message = f"'{op.name}': the result takes {result.type.size} bytes in int8, {rest}"
                raise CompileError(Diagnostic(message, op.location))

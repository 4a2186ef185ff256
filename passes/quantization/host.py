"""Which operations at the two ends of a network stay in float, because the host does them while it copies."""

from __future__ import annotations

from typing import Any

from ...dialects.core.operation import Function, Operation, Value
from ...dialects.nn.movement import ReshapeOp, TransposeOp

_COPIES = (TransposeOp, ReshapeOp)


def prologue(function: Function) -> dict[Operation, None]:
    """Chains of transposes and reshapes that start at an argument, every value in between with one use, in order."""
    found: dict[Operation, None] = {}
    for argument in function.arguments:
        value: Value[Any] = argument
        while value.has_one_use and isinstance(value.users[0], _COPIES):
            found[value.users[0]] = None
            value = value.users[0].result
    return found


def epilogue(function: Function) -> dict[Operation, None]:
    """Chains of transposes and reshapes that end in the return, every value in between with one use, last one first."""
    found: dict[Operation, None] = {}
    for returned in function.returns:
        value = returned
        while (op := value.defining_op) is not None and isinstance(op, _COPIES) and value.has_one_use:
            found[op] = None
            value = op.data
    return found

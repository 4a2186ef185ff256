"""Which operations at the two ends of a network stay outside of it, because the host does them while it copies."""

from __future__ import annotations

from typing import Any

from ...dialects.core.operation import Function, Operation, Value
from ...dialects.nn.cast import CastOp
from ...dialects.nn.movement import ReshapeOp, TransposeOp

_COPIES = (TransposeOp, ReshapeOp)


def prologue(function: Function) -> dict[Operation, None]:
    """Chains of casts, transposes and reshapes that start at an argument, in order.

    Every value in between has one use, but before casts: all of an argument that is no float32 are here.
    """
    found: dict[Operation, None] = {}
    for argument in function.arguments:
        casts = [user for user in dict.fromkeys(argument.users) if isinstance(user, CastOp)]
        found.update(dict.fromkeys(casts))
        for start in (argument, *(cast.result for cast in casts)):
            value: Value[Any] = start
            while value.has_one_use and isinstance(value.users[0], _COPIES):
                found[value.users[0]] = None
                value = value.users[0].result
    return found


def epilogue(function: Function) -> dict[Operation, None]:
    """Chains of transposes, reshapes and casts that end in the return, last one first.

    Every value in between has one use.
    """
    found: dict[Operation, None] = {}
    for returned in function.returns:
        value = returned
        while (op := value.defining_op) is not None and isinstance(op, (*_COPIES, CastOp)) and value.has_one_use:
            found[op] = None
            value = op.operands[0]
    return found

"""What patterns ask about the values they look at."""

from __future__ import annotations

from typing import Any, TypeVar

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import ScalarType, TensorType
from ...dialects.quant.types import is_number

OpT = TypeVar("OpT", bound=Operation)


def defined_by(value: Value[Any], op_class: type[OpT], *, only_use: bool = False) -> OpT | None:
    """The operation of this class that yields `value`, if nothing else reads it where `only_use` is asked for."""
    op = value.defining_op
    if not isinstance(op, op_class) or (only_use and not value.has_one_use):
        return None
    return op


def only_user(op: Operation, op_class: type[OpT]) -> OpT | None:
    """The operation of this class that alone reads the only result of `op`, through one operand."""
    result = op.result
    if not result.has_one_use:
        return None
    user = result.users[0]
    return user if isinstance(user, op_class) else None


def splat_value(value: Value[Any]) -> float | None:
    """The number that every element of a constant is, or None if it is no such constant."""
    if not isinstance(value, Constant) or not value.array.size:
        return None
    first = value.array.reshape(-1)[0]
    return float(first) if bool((value.array == first).all()) else None


def is_float(value: Value[Any]) -> bool:
    """True for a tensor of floating-point numbers that are not yet those of a machine (bf16)."""
    kind = value.type
    if not isinstance(kind, TensorType) or is_number(kind.element):
        return False
    return isinstance(kind.element, ScalarType) and kind.element.is_float

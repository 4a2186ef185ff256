"""What patterns ask about the values they look at."""

from __future__ import annotations

from typing import Any, TypeVar

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import ScalarType, TensorType
from ...dialects.nn.cast import CastOp
from ...dialects.nn.chain import ChainOp
from ...dialects.nn.comparison import COMPARISONS
from ...dialects.nn.elementwise import AddOp, SubOp
from ...dialects.nn.movement import DATA_MOVEMENT, PadOp
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


COMPARISON_STEPS = tuple(f"{kind.name.removeprefix('nn.')}(" for kind in COMPARISONS)
"""How the steps of a chain begin that compare."""


def is_truth(value: Value[Any]) -> bool:
    """True for the result of a comparison, moved or not."""
    op = unmoved(value).defining_op
    if isinstance(op, ChainOp):
        return op.steps[-1].startswith(COMPARISON_STEPS)
    return isinstance(op, COMPARISONS)


def is_whole(value: Value[Any]) -> bool:
    """True for what is sure to hold whole numbers: integers from outside, truth values, sums with whole numbers."""
    source = unmoved(value)
    op = source.defining_op
    if isinstance(op, (AddOp, SubOp)) and not op.is_clamped:
        numbers = [splat_value(operand) for operand in op.operands]
        computed = [operand for operand, number in zip(op.operands, numbers, strict=True) if number is None]
        fractions = [number for number in numbers if number is not None and number % 1]
        return len(computed) == 1 and not fractions and is_whole(computed[0])
    if isinstance(op, CastOp):
        element = op.data.type.element
        return isinstance(element, ScalarType) and not element.is_float
    return is_truth(source)


def unmoved(value: Value[Any]) -> Value[Any]:
    """The value that an operation has made which is moved to be this one, all of it or parts."""
    op = value.defining_op
    while isinstance(op, DATA_MOVEMENT) and not isinstance(op, PadOp) and len(op.operands) == 1:
        value = op.operands[0]
        op = value.defining_op
    return value

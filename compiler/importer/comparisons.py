"""Comparisons and logic at run time: truth values are the numbers 0 and 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...dialects.nn.activation import ReluOp
from ...dialects.nn.comparison import (
    Comparison,
    EqualOp,
    GreaterOp,
    GreaterOrEqualOp,
    LessOp,
    LessOrEqualOp,
    NotEqualOp,
)
from ...dialects.nn.elementwise import AddOp, MulOp, SubOp
from ...dialects.nn.functions import FloorOp, IsNanOp
from ...dialects.nn.movement import TransposeOp
from ...dialects.nn.softmax import SoftmaxOp
from .kinds import DTYPES
from .lowering import Imported, Known, Lowering, Unsupported, shape_of

_TURNED: dict[type[Comparison], type[Comparison]] = {
    GreaterOp: LessOp,
    LessOp: GreaterOp,
    GreaterOrEqualOp: LessOrEqualOp,
    LessOrEqualOp: GreaterOrEqualOp,
    EqualOp: EqualOp,
}
"""a R b == b R' a."""


def _comparison(kind: type[Comparison]) -> Callable[[Lowering], Imported]:
    """A handler: with one number on a side a function of the other one, else of the difference of both sides."""

    def lower_comparison(lowering: Lowering) -> Imported:
        left, right = lowering.input(0), lowering.input(1)
        _check_broadcast(lowering, left, right)
        for data, other, op_class in ((left, right, kind), (right, left, _TURNED[kind])):
            number = _number(other)
            if number is not None and len(shape_of(other)) <= len(shape_of(data)):
                return lowering.emit(op_class, data, value=number, **_tolerance(lowering, op_class))
        difference = lowering.emit(SubOp, left, right)
        return lowering.emit(kind, difference, value=0.0, **_tolerance(lowering, kind))

    return lower_comparison


lower_greater = _comparison(GreaterOp)
lower_greater_or_equal = _comparison(GreaterOrEqualOp)
lower_less = _comparison(LessOp)
lower_less_or_equal = _comparison(LessOrEqualOp)
lower_equal = _comparison(EqualOp)


WITHIN = 0.4
"""Whole numbers are equal if they differ by no more."""


def _tolerance(lowering: Lowering, kind: type[Comparison]) -> dict[str, float]:
    return {"within": WITHIN} if kind is EqualOp and any(lowering.kinds) else {}


def lower_not(lowering: Lowering) -> Imported:
    """Not: 1 where the truth value is 0."""
    return opposite(lowering, lowering.input(0))


def opposite(lowering: Lowering, truth: Imported) -> Imported:
    """1 where a truth value is 0, decided between them."""
    return lowering.emit(LessOp, truth, value=0.5)


def lower_and(lowering: Lowering) -> Imported:
    """And: the product."""
    _check_broadcast(lowering, lowering.input(0), lowering.input(1))
    return lowering.emit(MulOp, lowering.input(0), lowering.input(1))


def lower_or(lowering: Lowering) -> Imported:
    """Or: the sum, at most 1."""
    _check_broadcast(lowering, lowering.input(0), lowering.input(1))
    return lowering.emit(AddOp, lowering.input(0), lowering.input(1), clamp_min=0.0, clamp_max=1.0)


def lower_xor(lowering: Lowering) -> Imported:
    """Xor: where the difference is not 0."""
    _check_broadcast(lowering, lowering.input(0), lowering.input(1))
    difference = lowering.emit(SubOp, lowering.input(0), lowering.input(1))
    return lowering.emit(NotEqualOp, difference, value=0.0, within=WITHIN)


def lower_is_nan(lowering: Lowering) -> Imported:
    """IsNaN; of a softmax it is false everywhere: a row of which all is hidden is 0 there."""
    data = lowering.input(0)
    if isinstance(data, Known) or not isinstance(data.defining_op, (SoftmaxOp, TransposeOp)):
        return lowering.emit(IsNanOp, data)
    source = data if isinstance(data.defining_op, SoftmaxOp) else data.defining_op.operands[0]
    if not isinstance(source.defining_op, SoftmaxOp):
        return lowering.emit(IsNanOp, data)
    return Known(lowering.node.outputs[0], np.broadcast_to(np.False_, lowering.shape(0)))


def lower_cast(lowering: Lowering) -> Imported:
    """Casts at run time, of float32 numbers that stand for the types: truth values, whole numbers, floats of any width.

    Floats of other widths are computed in float32; to integers the fraction is cut off.
    """
    target = DTYPES.get(lowering.node.integer("to", 0))
    if target is None:
        raise Unsupported("casts to a type that no number of a program stands for")
    return _cast(lowering, target)


def lower_cast_like(lowering: Lowering) -> Imported:
    """CastLike: Cast to the type of the second input."""
    lowering.input(1)
    return _cast(lowering, lowering.kinds[1] or "float32")


def _cast(lowering: Lowering, target: str) -> Imported:
    value, kind = lowering.input(0), lowering.kinds[0]
    if isinstance(value, Known):
        raise Unsupported(f"casts the constant '{value.name}', which cannot be computed at import")
    value = lowering.value(value)
    if "float" in target or kind == target or (kind is not None and target != "bool"):
        return value
    if target == "bool":
        return lowering.emit(NotEqualOp, value, value=0.0, within=WITHIN if kind else 0.0)
    above = lowering.emit(FloorOp, lowering.emit(ReluOp, value))
    opposite = lowering.emit(MulOp, value, Known("minus_one", np.array(-1, np.float32)))
    return lowering.emit(SubOp, above, lowering.emit(FloorOp, lowering.emit(ReluOp, opposite)))


def _number(value: Imported) -> float | None:
    """The number that all elements of known data are."""
    if not isinstance(value, Known) or not value.array.size:
        return None
    first = value.array.reshape(-1)[0]
    return float(first) if bool((value.array == first).all()) else None


def _check_broadcast(lowering: Lowering, left: Imported, right: Imported) -> None:
    try:
        np.broadcast_shapes(shape_of(left), shape_of(right))
    except ValueError:
        shapes = f"{list(shape_of(left))} and {list(shape_of(right))}"
        raise lowering.error(f"shapes {shapes} do not broadcast") from None

"""A chain of element-wise operations on one tensor, as one function of one number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.fields import list_attribute
from ..core.types import Array
from .activation import (
    ClipOp,
    HardSigmoidOp,
    HardSwishOp,
    LeakyReluOp,
    ReluOp,
    SigmoidOp,
    TanhOp,
    UnaryOperation,
)
from .comparison import COMPARISONS
from .functions import FUNCTIONS
from .trigonometry import TRIGONOMETRY

_ACTIVATIONS = (ReluOp, ClipOp, LeakyReluOp, SigmoidOp, HardSigmoidOp, HardSwishOp, TanhOp)
_UNARY: dict[str, type[UnaryOperation]] = {
    kind.name.removeprefix("nn."): kind for kind in (*_ACTIVATIONS, *FUNCTIONS, *TRIGONOMETRY, *COMPARISONS)
}
_BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
_CALL = re.compile(r"(\w+)\((.*)\)")


class ChainOp(UnaryOperation):
    """A function of one number in postfix: `steps` are pushed on a stack or applied to its top, and one value is left.

    "x" pushes the data and a number itself; add, sub, mul and div take two values; the name of a unary operation, with
    its attributes as "clip(min=0.0, max=6.0)", takes one. ["x", "x", "sigmoid", "mul"] is x * sigmoid(x). In integers
    the whole chain is one table, hence one rounding.
    """

    name = "nn.chain"

    steps = list_attribute(str)

    def verify(self) -> None:
        super().verify()
        try:
            _evaluated(np.zeros(1, np.float32), self.steps)
        except ValueError as error:
            raise self.error(str(error)) from None

    @staticmethod
    def formula(x: Array, *, steps: Sequence[str]) -> Array:
        """The chain applied to every element."""
        return np.asarray(_evaluated(x, steps))


def call(op: UnaryOperation) -> str:
    """A unary operation as a step: its name, with its attributes where it has some."""
    values = {name: op.attribute_or_default(name) for name in op.attribute_fields}
    name = op.name.removeprefix("nn.")
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in values.items())})" if values else name


def _evaluated(x: Array, steps: Sequence[str]) -> Array:
    stack: list[Array] = []
    with np.errstate(all="ignore"):
        for step in steps:
            if step == "x":
                stack.append(x)
            elif step in _BINARY:
                second, first = _pop(stack, step), _pop(stack, step)
                stack.append(np.asarray(_BINARY[step](first, second)))
            elif (function := _function(step)) is not None:
                kind, attributes = function
                stack.append(kind.formula(_pop(stack, step), **attributes))
            else:
                stack.append(np.asarray(_number(step), x.dtype))
    if len(stack) != 1:
        raise ValueError(f"steps leave {len(stack)} values, expected one")
    return stack[0]


def _pop(stack: list[Array], step: str) -> Array:
    if not stack:
        raise ValueError(f"step '{step}' finds no value")
    return stack.pop()


def _function(step: str) -> tuple[type[UnaryOperation], dict[str, Any]] | None:
    """The class and the attributes that a step names, None if it is no unary operation."""
    found = _CALL.fullmatch(step)
    kind = _UNARY.get(found.group(1) if found else step)
    if kind is None:
        return None
    fields = kind.attribute_fields
    given = [part.split("=", 1) for part in found.group(2).split(", ")] if found else []
    if sorted(part[0] for part in given) != sorted(fields):
        raise ValueError(f"step '{step}' expects the attributes {', '.join(fields) or 'of none'}")
    return kind, {name: _value(text) for name, text in given}


def _value(text: str) -> float | bool:
    return text == "True" if text in ("True", "False") else _number(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"step '{text}' is neither x, nor a number, nor an element-wise operation") from None

"""The builtin dialect: what every module has besides functions and constants."""

from __future__ import annotations

from .core.context import Dialect
from .core.fields import variadic_operand
from .core.operation import Operation, Terminator
from .core.types import Type


class ReturnOp(Operation):
    """Ends a function and names the values it returns."""

    name = "return"
    traits = frozenset({Terminator})

    values = variadic_operand(Type)

    def infer_types(self) -> tuple[Type, ...]:
        return ()


BUILTIN = Dialect("builtin", (ReturnOp,))

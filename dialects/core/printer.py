"""Text form of a module: one line an operation, large constants elided into a companion dictionary of arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .fields import AttributeValue
from .operation import Constant, Function, Module, Operation, Value
from .types import Array, Type

ELIDE_ABOVE = 16
"""Constants with more elements than this are elided from the text (unless all elements are equal)."""

_NUMBER = re.compile(r"[0-9]+")
_PLAIN_NAME = re.compile(r"[a-zA-Z0-9_.$/:-]*[a-zA-Z0-9_.$/-]")


def print_module(module: Module, *, elide_above: int = ELIDE_ABOVE) -> str:
    """The module as text. Elided constants are `elided_constants(module)`."""
    lines: list[str] = []
    if module.attributes:
        lines.append(f"module {_attributes(module.attributes)}")
    for constant in module.constants.values():
        lines.append(f"const {_symbol(constant)} : {constant.type} = dense<{_literal(constant, elide_above)}>")
    for function in module.functions.values():
        lines += _function(function)
    return "\n".join(lines) + "\n"


def elided_constants(module: Module, *, elide_above: int = ELIDE_ABOVE) -> dict[str, Array]:
    """The arrays that `print_module` leaves out, by constant name."""
    return {
        name: constant.array
        for name, constant in module.constants.items()
        if _literal(constant, elide_above) == "elided"
    }


def print_operation(op: Operation) -> str:
    """One operation on one line, with the value names it would have in its function."""
    if op.parent is None:
        return f"{op.name} {_attributes(op.attributes)}"
    return _operation(op, value_names(op.function))


def value_names(function: Function) -> dict[Value[Any], str]:
    """The printed name of every argument, result and constant; hints where they are unique, else numbers."""
    names: dict[Value[Any], str] = {c: _symbol(c) for c in function.module.constants.values()}
    taken: set[str] = set()
    for argument in function.arguments:
        names[argument] = _value_name(str(argument.name))
        taken.add(names[argument])
    count = 0
    for op in function.body:
        for value in op.results:
            name = _value_name(value.name) if value.name and not _NUMBER.fullmatch(value.name) else ""
            while not name or name in taken:
                name, count = f"%{count}", count + 1
            names[value] = name
            taken.add(name)
    return names


def format_attribute(value: AttributeValue) -> str:
    """An attribute value as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"[{', '.join(format_attribute(item) for item in value)}]"
    if isinstance(value, Type):
        return str(value)
    return repr(value)


def _function(function: Function) -> list[str]:
    names = value_names(function)
    arguments = ", ".join(f"{names[a]}: {a.type}" for a in function.arguments)
    attributes = f" attributes {_attributes(function.attributes)}" if function.attributes else ""
    head = f"func @{_name(function.name)}({arguments}) -> {_types(function.result_types)}{attributes} {{"
    return [head, *(f"  {_operation(op, names)}" for op in function.body), "}"]


def _operation(op: Operation, names: dict[Value[Any], str]) -> str:
    parts: list[str] = []
    if op.results:
        parts.append(", ".join(names[r] for r in op.results) + " =")
    parts.append(op.name)
    if op.operands:
        parts.append(", ".join(names.get(v, "%?") for v in op.operands))
    if op.attributes:
        parts.append(_attributes(op.attributes))
    parts.append(f": {_types([v.type for v in op.operands])} -> {_types([r.type for r in op.results])}")
    if op.location.nodes:
        parts.append(f"loc({', '.join(json.dumps(n, ensure_ascii=False) for n in op.location.nodes)})")
    return " ".join(parts)


def _types(types: Sequence[Type]) -> str:
    return str(types[0]) if len(types) == 1 else f"({', '.join(str(t) for t in types)})"


def _attributes(attributes: dict[str, AttributeValue]) -> str:
    return "{" + ", ".join(f"{name} = {format_attribute(value)}" for name, value in attributes.items()) + "}"


def _value_name(name: str) -> str:
    return "%" + _name(name)


def _symbol(constant: Constant) -> str:
    return "@" + _name(str(constant.name))


def _name(name: str) -> str:
    """The name as it is where the lexer takes it for one, else as a JSON string."""
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _literal(constant: Constant, elide_above: int) -> str:
    array = constant.array
    if array.size > 1 and _is_splat(array):
        return _number(array.flat[0])
    if array.size > elide_above:
        return "elided"
    return format_elements(array)


def format_elements(array: Array) -> str:
    """All elements in row-major order as a list, a scalar as one number."""
    if array.ndim == 0:
        return _number(array[()])
    return f"[{', '.join(_number(item) for item in array.flat)}]"


def _is_splat(array: Array) -> bool:
    flat = array.reshape(-1)
    if flat[:2].tobytes() != flat[:1].tobytes() * min(2, flat.size):
        return False
    unsigned = flat.view(f"u{flat.dtype.itemsize}")
    return bool(np.all(unsigned == unsigned[0]))


def _number(item: Any) -> str:
    kind = item.dtype.kind
    if kind == "b":
        return "true" if item else "false"
    if kind in "iu":
        return str(int(item))
    if item.dtype.name == "bfloat16":
        return repr(float(item))
    text = str(item)
    return text if any(mark in text for mark in ".enai") else text + ".0"

"""Checks a module and reports everything that is wrong with it, not only the first thing."""

from __future__ import annotations

from functools import cache
from typing import Any

from .diagnostics import CompileError, Diagnostic
from .fields import REQUIRED
from .operation import Constant, Function, Module, Operation, Terminator, Value
from .types import TensorType


def verify(module: Module) -> None:
    """Raise one CompileError holding every diagnostic, or return if the module is well formed."""
    errors: list[Diagnostic] = []
    for function in module.functions.values():
        errors += _function_errors(function)
    for constant in module.constants.values():
        expected = constant.type
        if constant.array.shape != expected.shape or constant.array.dtype != expected.element.dtype:
            actual = f"{constant.array.dtype}{list(constant.array.shape)}"
            errors.append(Diagnostic(f"data of constant @{constant.name} is {actual}, expected {expected}"))
    if errors:
        raise CompileError(errors)


def verify_operation(op: Operation) -> list[Diagnostic]:
    """What is wrong with one operation by itself: operands, results, attributes, then its own rule."""
    errors = [Diagnostic(f"'{op.name}': {message}", op.location) for message in _field_errors(op)]
    if not errors:
        try:
            op.verify()
        except CompileError as error:
            errors += error.diagnostics
    return errors


def _function_errors(function: Function) -> list[Diagnostic]:
    errors: list[Diagnostic] = []
    if function.body.last is None or not function.body.last.has_trait(Terminator):
        errors.append(Diagnostic(f"function @{function.name} does not end in a return", function.location))
    names = function.output_names
    if len(names) != len(function.result_types) or len(set(names)) != len(names):
        message = f"function @{function.name} names its outputs {', '.join(map(repr, names)) or 'not at all'}"
        expected = f"{message}, expected {len(function.result_types)} different names"
        errors.append(Diagnostic(expected, function.location))
    visible: set[Value[Any]] = set(function.arguments)
    constants = function.module.constants
    for op in function.body:
        for index, value in enumerate(op.operands):
            known = constants.get(str(value.name)) is value if isinstance(value, Constant) else value in visible
            if not known:
                errors.append(Diagnostic(f"'{op.name}': operand {index} is not defined before its use", op.location))
        errors += verify_operation(op)
        if op.has_trait(Terminator):
            if op is not function.body.last:
                errors.append(Diagnostic(f"'{op.name}': stands before the end of its function", op.location))
            actual = tuple(value.type for value in op.operands)
            if actual != function.result_types:
                expected = ", ".join(str(t) for t in function.result_types)
                found = ", ".join(str(t) for t in actual)
                message = f"'{op.name}': returns ({found}), function @{function.name} expects ({expected})"
                errors.append(Diagnostic(message, op.location))
        visible.update(op.results)
    return errors


def _field_errors(op: Operation) -> list[str]:
    errors: list[str] = []
    fields = op.operand_fields
    required, limit, needed = _expectations(type(op))
    count = len(op.operands)
    if count < required or (limit is not None and count > limit):
        wanted = str(required) if limit == required else f"{required} to {'many' if limit is None else limit}"
        errors.append(f"has {count} operands, expected {wanted}")
    for index, value in enumerate(op.operands):
        field = fields[min(index, len(fields) - 1)] if fields else None
        if field is not None and not isinstance(value.type, field.type):
            errors.append(f"operand '{field.name}' has type {value.type}, expected {_kind(field.type)}")
    made = op.result_fields
    if made and made[-1].is_variadic:
        made = (*made[:-1], *(made[-1],) * (len(op.results) - len(made) + 1))
    if len(op.results) != len(made):
        errors.append(f"has {len(op.results)} results, expected {len(made)}")
    for field, value in zip(made, op.results, strict=False):
        if not isinstance(value.type, field.type):
            errors.append(f"result '{field.name}' has type {value.type}, expected {_kind(field.type)}")
    attributes, known = op.attributes, op.attribute_fields
    for name, value in attributes.items():
        declared = known.get(name)
        problem = f"unknown attribute '{name}'" if declared is None else declared.problem(value)
        if problem:
            errors.append(problem)
    errors += [f"attribute '{name}' is missing" for name in needed if name not in attributes]
    return errors


@cache
def _expectations(op_class: type[Operation]) -> tuple[int, int | None, tuple[str, ...]]:
    """Of a class: the operands it must have, the ones it may have (None: any number), its required attributes."""
    fields = op_class.operand_fields
    required = sum(field.arity == "one" for field in fields)
    limit = None if any(field.arity == "variadic" for field in fields) else len(fields)
    needed = tuple(name for name, field in op_class.attribute_fields.items() if field.default is REQUIRED)
    return required, limit, needed


def _kind(type_class: type) -> str:
    return "a tensor" if type_class is TensorType else type_class.__name__

"""Runs a module in numpy by calling `evaluate` of every operation: the meaning of each level of the IR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from .diagnostics import CompileError, Diagnostic
from .operation import Constant, Function, Module, Operation, Value
from .types import Array, TensorType

Observer = Callable[[Operation, tuple[Any, ...]], None]


def run(module: Module, inputs: Mapping[str, Array], *, observer: Observer | None = None) -> dict[str, Array]:
    """Execute @main on arrays named after its arguments; returns arrays named after its outputs.

    `observer(op, results)` is called after every operation (calibration and `--verify-semantics` use it).
    Raises CompileError if an input is missing, unknown, or has the wrong shape or type.
    """
    return run_function(module.main, inputs, observer=observer)


def run_function(
    function: Function, inputs: Mapping[str, Array], *, observer: Observer | None = None
) -> dict[str, Array]:
    """Execute one function; see `run`."""
    values: dict[Value[Any], Any] = {}
    unknown = set(inputs) - {str(a.name) for a in function.arguments}
    if unknown:
        known = ", ".join(repr(a.name) for a in function.arguments)
        raise CompileError(f"input '{sorted(unknown)[0]}' is not an input of the model, expected {known}")
    for argument in function.arguments:
        values[argument] = _checked_input(str(argument.name), argument.type, inputs)
    last_use = last_uses(function)
    for op in function.body:
        if op is function.body.last:
            break
        arguments = [v.array if isinstance(v, Constant) else values[v] for v in op.operands]
        results = evaluated(op, arguments)
        if observer is not None:
            observer(op, results)
        values.update(zip(op.results, results, strict=True))
        for value in last_use.get(op, ()):
            values.pop(value, None)
    returned = [v.array if isinstance(v, Constant) else values[v] for v in function.returns]
    return dict(zip(function.output_names, returned, strict=True))


def evaluated(op: Operation, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """The results of one operation; CompileError where its `evaluate` fails."""
    try:
        return _as_tuple(op.evaluate(*arguments))
    except (ArithmeticError, IndexError, NotImplementedError, TypeError, ValueError) as error:
        raise CompileError(Diagnostic(f"'{op.name}': cannot be executed: {error}", op.location)) from error


def last_uses(function: Function) -> dict[Operation, tuple[Value[Any], ...]]:
    """For each operation the values that nothing reads after it, so that they can be freed."""
    final: dict[Value[Any], Operation] = {}
    for op in function.body:
        for value in (*op.operands, *op.results):
            if not isinstance(value, Constant):
                final[value] = op
    freed: dict[Operation, tuple[Value[Any], ...]] = {}
    for value, op in final.items():
        freed[op] = (*freed.get(op, ()), value)
    return freed


def _as_tuple(outcome: Any) -> tuple[Any, ...]:
    if isinstance(outcome, tuple):
        return cast(tuple[Any, ...], outcome)
    return () if outcome is None else (outcome,)


def _checked_input(name: str, type: Any, inputs: Mapping[str, Array]) -> Array:
    if name not in inputs:
        raise CompileError(f"input '{name}' is missing, expected {type}")
    array = np.asarray(inputs[name])
    if isinstance(type, TensorType) and (array.shape != type.shape or array.dtype != type.element.dtype):
        raise CompileError(f"input '{name}' is {array.dtype}{list(array.shape)}, expected {type}")
    return array

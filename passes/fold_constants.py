"""Evaluates what does not depend on the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from ..dialects.core.diagnostics import CompileError, Diagnostic
from ..dialects.core.operation import Constant, Module, Operation, Pure
from ..dialects.quant.ops import DequantizeOp, ScaleOp
from .framework.base import Pass, at_least
from .framework.environment import Environment

_DEQUANTIZING = (DequantizeOp, ScaleOp)
"""What stands between stored integers and the weights that they are."""


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Evaluate operations whose operands are all constants, except dequantized weights: their integers are wanted.

    A result of more than `limit` elements that is larger than all operands together stays an operation.
    """

    name: ClassVar[str] = "fold-constants"
    limit: int = at_least(0, 1 << 20)

    def run(self, module: Module, environment: Environment) -> None:
        for op in module.walk():
            if not op.has_trait(Pure) or not op.operands or not op.results or isinstance(op, _DEQUANTIZING):
                continue
            if all(isinstance(value, Constant) for value in op.operands) and not self._explodes(op):
                _fold(module, op)

    def _explodes(self, op: Operation) -> bool:
        size = sum(result.type.size for result in op.results)
        return size > self.limit and size > sum(value.type.size for value in op.operands)


def _fold(module: Module, op: Operation) -> None:
    arrays: list[Any] = [value.array for value in op.operands if isinstance(value, Constant)]
    try:
        outcome: Any = op.evaluate(*arrays)
    except (ValueError, IndexError, ArithmeticError) as error:
        raise CompileError(Diagnostic(f"'{op.name}': cannot be evaluated: {error}", op.location)) from error
    arrays = [np.asarray(a) for a in (cast(tuple[Any, ...], outcome) if isinstance(outcome, tuple) else (outcome,))]
    for result, array in zip(op.results, arrays, strict=True):
        name = result.name or op.location.layer or "folded"
        result.replace_all_uses_with(module.add_constant(name, array, result.type))
    op.erase()

"""Removes what no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..dialects.core.operation import Module, Pure
from .framework.base import Pass
from .framework.environment import Environment


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Remove pure operations and constants that nothing reads."""

    name: ClassVar[str] = "eliminate-dead-code"

    def run(self, module: Module, environment: Environment) -> None:
        for function in module.functions.values():
            for op in reversed(function.body):
                if op.has_trait(Pure) and op.results and all(result.is_unused for result in op.results):
                    op.erase()
        module.drop_unused_constants()

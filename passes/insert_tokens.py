"""Engines wait for each other exactly where memory they share demands it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..dialects.core.operation import Module
from ..dialects.tile.instruction import InstructionOp
from .framework.base import Pass
from .framework.environment import Environment
from .scheduling.tokens import insert_tokens


@dataclass(frozen=True)
class InsertTokens(Pass):
    """Add the tokens that keep the engines in the order that program order demands.

    An instruction waits for the last instruction of another engine that wrote what it touches, or that read what it
    writes. A wait is left out when an earlier instruction of the same engine already waited for that or a later one.
    """

    name: ClassVar[str] = "insert-tokens"

    def run(self, module: Module, environment: Environment) -> None:
        """Set `wait` and `signal` of every instruction; needs addresses."""
        target = environment.require_target(self.name)
        insert_tokens([op for op in module.main.body if isinstance(op, InstructionOp)], target)

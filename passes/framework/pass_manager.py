"""Runs the passes of a pipeline in order, verifying the module after each and calling the instrumentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Module
from ...dialects.core.verifier import verify
from .base import Pass
from .environment import Environment


class Instrumentation:
    """Watches a pipeline; a subclass overrides what it wants to see. `index` counts passes from 0."""

    def before_pipeline(self, module: Module, environment: Environment) -> None:
        """Called once, before the first pass."""

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        """Called before each pass."""

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        """Called after each pass that succeeded and left a valid module."""


@dataclass(frozen=True)
class PassManager:
    """A pipeline that can run. Errors say which pass was running."""

    passes: Sequence[Pass]
    verify_each: bool = True
    instrumentation: Sequence[Instrumentation] = ()

    def run(self, module: Module, environment: Environment | None = None) -> None:
        """Apply every pass to `module` in place; raises CompileError with a note naming the pass at fault."""
        surroundings = environment if environment is not None else Environment()
        for watcher in self.instrumentation:
            watcher.before_pipeline(module, surroundings)
        for index, running in enumerate(self.passes):
            for watcher in self.instrumentation:
                watcher.before_pass(index, running, module)
            try:
                running.run(module, surroundings)
            except CompileError as error:
                raise error.with_note(f"while running pass '{running}'") from error
            if self.verify_each:
                try:
                    verify(module)
                except CompileError as error:
                    raise error.with_note(f"the module is invalid after pass '{running}'") from error
            for watcher in self.instrumentation:
                watcher.after_pass(index, running, module)

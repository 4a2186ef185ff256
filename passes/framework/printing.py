"""Prints the module around passes: `--print-ir-before`, `-after`, `-after-all`, `-after-change`, `-tree-dir`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.files import write_module
from ...dialects.core.operation import Module
from ...dialects.core.printer import print_module
from .base import Pass
from .environment import Environment
from .pass_manager import Instrumentation


@dataclass
class PrintIr(Instrumentation):
    """Prints to `stream`, and with `tree_dir` writes files `00-input.air`, `01-canonicalize.air`, ... instead.

    A file has its large constants beside it in an `.npz` file, so that each one can be parsed and run again; in the
    stream they are elided. With `after_change` a pass that left the text as it was prints nothing. A folder without
    any choice of passes gets the input and the module after every pass.
    """

    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    after_all: bool = False
    after_change: bool = False
    tree_dir: Path | None = None
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    written: list[Path] = field(default_factory=list[Path])
    _last: str = ""

    def before_pipeline(self, module: Module, environment: Environment) -> None:
        if self.after_change:
            self._last = _fingerprint(module)
        if self.tree_dir is not None:
            try:
                self.tree_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CompileError(f"{self.tree_dir}: cannot be made a folder: {error.strerror or error}") from None
            if self._wants_everything:
                self._emit(module, "input", "00-input")

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        if running.name in self.before:
            self._emit(module, f"before {running}", f"{index + 1:02}-before-{running.name}")

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        if self.after_change:
            text = _fingerprint(module)
            changed, self._last = text != self._last, text
            if not changed:
                return
        if self.after_all or self.after_change or self._wants_everything or running.name in self.after:
            self._emit(module, f"after {running}", f"{index + 1:02}-{running.name}")

    @property
    def _wants_everything(self) -> bool:
        chosen = self.before or self.after or self.after_all or self.after_change
        return self.tree_dir is not None and (self.after_all or not chosen)

    def _emit(self, module: Module, title: str, stem: str) -> None:
        if self.tree_dir is None:
            self.stream.write(f"// -----// IR {title} //----- //\n{print_module(module)}\n")
            return
        path = self.tree_dir / f"{stem}.air"
        write_module(path, module)
        self.written.append(path)


def _fingerprint(module: Module) -> str:
    """The text, and for elided constants the identity of their immutable arrays."""
    arrays = (f"// {name} {constant.array.ctypes.data}" for name, constant in module.constants.items())
    return print_module(module) + "\n".join(arrays)

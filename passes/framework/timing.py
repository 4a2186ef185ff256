"""Measures how long each pass takes: `--time-passes`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ...dialects.core.operation import Module
from .base import Pass
from .pass_manager import Instrumentation


@dataclass
class TimePasses(Instrumentation):
    """Wall-clock seconds of every pass, its verification included, in the order they ran."""

    seconds: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    _start: float = 0.0

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        self._start = time.perf_counter()

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        self.seconds.append((running.name, time.perf_counter() - self._start))

    @property
    def total(self) -> float:
        """The sum over all passes in seconds."""
        return sum(seconds for _, seconds in self.seconds)

    def __str__(self) -> str:
        """A table: seconds, share of the total, pass."""
        rows = [f"{seconds:9.4f}  {seconds / (self.total or 1.0):6.1%}  {name}" for name, seconds in self.seconds]
        return "\n".join(["  seconds   share  pass", *rows, f"{self.total:9.4f}  {1:6.1%}  total"])

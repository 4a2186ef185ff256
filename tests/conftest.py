"""Collects `.air` files: every `// RUN:` line is a test. What such a line may say is told in air.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from air import RunLineError, execute, run_lines


class AirItem(pytest.Item):
    """One RUN line."""

    def __init__(self, *, command: str, **options: Any) -> None:
        super().__init__(**options)
        self.command = command

    def runtest(self) -> None:
        execute(self.command, self.path)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, RunLineError):
            return f"// RUN: {self.command}\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"RUN: {self.command}"


class AirFile(pytest.File):
    """One `.air` file."""

    def collect(self) -> Iterator[AirItem]:
        commands = run_lines(self.path.read_text(encoding="utf-8"))
        if not commands:
            raise pytest.Collector.CollectError(f"{self.path}: has no '// RUN:' line")
        for index, command in enumerate(commands):
            yield AirItem.from_parent(self, name=f"RUN{index or ''}", command=command)


def pytest_configure() -> None:
    """One BLAS thread for every worker and command that is started: tests run side by side, threads only wait."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """IR files are tests."""
    if file_path.suffix == ".air" and "inputs" not in file_path.parts:
        return AirFile.from_parent(parent, path=file_path)
    return None

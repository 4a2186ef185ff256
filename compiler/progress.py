"""Progress bars for work that turns out to take longer than a second, on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from ..passes.framework.environment import Advance

PATIENCE_SECONDS = 1.0
"""What is done by then needs no bar."""


@contextmanager
def terminal_progress(title: str, total: int) -> Generator[Advance, None, None]:
    """A bar on standard error if that is a terminal; it appears after a second and is gone at the end.

    `with terminal_progress("calibrating", 128) as advance: advance(1)`
    """
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console  # slow to import, and only terminals need it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=total)
    begin = time.monotonic()

    def advance(count: int) -> None:
        bar.update(task, advance=count)
        if not bar.live.is_started and time.monotonic() - begin > PATIENCE_SECONDS:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()

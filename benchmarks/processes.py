"""Whole processes: what a command takes from Python's start to its end, and what an import loads."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stopwatch import Timing

COMMAND = ("-m", "accelc.compiler.cli")

STARTS: dict[str, tuple[str, ...]] = {
    "python": ("-c", ""),
    "accelc --help": (*COMMAND, "--help"),
    "import accelc": ("-c", "import accelc"),
    "import accelc.compiler.api": ("-c", "import accelc.compiler.api"),
}
"""What Python's start is measured with, after `python`."""

HEAVY = ("onnx", "networkx", "rich", "lark")
"""Packages that `import accelc` must not load."""


def in_turns(
    commands: Mapping[str, Sequence[str]], runs: int, folder: Path, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Timing]:
    """Processor and wall seconds of `python ARGUMENTS` for every command, in turns, `runs` times.

    One start that is not counted writes the byte code, as it is behind any second start: into `folder` where Python
    is told to write none.
    """
    environment = dict(os.environ)
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    timings = {name: Timing() for name in commands}
    for turn in range(runs + 1):
        for name, arguments in commands.items():
            before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
            wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            if turn:
                timings[name].add(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)
            advance(1)
    return timings


def loaded_by_import() -> list[str]:
    """Which of HEAVY `import accelc` loads, as `python -X importtime` tells."""
    line = [sys.executable, "-X", "importtime", "-c", "import accelc"]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    names = {row.rpartition("|")[2].strip().partition(".")[0] for row in done.stderr.splitlines()}
    return [name for name in HEAVY if name in names]

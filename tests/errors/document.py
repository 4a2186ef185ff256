"""Writes docs/errors.md: what `accelc` says to every row of the table. Run it as `python -m errors.document` in tests/.

The document is also what the test compares with, so that a change of a message is a change that a reviewer reads.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from errors.inputs import write_inputs
from errors.table import SECTIONS

from accelc.compiler.cli import run_cli

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"

OPENING = """# What accelc says to wrong input

Every message names the file, the line, the ONNX node or the key that is at fault; the exit status is 1 (2 where the
command line contradicts itself, 130 after Ctrl-C), and no file is written or changed. Names say what is wrong with a
file. `make docs` writes this page from the table in `tests/errors/table.py`, and a test runs every line of it.
"""


@contextmanager
def inputs_folder() -> Iterator[Path]:
    """A new folder with all files, as the working directory."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "inputs"
        folder.mkdir()
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            write_inputs(folder)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def said(line: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `accelc LINE` in the working directory."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        status = run_cli(line.split())
    return status, output.getvalue(), errors.getvalue()


def rendered() -> str:
    """The whole page."""
    parts = [OPENING]
    with inputs_folder():
        for title, rows in SECTIONS.items():
            parts.append(f"## {title}\n")
            parts += [f"`accelc {line}`: {what}\n```text\n{said(line)[2]}```\n" for line, what in rows.items()]
    return "\n".join(parts)


def documented() -> dict[str, str]:
    """The message of every command line, as the page has it."""
    messages: dict[str, str] = {}
    for part in DOCUMENT.read_text(encoding="utf-8").split("\n`accelc ")[1:]:
        line, _, rest = part.partition("`: ")
        messages[line] = rest.partition("```text\n")[2].partition("```\n")[0]
    return messages


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(rendered(), encoding="utf-8")

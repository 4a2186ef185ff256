"""Every `.air` file of the repository parses, prints and parses again to the same module."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelc.compiler.expectations import split_input
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.equality import difference
from accelc.dialects.core.files import read_constants
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.printer import elided_constants, print_module
from accelc.dialects.registry import CONTEXT

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("tests", "examples") for path in (ROOT / folder).rglob("*.air"))


def is_negative(part: str, text: str) -> bool:
    """True if the part may be unparsable: it announces errors, or its RUN line expects to fail."""
    return "expected-error" in part or "RUN: not " in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_round_trips(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    constants = read_constants(path)
    for part in split_input(text):
        try:
            module = parse_module(part, CONTEXT, file=str(path), constants=constants)
        except CompileError:
            assert is_negative(part, text)
            continue
        again = parse_module(print_module(module), CONTEXT, constants=elided_constants(module))
        assert difference(module, again) is None

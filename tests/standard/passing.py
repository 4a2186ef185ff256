"""The committed list of the standard's tests that pass, and in which form; `make docs` writes it anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx

from .cases import cases
from .running import FLOAT, FOLDED, HOST, INT8, Result, result_of

LIST = Path(__file__).parent / "passing.txt"
FORMS = (FOLDED, FLOAT, INT8, HOST)


def computed() -> dict[str, Result]:
    """The results of all tests, by name."""
    return {case.name: result_of(case) for case in cases()}


def listed() -> tuple[str, dict[str, tuple[str, ...]]]:
    """The version of the onnx package that the list was made with, and the forms that pass by the name of the test."""
    head, *lines = LIST.read_text(encoding="utf-8").splitlines()
    rows = (line.split() for line in lines)
    return head.rpartition(" ")[2], {name: tuple(forms) for name, *forms in rows}


def write(results: Mapping[str, Result]) -> None:
    """Write the list."""
    rows = [" ".join((name, *result.passed)) for name, result in results.items() if result.passed]
    LIST.write_text("\n".join([f"# tests of onnx {onnx.__version__}", *rows, ""]), encoding="utf-8")


def counts(passed: Mapping[str, tuple[str, ...]]) -> Counter[str]:
    """How many tests pass in each form."""
    return Counter(form for forms in passed.values() for form in forms)

"""Negative tests: `// expected-error {{text}}` on the guilty line, compared with the diagnostics that arose."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..dialects.core.diagnostics import Diagnostic

SPLIT_MARKER = re.compile(r"^// -----.*$", re.MULTILINE)
_EXPECTED = re.compile(r"//\s*expected-error(?:@(?P<where>[+-]\d+|unknown))?\s*\{\{(?P<text>.*?)\}\}")


@dataclass(frozen=True)
class Expectation:
    """A diagnostic whose message contains `text` at `line`; line 0 is a diagnostic without a place."""

    line: int
    text: str

    def meets(self, diagnostic: Diagnostic) -> bool:
        """True if the diagnostic is the expected one: right line and right words."""
        position = diagnostic.location.position
        return (position.line if position else 0) == self.line and self.text in diagnostic.message


def split_input(text: str) -> list[str]:
    """The parts between `// -----` lines, each preceded by empty lines so that line numbers stay those of the file."""
    parts: list[str] = []
    start = 0
    for marker in [*SPLIT_MARKER.finditer(text), None]:
        end = marker.start() if marker else len(text)
        parts.append("\n" * text.count("\n", 0, start) + text[start:end])
        start = marker.end() if marker else end
    return parts


def expectations(text: str) -> list[Expectation]:
    """All expectations of one part; `@+1` and `@-1` move the line, `@unknown` is a diagnostic without a place."""
    found: list[Expectation] = []
    for number, line in enumerate(text.splitlines(), 1):
        for match in _EXPECTED.finditer(line):
            where = match["where"]
            found.append(Expectation(0 if where == "unknown" else number + int(where or 0), match["text"]))
    return found


def compare(text: str, diagnostics: Iterable[Diagnostic], *, file: str) -> list[str]:
    """The sentences to print: expected errors that did not arise, and errors that nobody expected."""
    open_expectations = expectations(text)
    complaints: list[str] = []
    for diagnostic in diagnostics:
        met = next((e for e in open_expectations if e.meets(diagnostic)), None)
        if met is None:
            complaints.append(f"unexpected diagnostic: {diagnostic}")
        else:
            open_expectations.remove(met)
    for missing in open_expectations:
        place = f"{file}:{missing.line}" if missing.line else f"{file}: without a place"
        complaints.append(f"{place}: expected error did not arise: {{{{{missing.text}}}}}")
    return complaints

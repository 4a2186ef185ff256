"""Located messages: what a user reads when the input, not the compiler, is at fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SHOWN_COLUMNS = 160
"""Of a longer line a message shows only so much."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text file: 1-based line and column, and the text of that line for the caret."""

    file: str
    line: int
    column: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def shown(self) -> list[str]:
        """The line and a caret below it; of a long line what surrounds the caret."""
        start = max(0, self.column - 1 - SHOWN_COLUMNS // 2) if len(self.text) > SHOWN_COLUMNS else 0
        part = self.text[start : start + SHOWN_COLUMNS]
        before, after = "..." if start else "", "..." if start + len(part) < len(self.text) else ""
        return [f"  {before}{part}{after}", " " * (2 + len(before) + self.column - 1 - start) + "^"]


@dataclass(frozen=True, slots=True)
class Location:
    """Where an operation came from: the ONNX nodes it stands for and, if parsed, its place in the text.

    Two locations are equal when their node names are; the text position is not part of the identity of an operation.
    """

    nodes: tuple[str, ...] = ()
    position: Position | None = field(default=None, compare=False)

    def merged(self, *others: Location) -> Location:
        """The union of node names in order of first appearance; keeps the first known position."""
        names = dict.fromkeys(name for location in (self, *others) for name in location.nodes)
        position = next((loc.position for loc in (self, *others) if loc.position is not None), None)
        return Location(tuple(names), position)

    @property
    def layer(self) -> str:
        """The node names in one word, as reports print them."""
        return "+".join(self.nodes)


UNKNOWN = Location()


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message with its place and notes; prints as `file:line:col: error: 'op': text`, caret, notes."""

    message: str
    location: Location = UNKNOWN
    notes: tuple[str, ...] = ()
    severity: str = "error"

    def __str__(self) -> str:
        position = self.location.position
        prefix = f"{position}: " if position else ""
        lines = [f"{prefix}{self.severity}: {self.message}"]
        if position and position.text:
            lines += position.shown()
        if self.location.nodes:
            lines.append(f"note: from ONNX node {', '.join(repr(name) for name in self.location.nodes)}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


class CompileError(Exception):
    """The user's fault: one or more diagnostics. The command line prints them and exits with status 1."""

    def __init__(self, diagnostics: str | Diagnostic | Sequence[Diagnostic], *, notes: Sequence[str] = ()) -> None:
        """Accept a plain message, one diagnostic or several."""
        if isinstance(diagnostics, str):
            diagnostics = [Diagnostic(diagnostics, notes=tuple(notes))]
        elif isinstance(diagnostics, Diagnostic):
            diagnostics = [diagnostics]
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__("\n".join(str(diagnostic) for diagnostic in self.diagnostics))

    def with_note(self, note: str) -> CompileError:
        """The same error with one more note on every diagnostic."""
        return CompileError([Diagnostic(d.message, d.location, (*d.notes, note), d.severity) for d in self.diagnostics])

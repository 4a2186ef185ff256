r"""Pipelines as text: `fold-constants,pad-channels{multiple=32 mode="as it is"}` to passes and back.

A name of the pipeline table (`O2`) stands for its passes. Every error carries the column it is at.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any

from ...dialects.core.diagnostics import CompileError, Diagnostic, Location, Position
from .base import BARE_WORD, Pass

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_QUOTED = re.compile(r'"(\\.|[^"\\])*"')


def parse_pipeline(
    text: str, passes: Iterable[type[Pass]], *, pipelines: Mapping[str, str] | None = None
) -> tuple[Pass, ...]:
    """The passes that `text` names, with their options. Raises CompileError with the column of the first mistake."""
    return _Reader(text, {p.name: p for p in passes}, pipelines or {}).read()


def format_pipeline(passes: Iterable[Pass]) -> str:
    """The text that `parse_pipeline` reads back as equal passes."""
    return ",".join(str(p) for p in passes)


class _Reader:
    """One reading of one text, from left to right."""

    def __init__(self, text: str, passes: Mapping[str, type[Pass]], pipelines: Mapping[str, str]) -> None:
        self.text = text
        self.at = 0
        self.passes = passes
        self.pipelines = pipelines

    def read(self) -> tuple[Pass, ...]:
        found: list[Pass] = []
        self._space()
        if self.at == len(self.text):
            return ()
        while True:
            found += self._entry()
            self._space()
            if self.at == len(self.text):
                return tuple(found)
            if self.text[self.at] != ",":
                raise self._error(self.at, f"unexpected {self.text[self.at]!r}, expected ',' or the end")
            self.at += 1

    def _entry(self) -> tuple[Pass, ...]:
        start, name = self._word("the name of a pass")
        if name in self.pipelines:
            if self.text[self.at : self.at + 1] == "{":
                raise self._error(self.at, f"pipeline '{name}' has no options")
            return parse_pipeline(self.pipelines[name], self.passes.values())
        if name not in self.passes:
            near = difflib.get_close_matches(name, [*self.passes, *self.pipelines], n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise self._error(start, f"unknown pass '{name}'{hint}")
        pass_class = self.passes[name]
        values = self._options(pass_class) if self.text[self.at : self.at + 1] == "{" else {}
        missing = [n for n, o in pass_class.options().items() if o.default is MISSING and n not in values]
        if missing:
            raise self._error(start, f"pass '{name}' needs option '{missing[0]}'")
        return (pass_class(**values),)

    def _options(self, pass_class: type[Pass]) -> dict[str, Any]:
        known = pass_class.options()
        values: dict[str, Any] = {}
        self.at += 1
        while True:
            self._space()
            if self.text[self.at : self.at + 1] == "}":
                self.at += 1
                return values
            start, written = self._word("an option or '}'")
            name = written.replace("-", "_")
            if name not in known:
                allowed = f"expected {', '.join(known)}" if known else "it has no options"
                raise self._error(start, f"pass '{pass_class.name}' has no option '{written}', {allowed}")
            if name in values:
                raise self._error(start, f"option '{written}' of pass '{pass_class.name}' is given twice")
            if self.text[self.at : self.at + 1] != "=":
                raise self._error(self.at, f"option '{written}' of pass '{pass_class.name}' has no value, expected '='")
            self.at += 1
            start, value, quoted = self._value()
            try:
                values[name] = known[name].convert(value, quoted=quoted)
            except ValueError:
                message = (
                    f"option '{written}' of pass '{pass_class.name}' is '{value}', expected {known[name].expected}"
                )
                raise self._error(start, message) from None

    def _value(self) -> tuple[int, str, bool]:
        start = self.at
        if quoted := _QUOTED.match(self.text, start):
            self.at = quoted.end()
            return start, json.loads(quoted.group()), True
        bare = BARE_WORD.match(self.text, start)
        if bare is None:
            raise self._error(start, "expected a value")
        self.at = bare.end()
        return start, bare.group(), False

    def _word(self, expected: str) -> tuple[int, str]:
        self._space()
        match = _NAME.match(self.text, self.at)
        if match is None:
            found = repr(self.text[self.at]) if self.at < len(self.text) else "the end"
            raise self._error(self.at, f"unexpected {found}, expected {expected}")
        self.at = match.end()
        return match.start(), match.group()

    def _space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _error(self, at: int, message: str) -> CompileError:
        flat = re.sub(r"\s", " ", self.text)
        return CompileError(Diagnostic(message, Location(position=Position("<pipeline>", 1, at + 1, flat))))

"""The class of all passes: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import json
import re
import types
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from ...dialects.core.operation import Module
from .environment import Environment

BARE_WORD = re.compile(r"[^\s{}\",=]+")


@dataclass(frozen=True)
class Option:
    """One option of a pass: its kinds (int, float, bool, str), the strings allowed if few, and its default."""

    name: str
    kinds: tuple[type, ...]
    choices: tuple[str, ...]
    optional: bool
    default: Any

    @property
    def expected(self) -> str:
        """What may be written, in words."""
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        else:
            words = " or ".join("true or false" if kind is bool else kind.__name__ for kind in self.kinds)
        return f"{words} or none" if self.optional else words

    def convert(self, text: str, *, quoted: bool) -> Any:
        """The value that `text` stands for; ValueError if it is of no allowed kind."""
        if self.optional and text == "none" and not quoted:
            return None
        for kind in self.kinds:
            if kind is bool and text in ("true", "false") and not quoted:
                return text == "true"
            if kind is int and re.fullmatch(r"[+-]?\d+", text) and not quoted:
                return int(text)
            if kind is float and not quoted:
                try:
                    return float(text)
                except ValueError:
                    continue
            if kind is str and (not self.choices or text in self.choices):
                return text
        raise ValueError(text)


@dataclass(frozen=True)
class Pass:
    """One transformation of a module. The first line of a subclass's docstring is its help."""

    name: ClassVar[str]

    def run(self, module: Module, environment: Environment) -> None:
        """Change `module` in place; raise CompileError where the user's model or options are at fault."""
        raise NotImplementedError(type(self).__name__)

    @classmethod
    def help(cls) -> str:
        """The one-line description."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    @classmethod
    def options(cls) -> dict[str, Option]:
        """The options by name, in order of declaration; TypeError if a field has a kind that text cannot give."""
        hints = get_type_hints(cls)
        found: dict[str, Option] = {}
        for field in fields(cls):
            default = field.default if field.default is not MISSING else MISSING
            found[field.name] = _option(cls.__name__, field.name, hints[field.name], default)
        return found

    def __str__(self) -> str:
        """The pass as pipeline text, with the options that differ from their defaults."""
        parts = [
            f"{name}={_written(getattr(self, name))}"
            for name, option in self.options().items()
            if getattr(self, name) != option.default
        ]
        return f"{self.name}{{{' '.join(parts)}}}" if parts else self.name


def _option(owner: str, name: str, hint: Any, default: Any) -> Option:
    members = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    optional = type(None) in members
    kinds: list[type] = []
    choices: tuple[str, ...] = ()
    for member in members:
        if get_origin(member) is Literal:
            kinds.append(str)
            choices += get_args(member)
        elif member in (int, float, bool, str):
            kinds.append(member)
        elif member is not type(None):
            raise TypeError(f"{owner}.{name}: an option is int, float, bool, str or a choice, not {member}")
    return Option(name, tuple(kinds), choices, optional, default)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, str) and not BARE_WORD.fullmatch(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)

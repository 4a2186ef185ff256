"""The class of all passes: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import json
import math
import re
import types
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Module
from .environment import Environment

BARE_WORD = re.compile(r"[^\s{}\",=]+")


def at_least(minimum: int, default: int | float, *, maximum: float = math.inf) -> Any:
    """A field of a pass for a finite number from `minimum` to `maximum`; others are refused, in text and in Python."""
    return field(default=default, metadata={"limits": (minimum, maximum)})


@dataclass(frozen=True)
class Option:
    """One option of a pass: kinds (int, float, bool, str), the strings allowed if few, default, limits of a number."""

    name: str
    kinds: tuple[type, ...]
    choices: tuple[str, ...]
    optional: bool
    default: Any
    limits: tuple[int, float] | None = None

    @property
    def expected(self) -> str:
        """What may be written, in words."""
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        else:
            words = " or ".join("true or false" if kind is bool else kind.__name__ for kind in self.kinds)
        if self.limits is not None:
            low, high = self.limits
            words += f", at least {low}" if math.isinf(high) else f" from {low} to {high:g}"
        return f"{words} or none" if self.optional else words

    def allows(self, value: Any) -> bool:
        """True unless the value is a number outside of the limits, or not finite where there are some."""
        if self.limits is None or not isinstance(value, (int, float)):
            return True
        return math.isfinite(value) and self.limits[0] <= value <= self.limits[1]

    def convert(self, text: str, *, quoted: bool) -> Any:
        """The value that `text` stands for; ValueError if it is of no allowed kind or outside of the limits."""
        value = self._value(text, quoted=quoted)
        if not self.allows(value):
            raise ValueError(text)
        return value

    def _value(self, text: str, *, quoted: bool) -> Any:
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
    refines: ClassVar[bool] = False
    """True if it gives integers other values, for results that are closer to those of the reals."""

    def __post_init__(self) -> None:
        """Raise CompileError for an option outside of its limits."""
        for name, option in self.options().items():
            value = getattr(self, name)
            if not option.allows(value):
                raise CompileError(f"option '{name}' of pass '{self.name}' is {value}, expected {option.expected}")

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
        for each in fields(cls):
            found[each.name] = _option(
                cls.__name__, each.name, hints[each.name], each.default, each.metadata.get("limits")
            )
        return found

    def __str__(self) -> str:
        """The pass as pipeline text, with the options that differ from their defaults."""
        parts = [
            f"{name}={_written(getattr(self, name))}"
            for name, option in self.options().items()
            if getattr(self, name) != option.default
        ]
        return f"{self.name}{{{' '.join(parts)}}}" if parts else self.name


def _option(owner: str, name: str, hint: Any, default: Any, limits: tuple[int, float] | None) -> Option:
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
    return Option(name, tuple(kinds), choices, optional, default, limits)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, str) and not BARE_WORD.fullmatch(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)

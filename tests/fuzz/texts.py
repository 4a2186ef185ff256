"""IR text: derivations of the grammar, and valid text with words exchanged; parsed, verified, printed, executed."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from random import Random
from typing import Any

import lark
import numpy as np

from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.equality import difference
from accelc.dialects.core.fields import AttributeField
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.printer import print_module
from accelc.dialects.core.types import ScalarType, TensorType
from accelc.dialects.core.verifier import verify
from accelc.dialects.registry import CONTEXT

from .problems import MismatchError

DEPTH = 25
"""Rules within each other; deeper, the shortest expansion is taken."""
EXECUTED = 1 << 16
"""Elements of the largest value of a module that is executed."""

WORDS: dict[str, tuple[str, ...]] = {
    "VALUE": ("%0", "%1", "%x", "%y", '%"a b"', "%conv/1"),
    "SYMBOL": ("@main", "@w", "@b", '@"c d"', "@f.1"),
    "NAME": ("return", "strides", "pads", "axis", "shape", "permutation", "outputs", "unknown", *CONTEXT.operations),
    "STRING": ('"a"', '""', '"\\u2028"', '"Conv_0"', '"reflect"'),
    "INTEGER": ("0", "1", "-1", "2", "3", "127", "-129", "4096", "9223372036854775808", "9" * 101),
    "FLOAT": ("0.5", "-1.0", "1e300", "inf", "-inf", "nan", "0.0", "1e-45"),
    "DIMENSION": ("0x", "1x", "2x", "3x", "8x", "1099511627776x"),
    "SCALAR": ("f32", "i8", "i32", "bf16", "i1", "i64", "f64"),
    "DIALECT_NAME": ("!quant.i8", "!quant.i16", "!tile.buffer", "!tile.token", "!no.thing"),
    "PARAMETER_SEPARATOR": (":", ","),
}
"""Words of the terminals that are patterns."""


@cache
def _grammar() -> tuple[dict[str, list[list[Any]]], dict[str, str], dict[str, int]]:
    """Expansions by rule, the text of literal terminals, and the least depth of every rule."""
    text = resources.files("accelc.dialects.core").joinpath("syntax.lark").read_text(encoding="utf-8")
    parser = lark.Lark(text, start="module", parser="lalr")
    literal = {t.name: t.pattern.value for t in parser.terminals if t.name not in WORDS}
    rules: dict[str, list[list[Any]]] = {}
    for rule in parser.rules:
        rules.setdefault(rule.origin.name, []).append(rule.expansion)
    depths: dict[str, int] = {}
    while len(depths) < len(rules):
        for name, expansions in rules.items():
            known = [_depth(e, depths) for e in expansions]
            if name not in depths and (found := min((d for d in known if d is not None), default=None)) is not None:
                depths[name] = found + 1
    return rules, literal, depths


def _depth(expansion: list[Any], depths: dict[str, int]) -> int | None:
    needed = [depths.get(symbol.name) for symbol in expansion if not symbol.is_term]
    return None if None in needed else max((d for d in needed if d is not None), default=0)


class _Derivation:
    """Words of the grammar, one after the other."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.words: list[str] = []
        self.rules, self.literal, self.depths = _grammar()

    def derive(self, symbol: Any, depth: int = 0) -> None:
        """Append a derivation of a symbol."""
        if symbol.is_term:
            name = symbol.name
            self.words.append(self.random.choice(WORDS[name]) if name in WORDS else self.literal[name])
            return
        expansions = self.rules[symbol.name]
        if depth > DEPTH or len(self.words) > LONGEST:
            expansions = [min(expansions, key=lambda e: _depth(e, self.depths) or 0)]
        for each in self.random.choice(expansions):
            self.derive(each, depth + 1)

    def text_of(self, rule: str) -> str:
        """A derivation of one rule by itself."""
        own = _Derivation(self.random)
        own.derive(lark.grammar.NonTerminal(rule), DEPTH - 5)
        return " ".join(own.words)


def derived_text(random: Random) -> str:
    """A derivation of the grammar, or one whose operations read values that exist, under their types."""
    derivation = _Derivation(random)
    if random.random() < 0.5:
        for rule in random.choices(("constant", "function"), (1, 2), k=random.randint(1, 4)):
            derivation.derive(lark.grammar.NonTerminal(rule))
        return " ".join(derivation.words)
    types = [random.choice(TYPES) for _ in range(random.randint(1, 2))]
    scope = {f"%x{index}": kind for index, kind in enumerate(types)}
    arguments = ", ".join(f"{name}: {kind}" for name, kind in scope.items())
    lines: list[str] = []
    for index in range(random.randint(1, 4)):
        name, operation = random.choice(list(CONTEXT.operations.items()))
        read = random.choices(list(scope), k=random.choice((1, 1, 2, 3)))
        fields = [(n, field) for n, field in operation.attribute_fields.items() if random.random() < 0.8]
        attributes = ", ".join(f"{n} = {_fitting(field, derivation)}" for n, field in fields)
        result = random.choice((scope[read[0]], random.choice(TYPES)))
        types_read = ", ".join(scope[value] for value in read)
        lines.append(f"  %{index} = {name} {', '.join(read)} {{{attributes}}} : ({types_read}) -> {result}")
        scope[f"%{index}"] = result
    last = list(scope)[-1]
    lines.append(f"  return {last} : {scope[last]} -> ()")
    return f"func @main({arguments}) -> {scope[last]} {{\n" + "\n".join(lines) + "\n}\n"


def _fitting(field: AttributeField[Any], derivation: _Derivation) -> str:
    """A value of the declared kind, mostly."""
    random = derivation.random
    if random.random() < 0.2:
        return derivation.text_of("attribute")
    if field.item is int:
        return f"[{', '.join(str(random.choice((0, 1, 1, 2, 3))) for _ in range(random.choice((1, 2, 2, 3, 4, 4))))}]"
    if field.choices:
        return json.dumps(random.choice(field.choices))
    kinds = {int: ("0", "1", "2", "-1"), float: ("0.5", "1.0"), bool: ("true", "false"), str: ('"a"',)}
    return random.choice(kinds.get(field.kind, ("none", "[]")))


TYPES = (
    "tensor<1x3x3x2xf32>",
    "tensor<1x3x3x2xi32>",
    "tensor<1x3x3x2x!quant.i8<0.5:3>>",
    "tensor<2x3xf32>",
    "tensor<f32>",
    "tensor<256xi8>",
    "!tile.buffer<sram, 256>",
    "!tile.buffer<dram, 64>",
)
"""Of the values that operations read and make."""
LONGEST = 300


TOKEN = re.compile(r'"[^"\n]*"|[%@!]?[\w./:$-]+|\s+|.', re.DOTALL)


def mutated_text(text: str, random: Random) -> str:
    """The text with one to three words left out, doubled, exchanged or replaced by one of the grammar's."""
    words = TOKEN.findall(text)
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.choice([i for i, word in enumerate(words) if word.strip()] or [0])
        everywhere = random.random() < 0.6
        match random.randrange(12):
            case 0:
                words[place] = ""
            case 1:
                words[place] *= 2
            case 2:
                words[place] = random.choice(words)
            case 8 | 9:
                old, new = words[place], random.choice(words)
                words = [new if word == old else word for word in words]
            case 3:
                words[place] = random.choice(WORDS[random.choice(list(WORDS))])
            case 4 | 5 | 6 | 7:
                place = random.choice([i for i, word in enumerate(words) if any(map(str.isdigit, word))] or [place])
                old = words[place]
                new = re.sub(r"\d+", lambda _: random.choice(("0", "1", "2", "3", "7", "64", "255")), old)
                words = [new if i == place or (word == old and everywhere) else word for i, word in enumerate(words)]
            case _:
                end = min(len(words), place + random.randrange(30))
                del words[place:end]
                words.append("")
    return "".join(words)


def check_text(text: str) -> str:
    """Parse, verify, print, parse again and execute; what became of it. Raises anything but CompileError."""
    try:
        module = parse_module(text, CONTEXT, file="fuzz.air")
    except CompileError as error:
        assert all(d.location.position or d.message.startswith("fuzz.air") for d in error.diagnostics), str(error)
        return "not parsed"
    try:
        verify(module)
    except CompileError as error:
        assert str(error)
        return "not verified"
    printed = print_module(module, elide_above=1 << 30)
    again = parse_module(printed, CONTEXT)
    if (found := difference(module, again)) is not None:
        raise MismatchError(f"printing and parsing changes the module: {found}")
    return _executed(module)


def _executed(module: Module) -> str:
    try:
        main = module.main
    except CompileError:
        return "verified"
    types = [a.type for a in main.arguments] + [r.type for op in main.body for r in op.results]
    if any(not isinstance(t, TensorType) or t.size > EXECUTED or 0 in t.shape for t in types):
        return "verified"
    inputs = {str(a.name): _noise(a.type) for a in main.arguments}
    if len(inputs) < len(main.arguments):
        return "verified"
    try:
        with np.errstate(all="ignore"):
            run(module, inputs)
    except CompileError as error:
        assert str(error)
        return "verified, not executed"
    return "executed"


def _noise(kind: TensorType) -> np.ndarray:
    dtype = kind.element.dtype
    count = np.arange(kind.size).reshape(kind.shape) * 7 % 11 - 5
    return count.astype(dtype) if isinstance(kind.element, ScalarType) else count.astype(np.int8).astype(dtype)

"""Assembly text: one instruction a line, `matmul input=0x000420 in_h=8 wait=load signal=vector  ; Conv_3`.

Fields that hold their default are left out; addresses are hexadecimal; `wait` and `signal` list engines with commas;
a semicolon starts a comment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from ..dialects.core.diagnostics import CompileError, Diagnostic, Location, Position
from ..dialects.core.fields import REQUIRED, AttributeValue
from ..dialects.tile.instruction import ENGINES, InstructionOp
from .encoding import OPCODES, Instruction, layout

MNEMONICS = {op_class.name.removeprefix("tile."): op_class for op_class in OPCODES.values()}
_WORD = re.compile(r"\S+")


def disassemble(instructions: Sequence[Instruction], comments: Sequence[str] = ()) -> str:
    """The text of a program; `comments[i]` (a layer name, say) follows instruction i."""
    lines = [format_instruction(instruction) for instruction in instructions]
    for index, comment in enumerate(comments):
        if comment:
            lines[index] += f"  ; {' '.join(comment.split())}"
    return "".join(f"{line}\n" for line in lines)


def format_instruction(instruction: Instruction) -> str:
    """One line of assembly."""
    parts = [instruction.op_class.name.removeprefix("tile.")]
    parts += [f"{name}={address:#08x}" for name, address in instruction.addresses.items()]
    for field in layout(instruction.op_class).declared:
        value = instruction.fields[field.name]
        if value != field.default:
            parts.append(f"{field.name}={int(value) if isinstance(value, bool) else value}")
    for key, engines in (("wait", instruction.wait), ("signal", instruction.signal)):
        if engines:
            parts.append(f"{key}={','.join(engines)}")
    return " ".join(parts)


def assemble(text: str, *, file: str = "<assembly>") -> list[Instruction]:
    """Read assembly; raises one CompileError with the place of everything that is wrong."""
    errors: list[Diagnostic] = []
    instructions: list[Instruction] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = list(_WORD.finditer(line.partition(";")[0]))
        if words:
            instruction = _Line(file, number, line, errors).read(words)
            if instruction is not None:
                instructions.append(instruction)
    if errors:
        raise CompileError(errors)
    return instructions


class _Line:
    """One line being read: where it is, and where errors go."""

    def __init__(self, file: str, number: int, text: str, errors: list[Diagnostic]) -> None:
        self.file, self.number, self.text, self.errors = file, number, text, errors

    def fail(self, word: re.Match[str], message: str) -> None:
        position = Position(self.file, self.number, word.start() + 1, self.text)
        self.errors.append(Diagnostic(message, Location(position=position)))

    def read(self, words: list[re.Match[str]]) -> Instruction | None:
        mnemonic = words[0].group()
        op_class = MNEMONICS.get(mnemonic)
        if op_class is None:
            return self.fail(words[0], f"unknown instruction '{mnemonic}'{_suggest(mnemonic, MNEMONICS)}")
        count = len(self.errors)
        given: dict[str, re.Match[str]] = {}
        plan = layout(op_class)
        known = [*plan.operands, *(field.name for field in plan.declared), "wait", "signal"]
        for word in words[1:]:
            key, equal, value = word.group().partition("=")
            if not equal or not value:
                self.fail(word, f"'{word.group()}' is not of the form name=value")
            elif key not in known:
                self.fail(word, f"'{mnemonic}' has no field '{key}'{_suggest(key, known)}")
            elif key in given:
                self.fail(word, f"'{key}' is given twice")
            else:
                given[key] = word
        addresses, fields = self.values(op_class, words[0], given)
        tokens = [self.engines(given.get(key)) for key in ("wait", "signal")]
        if len(self.errors) > count:
            return None
        return Instruction(op_class, addresses, fields, *tokens)

    def values(
        self, op_class: type[InstructionOp], head: re.Match[str], given: dict[str, re.Match[str]]
    ) -> tuple[dict[str, int], dict[str, AttributeValue]]:
        plan = layout(op_class)
        addresses: dict[str, int] = {}
        for place in plan.addresses:
            if place.name not in given:
                self.fail(head, f"address '{place.name}' is missing")
                continue
            addresses[place.name] = self.integer(given[place.name], *place.limits)
        fields: dict[str, AttributeValue] = {}
        for field, place in zip(plan.declared, plan.fields, strict=True):
            word = given.get(field.name)
            if word is None:
                if field.default is REQUIRED:
                    self.fail(head, f"field '{field.name}' is missing")
                fields[field.name] = field.default
            elif place.choices:
                value = word.group().partition("=")[2]
                if value not in place.choices:
                    self.fail(word, f"'{field.name}' is '{value}', expected one of {', '.join(place.choices)}")
                fields[field.name] = value
            else:
                value = self.integer(word, *place.limits)
                fields[field.name] = bool(value) if place.is_bool else value
        return addresses, fields

    def integer(self, word: re.Match[str], low: int, high: int) -> int:
        name, _, text = word.group().partition("=")
        try:
            value = int(text, 0)
        except ValueError:
            self.fail(word, f"'{name}' is '{text}', expected an integer")
            return 0
        if not low <= value <= high:
            self.fail(word, f"'{name}' is {value}, expected {low} to {high}")
        return value

    def engines(self, word: re.Match[str] | None) -> tuple[str, ...]:
        if word is None:
            return ()
        names = word.group().partition("=")[2].split(",")
        for name in names:
            if name not in ENGINES:
                self.fail(word, f"unknown engine '{name}', expected one of {', '.join(ENGINES)}")
        if len(set(names)) < len(names):
            self.fail(word, "an engine is named twice")
        return tuple(name for name in ENGINES if name in names)


def _suggest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""

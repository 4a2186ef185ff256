"""Binary instructions: every field that an instruction class declares, at a fixed place in 32 words of 32 bits.

Word 0 holds the opcode (bits 0-7), the wait mask (8-11) and the signal mask (12-15), one bit an engine; then follows
one word of address for every operand (bytes; rows in accumulators), then the fields with a declared width in order of
declaration. No field crosses a word boundary and every other bit is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.fields import AttributeField, AttributeValue
from ..dialects.core.operation import Value
from ..dialects.tile.array import MatmulOp
from ..dialects.tile.host import CallHostOp
from ..dialects.tile.indexing import ArgMaxOp, GatherOp
from ..dialects.tile.instruction import ENGINES, InstructionOp, Region, offset_fields
from ..dialects.tile.memory import LoadOp, StoreOp
from ..dialects.tile.movement import FillOp, MoveOp
from ..dialects.tile.normalization import LayerNormOp, LrnOp, MaskedSoftmaxOp, SoftmaxOp
from ..dialects.tile.pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp
from ..dialects.tile.residual import RequantizeAddOp
from ..dialects.tile.types import BufferType
from ..dialects.tile.vector import BinaryOp, LookupOp, RequantizeOp, RescaleOp

INSTRUCTION_WORDS = 32
Words = npt.NDArray[np.uint32]

OPCODES: dict[int, type[InstructionOp]] = {
    0x01: LoadOp,
    0x02: StoreOp,
    0x03: CallHostOp,
    0x04: GatherOp,
    0x10: MatmulOp,
    0x20: RequantizeOp,
    0x21: BinaryOp,
    0x24: RequantizeAddOp,
    0x22: LookupOp,
    0x23: RescaleOp,
    0x28: MaxPoolOp,
    0x29: AveragePoolOp,
    0x2A: DepthwiseOp,
    0x30: MoveOp,
    0x31: FillOp,
    0x38: SoftmaxOp,
    0x39: LrnOp,
    0x3A: LayerNormOp,
    0x3B: MaskedSoftmaxOp,
    0x3C: ArgMaxOp,
}
"""The instruction set; an opcode never changes its meaning without a new program format version."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A decoded instruction: its class, the absolute address of every operand, every encoded field, its tokens."""

    op_class: type[InstructionOp]
    addresses: Mapping[str, int]
    fields: Mapping[str, AttributeValue]
    wait: tuple[str, ...] = ()
    signal: tuple[str, ...] = ()

    def operation(self, bases: Mapping[str, int] | None = None) -> InstructionOp:
        """The tile operation on whole memories: offsets are absolute, or relative to `bases` where it has the operand.

        Its `evaluate` on flat memory arrays is the meaning of the instruction.
        """
        attributes: dict[str, AttributeValue] = dict(self.fields)
        for name, address in self.addresses.items():
            attributes[f"{name}_offset"] = address - (bases or {}).get(name, 0)
        attributes["wait"], attributes["signal"] = self.wait, self.signal
        operands = [Value(_WHOLE[space_of(self.op_class, name)]) for name in self.addresses]
        return self.op_class(operands, (), attributes)

    def regions(self) -> tuple[Region, ...]:
        """What it reads and writes, at absolute addresses."""
        return self.operation().regions()


_WHOLE = {space: BufferType(space, 1) for space in ("dram", "sram", "acc")}


def space_of(op_class: type[InstructionOp], operand: str) -> str:
    """The memory an operand lies in: dram, sram or acc."""
    return op_class.spaces.get(operand, "sram")


def instruction_of(op: InstructionOp, address_of: Callable[[Value[Any]], int]) -> Instruction:
    """The instruction of a scheduled operation; `address_of` gives the address of a buffer or constant."""
    offsets = offset_fields(type(op))
    addresses = {
        name: address_of(value) + int(op.attribute_or_default(f"{name}_offset") or 0)  # pyright: ignore[reportArgumentType]
        for name, value in zip(offsets, op.operands, strict=True)
    }
    fields = {field.name: op.attribute_or_default(field.name) for field in layout(type(op)).declared}
    return Instruction(type(op), addresses, fields, op.wait, op.signal)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field lies: a word, the lowest bit in it, the width, and how its bits are read."""

    name: str
    word: int
    bit: int
    width: int
    signed: bool = False
    choices: tuple[str, ...] = ()
    is_bool: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer that fits."""
        if self.signed:
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1


@dataclass(frozen=True, slots=True)
class Layout:
    """The encoding of one instruction class."""

    opcode: int
    operands: tuple[str, ...]
    addresses: tuple[Place, ...]
    fields: tuple[Place, ...]
    declared: tuple[AttributeField[Any], ...]
    used_bits: tuple[int, ...]

    @property
    def words(self) -> int:
        """The number of words that hold anything."""
        return 1 + max(place.word for place in (*self.addresses, *self.fields))


_OPCODE = Place("opcode", 0, 0, 8)
_WAIT = Place("wait", 0, 8, len(ENGINES))
_SIGNAL = Place("signal", 0, 12, len(ENGINES))


@cache
def layout(op_class: type[InstructionOp]) -> Layout:
    """Where every field of a class lies; ValueError if the class has no opcode or does not fit."""
    opcode = next((code for code, known in OPCODES.items() if known is op_class), None)
    if opcode is None:
        raise ValueError(f"{op_class.name} has no opcode")
    offsets = offset_fields(op_class)
    addresses = tuple(Place(name, word, 0, 32) for word, name in enumerate(offsets, start=1))
    absorbed = {field.name for field in offsets.values()}
    declared = tuple(f for f in op_class.attribute_fields.values() if f.bits and f.name not in absorbed)
    word, bit = 1 + len(addresses), 0
    places: list[Place] = []
    for field in declared:
        width = abs(field.bits)
        if bit + width > 32:
            word, bit = word + 1, 0
        places.append(Place(field.name, word, bit, width, field.bits < 0, field.choices, field.kind is bool))
        bit += width
    used = [0] * INSTRUCTION_WORDS
    if word >= INSTRUCTION_WORDS:
        raise ValueError(f"{op_class.name} needs {word + 1} words, an instruction has {INSTRUCTION_WORDS}")
    for place in (_OPCODE, _WAIT, _SIGNAL, *addresses, *places):
        used[place.word] |= ((1 << place.width) - 1) << place.bit
    return Layout(opcode, tuple(offsets), addresses, tuple(places), declared, tuple(used))


def encode(instructions: Sequence[Instruction]) -> Words:
    """The words [len(instructions), INSTRUCTION_WORDS]; CompileError names a field that does not fit."""
    words = np.zeros((len(instructions), INSTRUCTION_WORDS), np.uint32)
    for op_class, indices in _by_class(instruction.op_class for instruction in instructions).items():
        plan = layout(op_class)
        chosen = [instructions[index] for index in indices]
        part = np.zeros((len(chosen), INSTRUCTION_WORDS), np.uint32)
        _put(part, _OPCODE, [plan.opcode] * len(chosen), op_class)
        _put(part, _WAIT, [_mask(instruction.wait, op_class) for instruction in chosen], op_class)
        _put(part, _SIGNAL, [_mask(instruction.signal, op_class) for instruction in chosen], op_class)
        for place in plan.addresses:
            _put(part, place, [instruction.addresses[place.name] for instruction in chosen], op_class)
        for place in plan.fields:
            _put(part, place, [_number(place, i.fields[place.name], op_class) for i in chosen], op_class)
        words[indices] = part
    return words


def decode(words: Words) -> list[Instruction]:
    """The instructions of words [n, INSTRUCTION_WORDS]; CompileError names the first one that is not valid."""
    if words.ndim != 2 or words.shape[1] != INSTRUCTION_WORDS:
        raise CompileError(f"instruction words have shape {list(words.shape)}, expected [n, {INSTRUCTION_WORDS}]")
    opcodes = words[:, 0] & 0xFF
    decoded: list[Instruction | None] = [None] * len(words)
    for opcode in np.unique(opcodes).tolist():
        indices = np.flatnonzero(opcodes == opcode)
        op_class = OPCODES.get(opcode)
        if op_class is None:
            raise CompileError(f"instruction {indices[0]}: opcode {opcode:#04x} is unknown")
        for index, instruction in zip(indices.tolist(), _decode_class(words[indices], indices, op_class), strict=True):
            decoded[index] = instruction
    return [instruction for instruction in decoded if instruction is not None]


def _decode_class(words: Words, indices: npt.NDArray[Any], op_class: type[InstructionOp]) -> Iterable[Instruction]:
    plan = layout(op_class)
    reserved = words & ~np.array(plan.used_bits, np.uint32)
    bad = np.flatnonzero(reserved.any(axis=1))
    if bad.size:
        word = int(np.flatnonzero(reserved[bad[0]])[0])
        raise CompileError(f"instruction {indices[bad[0]]} ({op_class.name}): reserved bits of word {word} are not 0")
    addresses = zip(*(_get(words, place) for place in plan.addresses), strict=True)
    columns: list[list[Any]] = []
    for place in plan.fields:
        column: list[Any] = _get(words, place)
        if place.choices:
            wrong = next((i for i, value in enumerate(column) if value >= len(place.choices)), None)
            if wrong is not None:
                found = f"'{place.name}' is {column[wrong]}, expected below {len(place.choices)}"
                raise CompileError(f"instruction {indices[wrong]} ({op_class.name}): {found}")
            column = [place.choices[value] for value in column]
        elif place.is_bool:
            column = [bool(value) for value in column]
        columns.append(column)
    names = [place.name for place in plan.fields]
    waits, signals = _get(words, _WAIT), _get(words, _SIGNAL)
    for address, values, wait, signal in zip(addresses, zip(*columns, strict=True), waits, signals, strict=True):
        located = dict(zip(plan.operands, address, strict=True))
        yield Instruction(
            op_class, located, dict(zip(names, values, strict=True)), _ENGINE_SETS[wait], _ENGINE_SETS[signal]
        )


_ENGINE_SETS = [tuple(name for bit, name in enumerate(ENGINES) if mask >> bit & 1) for mask in range(1 << len(ENGINES))]


def _by_class(classes: Iterable[type[InstructionOp]]) -> dict[type[InstructionOp], list[int]]:
    found: dict[type[InstructionOp], list[int]] = {}
    for index, op_class in enumerate(classes):
        found.setdefault(op_class, []).append(index)
    return found


def _mask(engines: Sequence[str], op_class: type[InstructionOp]) -> int:
    mask = 0
    for name in engines:
        if name not in ENGINES:
            raise CompileError(f"'{op_class.name}': token of engine '{name}', expected one of {', '.join(ENGINES)}")
        bit = 1 << ENGINES.index(name)
        if mask & bit:
            raise CompileError(f"'{op_class.name}': engine '{name}' is named twice in one token list")
        mask |= bit
    return mask


def _number(place: Place, value: Any, op_class: type[InstructionOp]) -> int:
    if place.choices:
        if value not in place.choices:
            found = f"'{place.name}' is {value!r}, expected one of {', '.join(place.choices)}"
            raise CompileError(f"'{op_class.name}': {found}")
        return place.choices.index(value)
    return value


def _put(words: Words, place: Place, values: Sequence[int], op_class: type[InstructionOp]) -> None:
    low, high = place.limits
    if min(values) < low or max(values) > high:
        bad = next(value for value in values if not low <= value <= high)
        raise CompileError(f"'{op_class.name}': '{place.name}' is {bad}, expected {low} to {high}")
    column = np.array(values, np.int64) & ((1 << place.width) - 1)
    words[:, place.word] |= (column << place.bit).astype(np.uint32)


def _get(words: Words, place: Place) -> list[int]:
    column = (words[:, place.word].astype(np.int64) >> place.bit) & ((1 << place.width) - 1)
    if place.signed:
        column -= (column >> (place.width - 1)) << place.width
    return column.tolist()

"""Encoded instructions decode to themselves, and words that mean nothing are refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.strategies import instructions

from accelc.backends.encoding import INSTRUCTION_WORDS, OPCODES, Instruction, decode, encode, instruction_of, layout
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.operation import Value
from accelc.dialects.tile import INSTRUCTIONS
from accelc.dialects.tile.memory import LoadOp
from accelc.dialects.tile.movement import FillOp
from accelc.dialects.tile.types import BufferType
from accelc.dialects.tile.vector import BinaryOp


def fill(**fields: int) -> Instruction:
    declared = {field.name: field.default for field in layout(FillOp).declared}
    return Instruction(FillOp, {"output": 64}, declared | {"value": -3, "run": 16} | fields)


@pytest.mark.parametrize("op_class", INSTRUCTIONS, ids=lambda op: op.name)
def test_every_instruction_has_an_opcode_and_fits(op_class):
    plan = layout(op_class)
    assert OPCODES[plan.opcode] is op_class
    assert plan.words <= INSTRUCTION_WORDS
    encoded = {place.name for place in (*plan.addresses, *plan.fields)}
    kept_beside = {"wait", "signal", "layer", "useful_macs"}
    absorbed = {f"{place.name}_offset" for place in plan.addresses}
    assert encoded | kept_beside | absorbed >= set(op_class.attribute_fields), "an attribute has no declared width"


@pytest.mark.parametrize("op_class", INSTRUCTIONS, ids=lambda op: op.name)
def test_fields_do_not_overlap(op_class):
    plan = layout(op_class)
    bits = [(p.word, p.bit + i) for p in (*plan.addresses, *plan.fields) for i in range(p.width)]
    assert len(bits) == len(set(bits))
    assert all(bit < 32 for _, bit in bits)
    assert min(word for word, _ in bits) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(instructions(), min_size=1, max_size=6))
def test_round_trip(program):
    words = encode(program)
    assert words.shape == (len(program), INSTRUCTION_WORDS)
    assert decode(words) == program


@settings(max_examples=100, deadline=None)
@given(instructions(), st.integers(0, INSTRUCTION_WORDS * 32 - 1))
def test_a_flipped_bit_changes_the_instruction_or_is_refused(instruction, bit):
    words = encode([instruction])
    words[0, bit // 32] ^= np.uint32(1 << (bit % 32))
    with contextlib.suppress(CompileError):
        assert decode(words) != [instruction]


def test_addresses_absorb_offsets():
    source, destination = Value(BufferType("dram", 100)), Value(BufferType("sram", 100))
    load = LoadOp.build(source, destination, run=10, source_offset=5, destination_offset=7, wait=("array",))
    instruction = instruction_of(load, {source: 1000, destination: 2000}.__getitem__)
    assert instruction.addresses == {"source": 1005, "destination": 2007}
    assert instruction.wait == ("array",)
    again = instruction.operation({"source": 1000})
    assert (again.attributes["source_offset"], again.attributes["destination_offset"]) == (5, 2007)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": 40000}, "'tile.fill': 'value' is 40000, expected -32768 to 32767"),
        ({"run": 1 << 24}, "'tile.fill': 'run' is 16777216, expected 0 to 16777215"),
        ({"outer": -1}, "'tile.fill': 'outer' is -1, expected 0 to 65535"),
    ],
)
def test_a_field_out_of_range_is_refused(change, message):
    with pytest.raises(CompileError, match=f"^error: {message}$"):
        encode([fill(**change)])


def test_an_address_beyond_32_bits_is_refused():
    with pytest.raises(CompileError, match="'output' is 4294967296, expected 0 to 4294967295"):
        encode([Instruction(FillOp, {"output": 1 << 32}, fill().fields)])


def test_an_unknown_opcode_is_refused():
    words = encode([fill(), fill()])
    words[1, 0] = 0xEE
    with pytest.raises(CompileError, match="instruction 1: opcode 0xee is unknown"):
        decode(words)


def test_reserved_bits_are_refused():
    words = encode([fill(), fill()])
    words[1, 31] = 4
    with pytest.raises(CompileError, match=r"instruction 1 \(tile.fill\): reserved bits of word 31 are not 0"):
        decode(words)


def test_a_choice_that_does_not_exist_is_refused():
    declared = {field.name: 1 for field in layout(BinaryOp).declared} | {"kind": "div", "element": "i8"}
    words = encode([Instruction(BinaryOp, {"lhs": 0, "rhs": 0, "output": 0}, declared)])
    assert decode(words)[0].fields["kind"] == "div"
    place = next(place for place in layout(BinaryOp).fields if place.name == "kind")
    assert place.limits[1] + 1 == len(place.choices), "every code of this field has a meaning"

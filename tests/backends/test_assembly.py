"""Assembly round-trips exactly, leaves defaults out, and is read with located errors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.strategies import instructions

from accelc.backends.assembly import assemble, disassemble
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.tile.memory import LoadOp

LOAD = "load source=0x000040 destination=0x000100 run=16 wait=array,vector signal=array  ; Conv_0\n"


@settings(max_examples=80, deadline=None)
@given(st.lists(instructions(), max_size=5))
def test_round_trip(program):
    assert assemble(disassemble(program)) == program


def test_text_is_readable():
    (load,) = assemble(LOAD)
    assert load.op_class is LoadOp
    assert load.addresses == {"source": 64, "destination": 256}
    assert (load.fields["run"], load.fields["outer"]) == (16, 1)
    assert (load.wait, load.signal) == (("array", "vector"), ("array",))
    assert disassemble([load], ["Conv_0"]) == LOAD


def test_comments_and_blank_lines_are_skipped():
    assert len(assemble(f"; a program\n\n{LOAD}   ; nothing here\n{LOAD}")) == 2


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("laod run=1", "1:1", "unknown instruction 'laod'; did you mean 'load'?"),
        ("fill output=0 value=1 runn=2", "1:23", "'fill' has no field 'runn'; did you mean 'run'?"),
        ("fill output=0 value=1", "1:1", "field 'run' is missing"),
        ("fill value=1 run=1", "1:1", "address 'output' is missing"),
        ("fill output=0 value=40000 run=1", "1:15", "'value' is 40000, expected -32768 to 32767"),
        ("fill output=0 value=x run=1", "1:15", "'value' is 'x', expected an integer"),
        ("fill output=0 value=1 run=1 run=1", "1:29", "'run' is given twice"),
        ("fill output=0 value=1 run=1 wait=dma", "1:29", "unknown engine 'dma', expected one of load, array"),
        ("fill output=0 value=1 run=1 wait=load,load", "1:29", "an engine is named twice"),
        ("fill output=0 value=1 run=1 wait", "1:29", "'wait' is not of the form name=value"),
        ("binary lhs=0 rhs=0 output=0 kind=pow", "1:29", "'kind' is 'pow', expected one of add, sub, mul, div"),
    ],
)
def test_errors_are_located(line, place, message):
    with pytest.raises(CompileError) as caught:
        assemble(line, file="p.asm")
    assert any(str(d).startswith(f"p.asm:{place}: error: {message}") for d in caught.value.diagnostics), caught.value


def test_all_errors_are_collected():
    with pytest.raises(CompileError) as caught:
        assemble("foo\nbar\n")
    assert [d.location.position.line for d in caught.value.diagnostics] == [1, 2]

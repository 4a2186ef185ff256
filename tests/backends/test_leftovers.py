"""A run finds zeros wherever it reads before it writes, whatever runs before it have left there."""

import numpy as np
import pytest
from hypothesis import given, settings
from machine.modules import conv_module
from machine.programs import instruction, program_around
from machine.random_programs import movement_programs

from accelc.backends.emitter import emit
from accelc.backends.simulator import simulator as simulator_module
from accelc.backends.simulator.analysis import analyse
from accelc.backends.simulator.leftovers import leftovers
from accelc.backends.simulator.memory import extents
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.dialects.tile.movement import FillOp, MoveOp


def found(program):
    return leftovers(program, analyse(program).operations, extents(program))


def early_reader():
    """Bytes 8 to 15 are copied to 16 to 23, and only then filled with fives."""
    body = [instruction(MoveOp, input=8, output=16, size3=8), instruction(FillOp, output=8, value=5, run=8)]
    return program_around(body, input_bytes=8, sram_bytes=24)


@pytest.mark.parametrize("proof", [0, 1 << 40])
def test_what_is_read_before_it_is_written_is_zero_in_every_run(monkeypatch, proof):
    monkeypatch.setattr(simulator_module, "CLEARED_BYTES", proof)
    program = early_reader()
    simulator = Simulator(program)
    for turn in range(3):
        data = np.full((2, 8), turn + 1, np.int8)
        expected = np.concatenate([data, np.full((2, 8), 5, np.int8), np.zeros((2, 8), np.int8)], axis=1)
        np.testing.assert_array_equal(simulator.run({"x": data})["y"], expected)


def test_only_what_is_read_early_is_cleared():
    assert found(early_reader()) == {"sram": (slice(8, 16),), "dram": ()}


def test_a_compiled_network_leaves_nothing_to_clear():
    assert found(emit(conv_module(), load_target("tile32"))) == {"sram": (), "dram": ()}


@settings(max_examples=40, deadline=None)
@given(movement_programs())
def test_runs_do_not_depend_on_those_before(program):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator_module, "CLEARED_BYTES", 0)
        simulator = Simulator(program)
        rng = np.random.default_rng(3)
        for _ in range(3):
            data = rng.integers(-128, 128, (2, *program.inputs[0].type.shape[1:])).astype(np.int8)
            plain = Simulator(program, mode="plain").run({"x": data})["y"]
            np.testing.assert_array_equal(simulator.run({"x": data})["y"], plain)

"""The timing model against costs counted access by access, and against engines stepped cycle by cycle."""

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from machine.costs import Cost, count_cost
from machine.networks import networks
from machine.quantized import QuantizedNetwork
from machine.random_programs import (
    elementwise_programs,
    indexing_programs,
    matmul_programs,
    movement_programs,
    window_programs,
)
from machine.scheduled import instructions_of
from machine.stepping import step_through
from machine.targets import tiny_targets

from accelc.backends.program import Program
from accelc.backends.target import Target
from accelc.backends.timing.duration import instruction_timing, operand_addresses
from accelc.backends.timing.engine import QueuedInstruction, run_timeline
from accelc.backends.timing.legality import element_problem
from accelc.backends.timing.program import queue_instructions
from accelc.backends.timing.record import InstructionTiming
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.tile.array import MatmulOp
from accelc.passes.allocate_banks import AllocateBanks
from accelc.passes.framework.environment import Environment
from accelc.passes.insert_tokens import InsertTokens
from accelc.passes.lower_to_tile import LowerToTile
from accelc.passes.schedule import Schedule

LONGEST = 120
"""Instructions of a program that are counted and stepped, both in Python a cycle and an access at a time."""

MOST_CYCLES = 60_000


def costs_of(timing: InstructionTiming | Cost) -> tuple[int, int, dict[int, int], dict[int, int]]:
    """What decides when others may start."""
    return timing.occupancy, timing.latency, dict(timing.reads), dict(timing.writes)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    st.one_of(matmul_programs(), window_programs(), elementwise_programs(), movement_programs(), indexing_programs()),
    tiny_targets(),
    st.integers(0, 700),
)
def test_the_cost_of_every_instruction_agrees_with_counting(program: Program, target: Target, shift: int) -> None:
    for instruction in program.instructions:
        op = instruction.operation()
        if isinstance(op, MatmulOp) and element_problem(op.element, op.weights_element, target):
            continue  # the blocks cannot multiply such numbers
        addresses = {name: address + shift for name, address in instruction.addresses.items()}
        found = instruction_timing(op, target, addresses)
        assert costs_of(found) == costs_of(count_cost(op, target, addresses)), op


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(networks(), tiny_targets(), st.integers(0, 2))
def test_the_timing_model_agrees_with_the_machine_played_cycle_by_cycle(
    network: QuantizedNetwork, target: Target, effort: int
) -> None:
    environment = Environment(target)
    try:
        for step in (LowerToTile(effort), Schedule(), AllocateBanks(), InsertTokens()):
            step.run(network.module, environment)
    except CompileError:
        assume(False)
    ops = instructions_of(network.module)
    queue = queue_instructions(ops, target)
    timeline = run_timeline(queue)
    assume(len(ops) <= LONGEST and timeline.cycles <= MOST_CYCLES)
    played: list[QueuedInstruction] = []
    for index, (op, queued) in enumerate(zip(ops, queue, strict=True)):
        counted = count_cost(op, target, operand_addresses(op))
        assert costs_of(queued.timing) == costs_of(counted), f"instruction {index}: {op}"
        played.append(QueuedInstruction(op.engine, counted, op.wait, op.signal))
    slots = [(slot.start, slot.done) for slot in timeline.slots]
    assert slots == step_through(played, limit=MOST_CYCLES + 1)

"""The estimate of what a schedule waits for its loads, and the budget that is chosen by it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from accelc.backends.target import Target, load_target
from accelc.backends.timing.engine import run_timeline
from accelc.backends.timing.program import queue_instructions
from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.dialects.tile.instruction import InstructionOp
from accelc.passes.allocate_banks import AllocateBanks
from accelc.passes.framework.environment import Environment
from accelc.passes.insert_tokens import InsertTokens
from accelc.passes.lower_to_tile import LowerToTile
from accelc.passes.schedule import Schedule
from accelc.passes.scheduling.emission import StripEmitter
from accelc.passes.scheduling.fitting import ALIKE, discard, fit
from accelc.passes.scheduling.layers import Program
from accelc.passes.scheduling.residency import Policy, Residency
from accelc.passes.scheduling.waiting import waiting_cycles

SMALL = load_target(str(Path(__file__).parents[1] / "schedule" / "inputs" / "small.toml"))
LAYERS, CHANNELS, ROWS = 4, 32, 16


def with_lines(lines: int) -> Target:
    """The small machine with so many lines in a bank: 32 bytes each, in four banks together."""
    return replace(SMALL, sram=replace(SMALL.sram, bank_lines=lines))


def lowered() -> Module:
    """Products one after the other, each with 1 KiB of weights, between tensors of 2 KiB."""
    kind = f"tensor<1x{ROWS}x4x{CHANNELS}x!quant.i8<0.05:-3>>"
    sums = f"tensor<1x{ROWS}x4x{CHANNELS}xi32>"
    weights = f"tensor<1x1x{CHANNELS}x{CHANNELS}xi8>"
    lines = ["const @s : tensor<1xf32> = dense<0.01>"]
    lines += [f"const @w{index} : {weights} = dense<{index + 1}>" for index in range(LAYERS)]
    lines.append(f"func @main(%x: tensor<1x{ROWS}x4x{CHANNELS}xf32>) -> tensor<1x{ROWS}x4x{CHANNELS}xf32> {{")
    lines.append(f'  %0 = quant.quantize %x : tensor<1x{ROWS}x4x{CHANNELS}xf32> -> {kind} loc("in")')
    for index in range(LAYERS):
        place, loc = 2 * index, f'loc("conv{index}")'
        lines.append(f"  %{place + 1} = nn.conv2d %{place}, @w{index} : ({kind}, {weights}) -> {sums} {loc}")
        lines.append(f"  %{place + 2} = quant.requantize %{place + 1}, @s : ({sums}, tensor<1xf32>) -> {kind} {loc}")
    last = 2 * LAYERS
    lines.append(f'  %{last + 1} = quant.dequantize %{last} : {kind} -> tensor<1x{ROWS}x4x{CHANNELS}xf32> loc("out")')
    lines += [f"  return %{last + 1} : tensor<1x{ROWS}x4x{CHANNELS}xf32> -> ()", "}"]
    module = parse_module("\n".join(lines), CONTEXT)
    LowerToTile().run(module, Environment(target=SMALL))
    return module


def drafted(program: Program, target: Target, budget: int) -> StripEmitter:
    plan = Residency.decide(program, target, budget, Policy())
    assert plan is not None
    return StripEmitter(plan)


def test_a_larger_memory_waits_less_for_the_same_order() -> None:
    program = Program.of(lowered().main)
    draft = drafted(program, with_lines(256), 8192)
    tracks = draft.order.tracks
    waits = [waiting_cycles(replace(draft.plan, target=with_lines(lines)), tracks) for lines in (160, 192, 256, 512)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > waits[-1]


def test_no_schedule_ends_before_the_dram_channel_has_moved_everything() -> None:
    program, target = Program.of(lowered().main), with_lines(512)
    slow = replace(target, dma=replace(target.dma, bytes_per_cycle=0.5))
    draft = drafted(program, slow, 16384)
    moved = (LAYERS * CHANNELS * CHANNELS + ROWS * 4 * CHANNELS) / 0.5
    assert draft.order.end >= moved > draft.order.worked


def test_constants_that_units_load_again_are_repeated() -> None:
    program = Program.of(lowered().main)
    twice = replace(program, units=program.units * 2)
    assert program.repeated_bytes == 0
    assert twice.repeated_bytes == sum(unit.constant_bytes for unit in program.units) > 0


@pytest.mark.parametrize("lines", (96, 160, 256))
def test_a_smaller_budget_is_taken_only_where_it_is_quicker(lines: int) -> None:
    program, target = Program.of(lowered().main), with_lines(lines)
    emitter = fit(program, target, True)[0]
    whole = drafted(program, target, target.sram_bytes).cycles
    assert emitter.cycles <= whole or (emitter.plan.budget == target.sram_bytes and not emitter.plan.reserve.is_empty)
    assert emitter.plan.budget == target.sram_bytes or emitter.cycles < whole * (1 - ALIKE)
    discard(emitter.operations)


@cache
def cycles(lines: int) -> int:
    module, environment = lowered(), Environment(target=with_lines(lines))
    for each in (Schedule(), AllocateBanks(), InsertTokens()):
        each.run(module, environment)
    ops = [op for op in module.main.body if isinstance(op, InstructionOp)]
    return run_timeline(queue_instructions(ops, with_lines(lines))).cycles


@pytest.mark.parametrize("lines", (64, 96, 160))
def test_twice_the_lines_cost_no_cycles_where_tensors_are_spilled(lines: int) -> None:
    """From memories in which nothing fits whole to such with room for everything."""
    assert cycles(2 * lines) <= cycles(lines)

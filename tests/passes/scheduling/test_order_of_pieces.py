"""The order of pieces keeps every dependency, and what rolls through a chain stays within the rows it was given."""

from dataclasses import replace
from pathlib import Path

import pytest

from accelc.backends.target import Target, load_target
from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.environment import Environment
from accelc.passes.lower_to_tile import LowerToTile
from accelc.passes.scheduling.emission import StripEmitter
from accelc.passes.scheduling.fusion import chain_of, fuse
from accelc.passes.scheduling.layers import Program
from accelc.passes.scheduling.pieces import NO_ROW, Touch, series_of
from accelc.passes.scheduling.residency import Policy, Residency
from accelc.passes.scheduling.rolling import Rolling

SMALL = load_target(str(Path(__file__).parents[1] / "schedule" / "inputs" / "small.toml"))
ROWS = 24
UNIT_POOLS = (1, 2, 3)
"""Positions of the three pools among the units: a load stands before them, a store behind."""


def chain_of_pools() -> Program:
    """Three 3x3 pools one after the other, on tensors of 24 rows of 64 bytes."""
    kind = f"tensor<1x{ROWS}x8x8x!quant.i8<0.05:-3>>"
    lines = [f"func @main(%x: tensor<1x{ROWS}x8x8xf32>) -> tensor<1x{ROWS}x8x8xf32> {{"]
    lines.append(f'  %0 = quant.quantize %x : tensor<1x{ROWS}x8x8xf32> -> {kind} loc("in")')
    for index in range(3):
        pool = f"nn.max_pool %{index} {{kernel = [3, 3], pads = [1, 1, 1, 1]}}"
        lines.append(f'  %{index + 1} = {pool} : {kind} -> {kind} loc("pool{index}")')
    lines.append(f'  %4 = quant.dequantize %3 : {kind} -> tensor<1x{ROWS}x8x8xf32> loc("out")')
    lines += [f"  return %4 : tensor<1x{ROWS}x8x8xf32> -> ()", "}"]
    module = parse_module("\n".join(lines), CONTEXT)
    LowerToTile().run(module, Environment(target=SMALL))
    return Program.of(module.main)


def plan_within(program: Program, budget: int, target: Target = SMALL) -> Residency:
    plan = Residency.decide(program, target, budget, Policy())
    assert plan is not None
    return plan


def order_of(plan: Residency) -> list[tuple[int, list[Touch]]]:
    """(unit, touches) of every piece in the order of the scheduler."""
    return [(track.index, piece.touches) for track, piece in StripEmitter(plan).order.order]


def test_a_series_says_which_rows_are_needed_still() -> None:
    program = chain_of_pools()
    unit = program.units[UNIT_POOLS[0]]
    series = series_of(program, SMALL, unit, 5)
    (read,) = (tensor for tensor in series.firsts if tensor not in series.writes)
    assert [piece.rows for piece in series.pieces] == [5, 5, 5, 5, 4]
    assert series.firsts[read] == [0, 4, 9, 14, 19], "each piece reads a row above its own"
    assert series.needed(read, 5) == NO_ROW
    assert series.done_before(Touch(read, 0, 9, True)) == 2, "two pieces read rows above the ninth"
    assert series.done_before(Touch(read, 0, 10, True)) == 3


@pytest.mark.parametrize("budget", [2 * ROWS * 64 + 900, 2048])
def test_pieces_come_after_what_they_read_and_before_what_overwrites_them(budget: int) -> None:
    program = chain_of_pools()
    order = order_of(plan_within(program, budget, SMALL if budget <= 2048 else roomy()))
    done: list[tuple[int, list[Touch]]] = []
    for unit, touches in order:
        later = [
            (other, theirs)
            for other, rows in done
            for theirs in rows
            for mine in touches
            if other > unit and mine.conflicts(theirs)
        ]
        assert not later, f"unit {unit} comes after {later}, which needed it first"
        done.append((unit, touches))
    for index, unit in enumerate(program.units):
        rows = [t for i, touches in order if i == index for t in touches if t.writes]
        assert sum(t.last - t.first for t in rows) == (unit.rows if rows else 0)


def test_rolling_tensors_keep_within_their_lag() -> None:
    program = chain_of_pools()
    plan = plan_within(program, SMALL.sram_bytes)
    assert plan.rolls, "three tensors of 1536 bytes do not fit 2048: they pass a few rows at a time"
    written = dict.fromkeys(plan.rolls, 0)
    order = order_of(plan)
    for position, (_, touches) in enumerate(order):
        for touch in touches:
            if touch.tensor in written and touch.writes:
                written[touch.tensor] = max(written[touch.tensor], touch.last)
        for tensor, reached in written.items():
            rest = [t.first for _, rows in order[position:] for t in rows if t.tensor is tensor]
            assert reached - min(rest, default=reached) <= plan.rolls[tensor].lag


def test_a_chain_in_more_pieces_keeps_fewer_rows() -> None:
    program = chain_of_pools()
    first, last = UNIT_POOLS[0], UNIT_POOLS[-1]
    none, few, many = (chain_of(program, SMALL, first, last, count).rolls for count in (8, 12, 24))
    assert not none, "three rows a piece share more rows with their neighbours than they write"
    assert set(few) == set(many) == {program.units[index].main.operands[1] for index in UNIT_POOLS[:-1]}
    assert all(many[tensor].live_rows < few[tensor].live_rows < ROWS for tensor in few)
    assert fuse(program, SMALL, first, last, 64, set(), lambda unit, rows: 0) is None, (
        "not even the fewest rows fit 64 bytes"
    )


def test_rows_at_a_border_are_copied_once() -> None:
    """Segments hold the last rows of the one before; only what has changed since is copied again."""
    program = chain_of_pools()
    plan = plan_within(program, SMALL.sram_bytes)
    tensor, roll = next((tensor, roll) for tensor, roll in plan.rolls.items() if roll.halo)
    rolling = Rolling(plan)
    producer = next(
        u for u in program.units if tensor in u.tensors and program.uses[tensor][0] == program.units.index(u)
    )
    consumer = program.units[program.uses[tensor][1]]
    copies: list[int] = []
    for unit, operand in ((producer, "output"), (consumer, "input"), (consumer, "input")):
        series = series_of(program, SMALL, unit, plan.cuts[program.units.index(unit)].rows)
        for piece in series.pieces:
            for op in piece.operations(unit):
                index = [field.name for field in op.operand_fields].index(operand)
                copies.append(len(rolling.bind(op, index)))
    borders = -(-ROWS // roll.rows) - 1
    assert sum(copies) == borders, "one copy a border, when rows above it are first read"


def roomy() -> Target:
    """The small machine with 8 KiB."""
    return replace(SMALL, sram=replace(SMALL.sram, bank_lines=4 * SMALL.sram.bank_lines))

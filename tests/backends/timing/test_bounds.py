"""Lower bounds: hand-computed, and never above what a matmul takes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.backends.target import load_target
from accelc.backends.timing.bounds import LayerFacts, fluid_cycles, layer_bounds, network_bounds, tiling_cycles

ARRAY32, TILE32 = load_target("array32"), load_target("tile32")


def product(rows, depth, columns, groups=1, **facts):
    return LayerFacts("layer", rows * depth * columns * groups, rows, depth, columns, groups, **facts)


def test_the_bounds_of_a_convolution():
    facts = product(1024, 423, 94, vector_elements=1024 * 94, weight_bytes=40000, input_bytes=48128)
    found = layer_bounds(facts, TILE32)
    assert found.compute == math.ceil(1024 * 423 * 94 / 4096)
    assert found.tiling == 1024 * 14 * 3 // 4
    assert found.vector == 1024 * 94 // 64
    assert found.dram == math.ceil((40000 + 48128) / 16)
    assert found.largest == found.tiling


def test_grouped_products_may_share_tiles():
    assert tiling_cycles(product(64, 8, 8, groups=4), ARRAY32) == 64  # four groups of 8x8 in a 32x32 block
    assert tiling_cycles(product(64, 32, 32, groups=4), ARRAY32) == 4 * 64
    assert tiling_cycles(product(64, 48, 32, groups=4), ARRAY32) == 8 * 64


def test_depthwise_may_run_on_either_engine():
    assert tiling_cycles(product(64, 9, 1, groups=32), ARRAY32) == 64 * 9  # one tap of 32 channels a cycle
    assert tiling_cycles(product(64, 9, 1, groups=32), TILE32) == 64 * 9 // 4


def test_a_layer_without_a_product_has_no_tiling():
    found = layer_bounds(LayerFacts("pool", vector_elements=640), TILE32)
    assert (found.compute, found.tiling, found.vector, found.dram) == (0, 0, 10, 0)


def test_work_flows_between_layers_where_it_may():
    small = LayerFacts("small", macs=1, vector_elements=1, weight_bytes=1)
    found = network_bounds([small] * 5, TILE32)
    assert (found.compute, found.vector, found.dram) == (1, 1, 1)
    assert network_bounds([product(1, 1, 1)] * 5, TILE32).tiling == 5


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(1, 300), st.integers(1, 300))
def test_compute_is_never_above_tiling(rows, depth, columns):
    found = layer_bounds(product(rows, depth, columns), TILE32)
    assert found.compute <= found.tiling


@pytest.mark.parametrize(
    ("work", "capacity", "cycles"),
    [
        ([(100, 0), (100, 800)], 10**6, 200),  # loaded while the first layer computes
        ([(100, 0), (100, 1600)], 10**6, 200),  # half ahead, half as it is consumed
        ([(100, 0), (100, 1600)], 400, 250),  # 400 ahead last 50 cycles, the other 1,200 take 150 at 8 a cycle
        ([(100, 1600)], 10**6, 200),  # nothing to do before the first byte: DRAM-bound
        ([(0, 80), (100, 80), (0, 80)], 40, 115),  # layers without computing take their bytes at once
        ([(50, 0), (50, 0)], 10, 100),
        ([], 10, 0),
    ],
)
def test_weights_flow_no_further_ahead_than_there_is_room(work, capacity, cycles):
    assert fluid_cycles(work, 8, capacity) == pytest.approx(cycles)


WORK = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 4000)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(WORK, st.integers(64, 3000), st.integers(1, 32))
def test_the_flow_lies_between_full_and_no_overlap_and_never_loses_by_a_better_machine(work, capacity, bandwidth):
    compute, dram = sum(cycles for cycles, _ in work), sum(size for _, size in work) / bandwidth
    found = fluid_cycles(work, bandwidth, capacity)
    assert max(compute, dram) - 1e-3 <= found <= compute + dram + 1e-3
    assert fluid_cycles(work, bandwidth, capacity + 100) <= found + 1e-3
    assert fluid_cycles(work, bandwidth + 1, capacity) <= found + 1e-3
    stepped = stepped_flow(work, bandwidth, capacity)
    assert found <= stepped + 1e-3 <= found + 2 * len(work) + 3


def stepped_flow(work, bandwidth, capacity):
    """The same flow a cycle at a time, each layer stopping at the end of a cycle: at most a little slower."""
    time = ahead = 0.0
    left = sum(size for _, size in work)
    for cycles, size in work:
        done = 0.0
        while done < 1 - 1e-9 and (cycles or size):
            arrived = min(
                bandwidth, left, capacity - ahead + (size * min(1 / cycles, 1 - done) if cycles else capacity)
            )
            able = 1 - done if not size else min(1 - done, (ahead + arrived) / size)
            step = min(able, 1 / cycles) if cycles else able
            arrived = min(arrived, capacity - ahead + size * step)
            done, ahead, left, time = done + step, ahead + arrived - size * step, left - arrived, time + 1
    return time


def test_a_network_is_bound_by_its_order_and_the_room():
    first = LayerFacts("much work", macs=4096 * 1000)
    last = LayerFacts("many weights", macs=4096, weight_bytes=2 * TILE32.sram_bytes)
    found = network_bounds([first, last], TILE32)
    assert found.schedule == found.largest == math.ceil(1000 + (2 * TILE32.sram_bytes - 16000) / 16)
    assert network_bounds([last, first], TILE32).schedule == math.ceil(1000 + 2 * TILE32.sram_bytes / 16)

"""Lower bounds: hand-computed, and never above what a matmul takes."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.backends.target import load_target
from accelc.backends.timing.bounds import LayerFacts, layer_bounds, network_bounds, tiling_cycles

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

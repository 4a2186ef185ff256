"""The cost of a matmul: hand-computed cases, and agreement with counting every block, pixel and byte."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.counting import count_matmul

from accelc.backends.target import load_target
from accelc.backends.timing.duration import instruction_timing, matmul_problem, pretend_addresses
from accelc.dialects.core.diagnostics import CompileError

ARRAY32, TILE16, TILE32 = (load_target(name) for name in ("array32", "tile16", "tile32"))


def matmul(height, width, in_c, out_c, kernel=1, **fields):
    """A convolution with stride 1 and padding that keeps the size, on a dense input."""
    shape = {"in_h": height, "in_w": width, "out_h": height, "out_w": width, "in_c": in_c, "out_c": out_c}
    window = dict.fromkeys(("kernel_h", "kernel_w"), kernel) | dict.fromkeys(("pad_top", "pad_left"), kernel // 2)
    steps = dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w", "groups", "pack"), 1)
    memory = {"input_row_stride": width * in_c, "input_pixel_stride": in_c, "input_group_stride": 0}
    mapping = {"fold": "none", "diagonal": False, "split_k": 1, "split_n": 1, "split_m": 1, "tile_columns": 32}
    mapping |= {"weights_stride": 0, "transposed": False}
    numbers = {"element": "i8", "weights_element": "i8"}
    op = SimpleNamespace(name="tile.matmul", **shape | window | steps | memory | mapping | numbers | fields)
    if "useful_macs" not in fields:
        depth = op.kernel_h * op.kernel_w * (1 if op.diagonal else op.in_c)
        op.useful_macs = op.groups * op.out_h * op.out_w * depth * op.out_c // op.pack
    return op


def timing(op, target=ARRAY32, **addresses):
    return instruction_timing(op, target, pretend_addresses(op, target) | addresses)


def lane_share(op, target=ARRAY32):
    """The useful part of the slots in cycles in which the blocks multiply."""
    slots = timing(op, target).slots
    return slots["useful_mac"] / sum(n for cause, n in slots.items() if cause not in ("bank_stall", "weight_load"))


def test_one_tile_loads_its_weights_and_streams_its_pixels():
    found = timing(matmul(4, 4, 32, 32))
    assert found.occupancy == 32 + 16  # 32 lines of weights at one a cycle, then 16 pixels
    assert found.latency == 8
    assert found.slots == {"useful_mac": 16 * 1024, "weight_load": 32 * 1024}
    # 16 lines of input in 4 banks and 32 of weights, in 48 cycles
    assert found.reads == {0: math.ceil(64 * 4 / 48), 1: math.ceil(64 * 8 / 48)} and not found.writes
    assert found.sram_read_lines == 16 + 32


def test_sixteen_bits_take_the_cycles_of_their_products():
    wide, mixed = matmul(8, 8, 32, 32, element="i16", weights_element="i16"), matmul(8, 8, 32, 32, element="i16")
    assert timing(wide).occupancy == 2 * 32 + 4 * 64  # twice the lines of weights, four 8-bit products each
    assert timing(mixed).occupancy == 32 + 2 * 64
    assert timing(wide).slots == {"useful_mac": 64 * 1024, "wide_numbers": 3 * 64 * 1024, "weight_load": 64 * 1024}
    none = replace(ARRAY32, array=replace(ARRAY32.array, int16_rate=0.0))
    assert "'array.int16_rate' of the target is 0" in (matmul_problem(wide, none, pretend_addresses(wide, none)) or "")


def test_bf16_takes_the_cycles_of_its_rate():
    floats = matmul(8, 8, 32, 32, element="bf16", weights_element="bf16")
    assert timing(floats).occupancy == 2 * 32 + 4 * 64  # a rate of 0.25
    assert timing(floats).slots == {"useful_mac": 64 * 1024, "wide_numbers": 3 * 64 * 1024, "weight_load": 64 * 1024}
    fast = replace(ARRAY32, array=replace(ARRAY32.array, bf16_rate=0.5))
    assert timing(floats, fast).occupancy == 2 * 32 + 2 * 64
    none = replace(ARRAY32, array=replace(ARRAY32.array, bf16_rate=0.0))
    assert "'array.bf16_rate' of the target is 0" in (
        matmul_problem(floats, none, pretend_addresses(floats, none)) or ""
    )


def test_weights_are_loaded_under_the_stream():
    assert timing(matmul(4, 4, 64, 32)).occupancy == 32 + max(16, 32) + 16
    assert timing(matmul(8, 8, 64, 32)).occupancy == 32 + max(64, 32) + 64
    assert timing(matmul(8, 8, 64, 64)).occupancy == 32 + 4 * 64


def test_input_and_weights_in_one_group_take_turns():
    op = matmul(8, 8, 64, 32)
    found = timing(op, weights=32768)
    assert found.occupancy == 2 * 32 + 2 * 64
    assert found.bank_stall_cycles == 32
    assert found.slots["bank_stall"] == 32 * 1024
    assert found.reads == {0: math.ceil(64 * 32 / 192) + math.ceil(64 * 16 / 192)}  # lines of one of the 4 banks


def test_weights_come_no_faster_than_one_group_of_banks_gives():
    fast = replace(ARRAY32, array=replace(ARRAY32.array, weight_lines_per_cycle=8))
    assert timing(matmul(4, 4, 32, 32), fast).occupancy == 32 // ARRAY32.sram.interleave + 16


def test_folding_the_window_of_47_to_94_channels():
    op = matmul(8, 8, 47, 94, 3)
    assert lane_share(SimpleNamespace(**vars(op) | {"fold": "window"})) == pytest.approx(423 * 94 / (448 * 96))
    assert 423 * 94 / (448 * 96) > 0.924
    assert lane_share(SimpleNamespace(**vars(op) | {"fold": "row"})) == pytest.approx(423 * 94 / (3 * 160 * 96))
    assert lane_share(op) == pytest.approx(423 * 94 / (9 * 64 * 96))
    assert 0.719 < lane_share(op) < 0.7195


def test_an_unaligned_vector_takes_two_lines_at_once_if_the_crossbar_merges_them():
    op = matmul(4, 4, 32, 32, input_pixel_stride=64, input_row_stride=256)
    assert timing(op, input=16).occupancy == 32 + 16
    narrow = replace(ARRAY32, crossbar=replace(ARRAY32.crossbar, lines_per_vector=1))
    found = timing(op, narrow, input=16)
    assert (found.occupancy, found.bank_stall_cycles) == (32 + 32, 16)


def test_padding_reads_nothing():
    inside = timing(matmul(1, 1, 32, 32))
    around = timing(matmul(1, 1, 32, 32, 3))
    assert inside.sram_read_lines - 32 == 1
    assert around.sram_read_lines - 9 * 32 == 1
    assert around.occupancy == 9 * 32 + 1  # a vector that reads nothing takes its cycle as well


def test_power_of_two_strides_spread_over_the_banks_with_swizzle():
    op = matmul(4, 8, 32, 32, split_m=4, input_pixel_stride=128, input_row_stride=1024)
    plain = replace(TILE32, sram=replace(TILE32.sram, swizzle=False))
    assert timing(op, TILE32).bank_stall_cycles == 0
    assert timing(op, plain).bank_stall_cycles == 8 * 3  # four pixels, 4 lines apart: always the same bank


def test_pixels_that_run_into_the_next_row_have_other_distances():
    """Pixels 2048 bytes apart meet one bank; the second step of four has two pixels in the next row, a line further."""
    op = matmul(2, 6, 32, 32, split_m=4, input_pixel_stride=2048, input_row_stride=6 * 2048 + 32)
    assert timing(op, TILE32).bank_stall_cycles == (4 + 2 + 4) - 3


def test_splits_fill_the_blocks():
    assert timing(matmul(8, 8, 128, 32, split_k=4), TILE32).occupancy == 32 + 64
    assert timing(matmul(8, 8, 32, 128, split_n=4), TILE32).occupancy == 32 + 64
    assert timing(matmul(8, 8, 32, 32, split_m=4), TILE32).occupancy == 8 + 16


def test_unused_blocks_and_missing_pixels_are_edge_rows():
    found = timing(matmul(1, 6, 32, 32, split_m=4), TILE32)
    assert found.slots["edge_rows"] == 2 * 1024
    assert timing(matmul(1, 6, 32, 32), TILE32).slots["edge_rows"] == 6 * 3 * 1024


def test_a_diagonal_has_one_product_a_column():
    found = timing(matmul(8, 8, 64, 64, 3, diagonal=True, split_n=2, split_k=2), TILE32)
    assert found.slots["useful_mac"] == 64 * 9 * 64
    assert found.slots["depthwise_diagonal"] == 64 * 9 * 64 * 31
    assert found.slots["reduction_padding"] == 64 * 2 * 1024  # the tenth tap of five steps of two


def test_zeros_of_packed_groups_are_structural_and_those_of_padded_channels_are_padding():
    op = matmul(4, 4, 32, 32, pack=4, useful_macs=16 * 1024 // 4 - 100)
    assert timing(op).slots["depthwise_diagonal"] == 16 * 1024 * 3 // 4
    assert timing(op).slots["reduction_padding"] == 100


def test_more_useful_macs_than_macs_are_refused():
    with pytest.raises(CompileError, match="expected at most 16384"):
        timing(matmul(4, 4, 32, 32, useful_macs=16 * 1024 + 1))


@pytest.mark.parametrize(
    ("target", "op", "addresses", "problem"),
    [
        (TILE32, matmul(4, 4, 32, 32, split_k=2, split_m=2), {}, None),
        (TILE32, matmul(4, 4, 32, 32, split_k=2, split_m=3), {}, "splits 2 x 1 x 3 need 6 blocks, the target has 4"),
        (TILE32, matmul(4, 4, 3, 32, 3, fold="window"), {"input": 7}, None),
        (TILE32, matmul(4, 4, 32, 64, tile_columns=64), {}, "tile_columns is 64, expected at most 32"),
        (TILE32, matmul(32, 64, 32, 32), {}, None),
        (TILE32, matmul(32, 64, 32, 32), {"accumulator": 1}, "needs accumulator rows up to 2049, the target has 2048"),
        (TILE16, matmul(4, 4, 16, 16, 3, tile_columns=16), {}, None),
        (TILE16, matmul(4, 4, 16, 16, 3, tile_columns=16, fold="window"), {}, None),
        (TILE16, matmul(4, 4, 24, 16, 3, tile_columns=16), {}, "input_pixel_stride is 24, expected a multiple of 16"),
        (TILE16, matmul(4, 4, 8, 16, 3, tile_columns=16, fold="window"), {}, "fold window joins taps in one vector"),
        (TILE16, matmul(4, 4, 16, 16, tile_columns=16), {"input": 8}, "input address is 8, expected a multiple of 16"),
        (TILE16, matmul(1, 1, 24, 16, tile_columns=16), {}, None),
        (TILE16, matmul(4, 4, 16, 16, tile_columns=16), {"weights": 3 * 65536}, "weights lies in bank group 3, which"),
    ],
)
def test_what_the_crossbar_allows(target, op, addresses, problem):
    found = matmul_problem(op, target, pretend_addresses(op, target) | addresses)
    assert (found or "").startswith(problem or "") and bool(found) == bool(problem), found


def test_vectors_must_start_a_line_where_lanes_cannot_rotate():
    narrow = replace(TILE16, array=replace(TILE16.array, lanes=8))
    op = matmul(4, 4, 16, 16, tile_columns=16)
    assert "vectors of 8 lanes" in (matmul_problem(op, narrow, pretend_addresses(op, narrow)) or "")


@st.composite
def cases(draw):
    """A small machine, any matmul on it, and any addresses."""
    small, rates = st.integers(1, 3), st.sampled_from([0.25, 0.3, 0.5, 1.0])
    element, weights_element = draw(st.sampled_from([("i8", "i8"), ("i8", "i8"), ("i16", "i8"), ("i16", "i16")]))
    banks = draw(st.sampled_from([1, 2, 4]))
    target = replace(
        TILE32,
        array=replace(
            TILE32.array, lanes=8, columns=4, blocks=4, weight_lines_per_cycle=draw(small), int16_rate=draw(rates)
        ),
        sram=replace(
            TILE32.sram,
            banks=4,
            bank_lines=draw(st.sampled_from([16, 24, 64, 2048])),
            line_bytes=8,
            interleave=banks,
            read_ports=draw(st.integers(1, 2)),
            swizzle=draw(st.booleans()),
        ),
        crossbar=replace(TILE32.crossbar, lines_per_vector=draw(st.integers(1, 2))),
    )
    in_c, diagonal = draw(st.integers(1, 20)), draw(st.booleans())
    groups = 1 if diagonal else draw(small)
    group_stride = draw(st.integers(0, 24))
    unit = draw(st.sampled_from([1, 8, 64, 512]))  # strides of whole bank periods make many pixels alike
    pixel_stride = -(-(draw(st.integers(0, 8)) + (groups - 1) * group_stride + in_c) // unit) * unit
    in_h, in_w = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    splits = draw(st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 3), (2, 1, 2), (1, 2, 2), (4, 1, 1)]))
    windows = {f"{name}_{axis}": draw(small) for name in ("kernel", "stride", "dilation") for axis in "hw"}
    outputs = in_c if diagonal else draw(st.integers(1, 11))
    if groups == 1 and not diagonal and draw(st.booleans()):
        transposed = draw(st.booleans())
        stride = (in_c if transposed else outputs) + draw(st.sampled_from([0, 1])) * draw(small)
        windows |= {"kernel_h": 1, "kernel_w": 1, "transposed": transposed}
        windows |= {"weights_stride": draw(st.sampled_from([stride, -(-stride // 8) * 8]))}
    op = matmul(
        in_h,
        in_w,
        in_c,
        outputs,
        **windows,
        out_h=draw(st.integers(1, 6)),
        out_w=draw(st.integers(1, 6)),
        pad_top=draw(st.integers(0, 2)),
        pad_left=draw(st.integers(0, 2)),
        groups=groups,
        input_group_stride=group_stride,
        input_pixel_stride=pixel_stride,
        input_row_stride=draw(st.integers(0, 20)) // unit * unit + pixel_stride * in_w,
        tile_columns=draw(st.integers(3, 4)),
        diagonal=diagonal,
        fold=draw(st.sampled_from(["none", "row", "window"])),
        split_k=splits[0],
        split_n=splits[1],
        split_m=splits[2],
        element=element,
        weights_element=weights_element,
    )
    return target, op, {"input": draw(st.integers(0, 700)), "weights": draw(st.integers(0, 2000)), "accumulator": 0}


@settings(max_examples=160, deadline=None)
@given(cases())
def test_agrees_with_counting(case):
    target, op, addresses = case
    expected = count_matmul(op, target, addresses)
    found = instruction_timing(op, target, addresses)
    assert found.occupancy == expected.occupancy
    assert found.bank_stall_cycles == expected.bank_stall
    assert found.sram_read_lines == expected.lines
    assert found.slots == {cause: count for cause, count in expected.slots.items() if count}
    assert sum(found.slots.values()) == found.occupancy * target.macs_per_cycle


def test_weights_that_are_an_activation_load_row_by_row():
    """Rows of 32 bytes in lines of 32: one line a row where rows start at lines, else two."""
    assert timing(matmul(4, 4, 64, 32, weights_stride=96)).occupancy == 32 + max(16, 32) + 16
    assert timing(matmul(4, 4, 64, 32, weights_stride=48)).occupancy == 64 + max(16, 64) + 16
    assert timing(matmul(4, 4, 64, 20, weights_stride=64, transposed=True)).occupancy == 20 + max(16, 20) + 16
    assert timing(matmul(4, 4, 64, 20, weights_stride=65, transposed=True)).occupancy == 40 + max(16, 40) + 16


@pytest.mark.parametrize("fold", ["none", "window"])
def test_agrees_with_counting_on_a_real_strip(fold):
    op = matmul(5, 16, 47, 94, 3, fold=fold, split_k=2, split_m=2)
    addresses = {"input": 4711, "weights": 3 * TILE32.group_bytes, "accumulator": 0}
    expected = count_matmul(op, TILE32, addresses)
    assert instruction_timing(op, TILE32, addresses).occupancy == expected.occupancy


@settings(max_examples=50, deadline=None)
@given(cases())
def test_better_machines_are_never_slower(case):
    target, op, addresses = case
    base = instruction_timing(op, target, addresses).occupancy
    array, sram, crossbar = target.array, target.sram, target.crossbar
    for better in (
        replace(target, array=replace(array, weight_lines_per_cycle=array.weight_lines_per_cycle + 1)),
        replace(target, sram=replace(sram, read_ports=sram.read_ports + 1)),
        replace(target, crossbar=replace(crossbar, lines_per_vector=crossbar.lines_per_vector + 1)),
    ):
        assert instruction_timing(op, better, addresses).occupancy <= base


def test_a_strip_is_priced_quickly():
    """The mapping search asks thousands of times: 500 pixels of 64 channels, and the same again from memory."""
    op = matmul(8, 64, 64, 64, 3, split_k=2, split_m=2)
    addresses = pretend_addresses(op, TILE32)
    instruction_timing(op, TILE32, addresses)
    begin = time.process_time()
    for pad in range(1, 21):
        instruction_timing(SimpleNamespace(**vars(op) | {"input_row_stride": 4096 + 32 * pad}), TILE32, addresses)
    fresh, begin = time.process_time() - begin, time.process_time()
    for _ in range(1000):
        instruction_timing(op, TILE32, addresses)
    assert fresh / 20 < 0.010
    assert (time.process_time() - begin) / 1000 < fresh / 20, "what was asked before is not computed again"

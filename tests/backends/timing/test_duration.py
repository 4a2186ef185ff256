"""The cost of vector instructions and transfers: hand-computed cases on tile32 (32-byte lines, groups of 4 banks)."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine.counting import bank_of

from accelc.backends.target import load_target
from accelc.backends.timing.duration import instruction_timing, operand_addresses, pretend_addresses
from accelc.backends.timing.program import queue_instructions
from accelc.dialects.core.operation import Constant
from accelc.dialects.tile.memory import AllocOp, LoadOp
from accelc.dialects.tile.movement import FillOp, MoveOp
from accelc.dialects.tile.pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp
from accelc.dialects.tile.types import BufferType
from accelc.dialects.tile.vector import BinaryOp, LookupOp, RequantizeOp, RescaleOp

TILE32 = load_target("tile32")
GROUP = TILE32.group_bytes


def instruction(op_class, **fields):
    """An instruction without operands: the attributes given, and 1 for those that cost nothing."""
    declared = op_class.attribute_fields.values()
    defaults = {f.name: f.default if isinstance(f.default, int | str | bool) else 1 for f in declared}
    return SimpleNamespace(name=op_class.name, **defaults | fields)


def pixels(height, width, channels, *names):
    """A dense [height, width, channels] output, and dense operands of these names."""
    fields = {"out_h": height, "out_w": width, "out_c": channels}
    for name in (*names, "output"):
        fields |= {f"{name}_row_stride": width * channels, f"{name}_pixel_stride": channels}
    return fields


def pool(op_class, height, width, channels, **fields):
    """A 2x2 window of stride 2 on a dense image, or what `fields` say."""
    shape = {"in_h": height, "in_w": width, "out_h": height // 2, "out_w": width // 2, "channels": channels}
    window = dict.fromkeys(("kernel_h", "kernel_w", "stride_h", "stride_w"), 2)
    memory = {"input_row_stride": width * channels, "input_pixel_stride": channels}
    memory |= {"output_row_stride": width // 2 * channels, "output_pixel_stride": channels}
    return instruction(op_class, **shape | window | memory | fields)


def timing(op, target=TILE32, **addresses):
    return instruction_timing(op, target, pretend_addresses(op, target) | addresses)


def test_requantize_writes_a_lane_each_cycle():
    found = timing(instruction(RequantizeOp, **pixels(5, 10, 64), group_columns=64))
    assert (found.occupancy, found.latency) == (50, 12)
    assert (found.sram_read_lines, found.sram_write_lines) == (64 * 8 // 32, 100)
    assert (found.reads, found.writes) == ({0: 64 * 4 // 50 + 1}, {1: 32})  # 4 and 25 lines of a bank in 50 cycles
    assert not found.slots


def test_few_channels_cost_whole_lines():
    """8 channels in pixels of 32 bytes: 100 lines in 4 banks for 800 results at 64 a cycle."""
    found = timing(
        instruction(RequantizeOp, **pixels(10, 10, 8) | {"output_row_stride": 320, "output_pixel_stride": 32})
    )
    assert (found.occupancy, found.bank_stall_cycles) == (25, 0)


def test_a_stride_that_meets_one_bank_stalls():
    plain = replace(TILE32, sram=replace(TILE32.sram, swizzle=False))
    op = instruction(RequantizeOp, **pixels(1, 100, 32) | {"output_pixel_stride": 128}, group_columns=32)
    assert timing(op).bank_stall_cycles == 0
    assert (timing(op, plain).occupancy, timing(op, plain).bank_stall_cycles) == (100, 50)


def test_two_inputs_in_one_group_share_its_ports():
    op = instruction(BinaryOp, **pixels(10, 10, 64, "lhs", "rhs"), lhs_channel_stride=1, rhs_channel_stride=1)
    assert timing(op).occupancy == 100
    assert timing(op, lhs=0, rhs=6400).occupancy == 100  # 400 lines in 4 banks
    apart = replace(TILE32, vector=replace(TILE32.vector, lanes=128))
    assert timing(op, apart).occupancy == 50
    assert timing(op, apart, lhs=0, rhs=6400).occupancy == 100
    assert timing(op, apart, lhs=0, rhs=GROUP).occupancy == 50
    assert timing(op, apart, lhs=0, rhs=GROUP).reads == {0: 64, 1: 64}


@pytest.mark.parametrize(("op_class", "lines"), [(LookupOp, 8), (RescaleOp, 1)])
def test_unary_instructions_read_their_parameters_once(op_class, lines):
    found = timing(instruction(op_class, **pixels(4, 4, 32, "input")))
    assert found.sram_read_lines == 16 + lines


def test_softmax_takes_three_passes_and_lrn_its_window_and_three():
    fields = {"element": "i8", **pixels(1, 4, 320, "input")}
    softmax = SimpleNamespace(name="tile.softmax", **fields)
    lrn = SimpleNamespace(name="tile.lrn", size=5, entries=256, **fields)
    assert (timing(softmax).occupancy, timing(softmax).sram_read_lines) == (3 * 20, 3 * 40 + 32)
    assert timing(lrn).occupancy == (5 + 3) * 20


def test_pooling_and_depthwise_take_a_pass_for_every_tap():
    assert timing(pool(MaxPoolOp, 8, 8, 64)).occupancy == 16 * 4
    found = timing(pool(AveragePoolOp, 8, 8, 64))
    assert (found.occupancy, found.sram_read_lines) == (64, 16 * 4 * 2 + 1)
    assert timing(pool(DepthwiseOp, 8, 8, 64)).sram_read_lines == 16 * 4 * 2 + 8 + 16


def test_padding_is_not_read():
    inside = pool(MaxPoolOp, 4, 4, 32, kernel_h=3, kernel_w=3, stride_h=1, stride_w=1, out_h=4, out_w=4)
    padded = SimpleNamespace(**vars(inside) | {"pad_top": 1, "pad_left": 1})
    assert timing(padded).sram_read_lines == 16 + 4 * 12 + 4 * 9  # centre, edges, corners


def test_moves_and_fills_cost_lines():
    copy = instruction(MoveOp, size2=16, size3=256, input_stride2=256, output_stride2=256)
    assert timing(copy).occupancy == 4096 // 32 // 4
    gather = instruction(MoveOp, size3=256, input_stride3=2)
    assert timing(gather).sram_read_lines == 256
    assert timing(instruction(FillOp, inner=10, run=33, output_inner_stride=64)).sram_write_lines == 20
    assert timing(instruction(FillOp, inner=10, run=32, output_inner_stride=32)).sram_write_lines == 10


def transfer(name, **fields):
    base = {"outer": 1, "inner": 1} | {
        f"{side}_{axis}_stride": 0 for side in ("source", "destination") for axis in ("outer", "inner")
    }
    return SimpleNamespace(name=name, **base | fields)


def test_transfers_take_their_bytes():
    load = timing(transfer("tile.load", inner=3, run=100, destination_inner_stride=128))
    assert (load.occupancy, load.latency) == (19, 100)  # 300 bytes at 16 a cycle
    assert (load.dram_read_bytes, load.dram_write_bytes, load.writes, load.reads) == (
        300,
        0,
        {0: math.ceil(64 * 3 / 19)},
        {},
    )
    store = timing(transfer("tile.store", inner=2, run=8, source_inner_stride=GROUP))
    assert (store.occupancy, store.dram_write_bytes, store.reads, store.writes) == (1, 16, {0: 64, 1: 64}, {})
    assert load.sram_write_lines == 12


def test_pretended_operands_do_not_share_a_group():
    op = instruction(BinaryOp, **pixels(10, 10, 64, "lhs", "rhs"))
    addresses = pretend_addresses(op, TILE32)
    assert {addresses[name] // GROUP for name in ("lhs", "rhs", "output")} == {0, 1, 2}


def test_operations_with_addresses_become_queued_instructions():
    buffer = AllocOp.build(address=2 * GROUP, result_types=[BufferType("sram", 4096)])
    constant = Constant("weights", np.zeros(1024, np.int8))
    load = LoadOp.build(
        constant, buffer.buffer, run=1024, destination_offset=64, wait=("array",), signal=("array",), layer=3
    )
    assert operand_addresses(load) == {"destination": 2 * GROUP + 64}
    (found,) = queue_instructions([load], TILE32)
    assert (found.engine, found.wait, found.signal, found.layer) == ("load", ("array",), ("array",), 3)
    assert (found.timing.occupancy, found.timing.writes) == (64, {2: 9})  # lines 2 to 33 meet one bank 9 times


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 70)), min_size=3, max_size=3),
    st.integers(1, 40),
    st.integers(0, 5000),
    st.booleans(),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([32, 37]),
)
def test_lines_agree_with_counting(axes, run, address, swizzle, interleave, lines):
    """The busiest bank of a fill whose runs touch: every run of contiguous bytes meets each of its lines once."""
    sram = replace(TILE32.sram, swizzle=swizzle, interleave=interleave, bank_lines=lines)
    target = replace(TILE32, sram=sram)
    sizes, strides = [size for size, _ in axes[1:]], [stride for _, stride in axes[1:]]
    op = instruction(
        FillOp, outer=sizes[0], inner=sizes[1], run=run, output_outer_stride=strides[0], output_inner_stride=strides[1]
    )
    starts = [address + i * strides[0] + j * strides[1] for i in range(sizes[0]) for j in range(sizes[1])]
    joined = []
    length = run
    if strides[1] == run or sizes[1] == 1:
        length = run * sizes[1]
        starts = starts[:: sizes[1]]
        if strides[0] == length or sizes[0] == 1:
            length *= sizes[0]
            starts = starts[:1]
    for start in starts:
        joined += [bank_of(line, target) for line in range(start // 32, (start + length - 1) // 32 + 1)]
    busiest = max(joined.count(bank) for bank in set(joined))
    found = instruction_timing(op, target, {"output": address})
    assert (found.occupancy, found.sram_write_lines) == (busiest, len(joined))

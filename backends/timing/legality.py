"""What the array and the crossbar let a matmul do: why a machine cannot run it, in words."""

from __future__ import annotations

from collections.abc import Mapping

from ...dialects.tile.elements import ELEMENTS
from ..target import Target
from .matmul import matmul_shape, reduction_vectors
from .record import Instruction


def matmul_problem(op: Instruction, target: Target, addresses: Mapping[str, int]) -> str | None:
    """Why the machine cannot run a matmul with its operands at these addresses, or None.

    The blocks multiply such numbers and the accumulators hold their sums. The split product is at most `blocks`, tiles
    fit the columns (and the lanes, where diagonal), the results fit the accumulators, input and weights lie in groups
    that every block port reaches. Without lane rotation a byte of the input reaches only the lane of its offset within
    the line: every vector is one piece that starts a line.
    """
    shape, array = matmul_shape(op), target.array
    if unsupported := element_problem(shape.element, shape.weights_element, target):
        return unsupported
    blocks = shape.split_k * shape.split_n * shape.split_m
    if blocks > array.blocks:
        splits = f"{shape.split_k} x {shape.split_n} x {shape.split_m}"
        return f"splits {splits} need {blocks} blocks, the target has {array.blocks}"
    if shape.tile_columns > (widest := min(array.columns, array.lanes) if shape.diagonal else array.columns):
        return f"tile_columns is {shape.tile_columns}, expected at most {widest}"
    last = addresses["accumulator"] + shape.accumulator_rows
    if last > target.accumulators.rows:
        return f"needs accumulator rows up to {last}, the target has {target.accumulators.rows}"
    for name, span in (("input", shape.input_span), ("weights", shape.weight_span)):
        outside = set(target.groups_of(addresses[name], span)) - target.reachable_groups
        if outside:
            return f"{name} lies in bank group {min(outside)}, which the block ports do not all reach"
    return alignment_problem(op, target, addresses["input"])


def element_problem(data: str, weights: str, target: Target) -> str | None:
    """Why the array cannot multiply data by weights of these element types, or None."""
    if not target.array.step_cycles(data, weights):
        key = "bf16_rate" if data == "bf16" else "int16_rate"
        return f"'array.{key}' of the target is 0, expected more for data of {data} and weights of {weights}"
    needed = ELEMENTS[data].accumulator_bits
    if target.accumulators.bits < needed:
        return f"'accumulators.bits' of the target is {target.accumulators.bits}, expected {needed} for data of {data}"
    return None


def alignment_problem(op: Instruction, target: Target, address: int) -> str | None:
    """Why the crossbar cannot bring the input at this address to the lanes, or None; see `matmul_problem`."""
    if target.crossbar.lane_rotation:
        return None
    shape, line = matmul_shape(op), target.sram.line_bytes
    vectors = reduction_vectors(shape, target.array.lanes)
    if vectors.length.shape[1] > 1:
        return f"fold {shape.fold} joins taps in one vector, which needs lane rotation"
    if (vectors.channel * shape.data_bytes % line).any():
        return f"vectors of {target.array.lanes} lanes do not start at lines of {line} bytes, which needs lane rotation"
    places = {
        "input address": address,
        "input_row_stride": shape.input_row_stride if shape.in_h > 1 else 0,
        "input_pixel_stride": shape.input_pixel_stride if shape.in_w > 1 else 0,
        "input_group_stride": shape.input_group_stride if shape.groups > 1 else 0,
        "tile_columns": shape.tile_columns * shape.data_bytes if shape.diagonal and shape.column_tiles > 1 else 0,
    }
    for name, value in places.items():
        if value % line:
            return f"{name} is {value}, expected a multiple of {line} without lane rotation"
    return None

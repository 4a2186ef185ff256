"""Cutting one instruction: along output rows, column tiles, groups, or the reduction."""

from __future__ import annotations

from typing import TypeVar

from ...dialects.core.fields import AttributeValue
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.indexing import GatherOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import TransferOp
from ...dialects.tile.movement import FillOp, MoveOp
from ...dialects.tile.pooling import AveragePoolOp
from ...dialects.tile.residual import RequantizeAddOp
from ...dialects.tile.vector import RequantizeOp, VectorOp
from ...dialects.tile.window import WindowOp

InstructionT = TypeVar("InstructionT", bound=InstructionOp)


def row_count(op: InstructionOp) -> int:
    """How many rows an instruction can be cut into."""
    match op:
        case WindowOp() | VectorOp():
            return op.out_h
        case MoveOp():
            return op.sizes[_move_axis(op)]
        case FillOp() | TransferOp() | GatherOp():
            return op.outer
        case _:
            return 1


def with_attributes(op: InstructionT, **changes: AttributeValue) -> InstructionT:
    """A detached copy of an instruction with some attributes changed; defaults are left out."""
    attributes = {**op.attributes, **changes}
    kept = {name: v for name, v in attributes.items() if v != op.attribute_fields[name].default or name == "layer"}
    return type(op)(op.operands, (), kept, op.location)


def cut_rows(op: InstructionT, start: int, count: int) -> InstructionT:
    """The instruction restricted to output rows [start, start + count)."""
    if count == row_count(op):
        return with_attributes(op)
    match op:
        case WindowOp():
            return _cut_window(op, start, count)
        case VectorOp():
            changes: dict[str, AttributeValue] = {"out_h": count}
            for name in ("input", "lhs", "rhs", "residual", "mask", "output"):
                stride = op.attributes.get(f"{name}_row_stride")
                if isinstance(stride, int):
                    changes[f"{name}_offset"] = _integer(op, f"{name}_offset") + start * stride
            return with_attributes(op, **changes)
        case MoveOp():
            axis = _move_axis(op)
            return with_attributes(
                op,
                **{f"size{axis}": count},
                input_offset=op.input_offset + start * op.input_strides[axis],
                output_offset=op.output_offset + start * op.output_strides[axis],
            )
        case FillOp():
            return with_attributes(op, outer=count, output_offset=op.output_offset + start * op.output_outer_stride)
        case TransferOp():
            return with_attributes(
                op,
                outer=count,
                source_offset=op.source_offset + start * op.source_outer_stride,
                destination_offset=op.destination_offset + start * op.destination_outer_stride,
            )
        case GatherOp():
            return with_attributes(
                op,
                outer=count,
                indices_offset=op.indices_offset + start * op.indices_outer_stride,
                destination_offset=op.destination_offset + start * op.destination_outer_stride,
            )
        case _:
            raise TypeError(f"{op.name} cannot be cut into rows")


def cut_tiles(
    matmul: MatmulOp, requantize: list[RequantizeOp], first: int, count: int
) -> tuple[MatmulOp, list[RequantizeOp]]:
    """A product of one group restricted to column tiles [first, first + count).

    Weights and accumulators are those of the chunk alone, but for weights that are a tensor; parameters stay those of
    the layer.
    """
    tile = matmul.tile_columns
    begin, end = first * tile, min((first + count) * tile, matmul.out_c)
    changes: dict[str, AttributeValue] = {"out_c": end - begin, "useful_macs": 0}
    if matmul.weights_stride:
        step = matmul.weights_stride if matmul.transposed else matmul.size_of("weights")
        changes["weights_offset"] = matmul.weights_offset + begin * step
    if matmul.diagonal:
        changes |= {"in_c": end - begin, "input_offset": matmul.input_offset + begin * matmul.size_of("input")}
    cut: list[RequantizeOp] = []
    for op in requantize:
        low, high = max(op.first_column, begin), min(op.first_column + op.out_c, end)
        if low < high:
            skipped = low - op.first_column
            cut.append(
                with_attributes(
                    op,
                    out_c=high - low,
                    first_column=low - begin,
                    group_columns=end - begin,
                    parameters_offset=op.parameters_offset + op.record_bytes * skipped,
                    output_offset=op.output_offset + skipped * op.size_of("output"),
                    **_residual(op, skipped),
                )
            )
    return with_attributes(matmul, **changes), cut


def cut_groups(
    matmul: MatmulOp, requantize: list[RequantizeOp], first: int, count: int
) -> tuple[MatmulOp, list[RequantizeOp]]:
    """A grouped product restricted to groups [first, first + count)."""
    rows = matmul.column_tiles * matmul.rows
    changes: dict[str, AttributeValue] = {
        "groups": count,
        "input_offset": matmul.input_offset + first * matmul.input_group_stride,
        "input_group_stride": matmul.input_group_stride if count > 1 else 0,
        "useful_macs": 0,
    }
    cut: list[RequantizeOp] = []
    for op in requantize:
        own = op.accumulator_offset // rows
        low, high = max(own, first), min(own + op.groups, first + count)
        if low < high:
            skipped = low - own
            cut.append(
                with_attributes(
                    op,
                    groups=high - low,
                    accumulator_offset=(low - first) * rows,
                    parameters_offset=op.parameters_offset + op.record_bytes * skipped * op.out_c,
                    output_offset=op.output_offset + skipped * op.output_group_stride,
                    output_group_stride=op.output_group_stride if high - low > 1 else 0,
                )
            )
    return with_attributes(matmul, **changes), cut


def _residual(op: RequantizeOp, channels: int) -> dict[str, AttributeValue]:
    """The place of the residual, if there is one, so many channels further."""
    if not isinstance(op, RequantizeAddOp):
        return {}
    return {"residual_offset": op.residual_offset + channels * op.size_of("residual")}


def cut_depth(matmul: MatmulOp, first: int, count: int) -> MatmulOp:
    """A product restricted to input channels [first, first + count) of its taps; all but the first accumulate.

    Taps are no longer neighbours in memory, so the window is not folded.
    """
    offset = matmul.input_offset + first * matmul.size_of("input")
    goes_on = matmul.accumulate or first > 0
    return with_attributes(matmul, in_c=count, input_offset=offset, accumulate=goes_on, fold="none", useful_macs=0)


def cut_tap(matmul: MatmulOp, row: int, column: int) -> MatmulOp:
    """A product restricted to one tap of its window; all but the first accumulate."""
    top, left = row * matmul.dilation_h - matmul.pad_top, column * matmul.dilation_w - matmul.pad_left
    height, width = (matmul.out_h - 1) * matmul.stride_h + 1, (matmul.out_w - 1) * matmul.stride_w + 1
    rows = min(matmul.in_h - max(top, 0), height + min(top, 0))
    pixels = min(matmul.in_w - max(left, 0), width + min(left, 0))
    changes: dict[str, AttributeValue] = {"kernel_h": 1, "kernel_w": 1, "accumulate": row + column > 0, "fold": "none"}
    if rows <= 0 or pixels <= 0:  # all is padding: every row lies above the input
        changes |= {"in_h": 1, "in_w": 1, "pad_top": height, "pad_left": 0}
    else:
        offset = max(top, 0) * matmul.input_row_stride + max(left, 0) * matmul.input_pixel_stride
        changes |= {"in_h": rows, "in_w": pixels, "input_offset": matmul.input_offset + offset}
        changes |= {"pad_top": max(-top, 0), "pad_left": max(-left, 0)}
    return with_attributes(matmul, **changes, useful_macs=0)


def _cut_window(op: InstructionT, start: int, count: int) -> InstructionT:
    assert isinstance(op, WindowOp)
    top = start * op.stride_h - op.pad_top
    bottom = (start + count - 1) * op.stride_h + (op.kernel_h - 1) * op.dilation_h - op.pad_top + 1
    first, last = max(top, 0), min(bottom, op.in_h)
    if last <= first:  # all is padding: every row lies above a row that no window reaches
        first, last, top = 0, 1, -max(bottom - top, 0)
    changes: dict[str, AttributeValue] = {
        "out_h": count,
        "in_h": last - first,
        "pad_top": first - top,
        "input_offset": op.input_offset + first * op.input_row_stride,
    }
    stride = op.attributes.get("output_row_stride")
    if isinstance(stride, int):
        changes["output_offset"] = _integer(op, "output_offset") + start * stride
    if isinstance(op, AveragePoolOp):
        changes["counted_top"] = op.counted_top if first == 0 else 0
        changes["counted_bottom"] = op.counted_bottom if last == op.in_h else 0
    return with_attributes(op, **changes)


def _move_axis(op: MoveOp) -> int:
    return next((axis for axis, size in enumerate(op.sizes) if size > 1), 3)


def _integer(op: InstructionOp, name: str) -> int:
    value = op.attribute_or_default(name)
    assert isinstance(value, int)
    return value

"""Which axis of an instruction its rows are: the same instruction with a row for every pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...dialects.core.fields import AttributeValue
from ...dialects.core.operation import Value
from ...dialects.tile.indexing import GatherOp
from ...dialects.tile.instruction import InstructionOp
from ...dialects.tile.memory import TransferOp
from ...dialects.tile.movement import FillOp
from ...dialects.tile.vector import VectorOp
from ...dialects.tile.window import WindowOp
from .layers import Unit

MOST_ROWS = 2**16 - 1
"""The most rows of an instruction."""

_TURNED = ("in", "out", "kernel", "stride", "dilation")
"""What a window has for rows (X_h) and for pixels (X_w)."""


def pixel_strides(unit: Unit) -> dict[Value[Any], int]:
    """The bytes from pixel to pixel of every tensor that a unit reads or writes pixel by pixel, the fewest."""
    return _strides(unit, "pixel")


def row_strides(unit: Unit) -> dict[Value[Any], int]:
    """The bytes from row to row of every tensor that a unit reads or writes row by row, the fewest."""
    return _strides(unit, "row")


def can_split(unit: Unit) -> bool:
    """True if a unit means the same with a row for every pixel, and has more rows then."""
    return unit.main.attributes.get("out_w", 1) != 1 and all(_can_split(op) for op in unit.operations)


def split(unit: Unit) -> None:
    """Give a unit a row for every pixel, in the order of the pixels."""
    for op in unit.operations:
        assert isinstance(op, (VectorOp, WindowOp))
        rows = op.out_h * op.out_w
        turned = op.out_h == 1
        changes: dict[str, AttributeValue] = {}
        for name in _operands(op):
            changes |= {f"{name}_row_stride": getattr(op, f"{name}_pixel_stride"), f"{name}_pixel_stride": 0}
            if turned:
                changes[f"{name}_pixel_stride"] = getattr(op, f"{name}_row_stride")
        if isinstance(op, WindowOp) and turned:
            changes |= _turned(op)
        elif isinstance(op, WindowOp):
            changes |= {"in_h": rows, "in_w": 1}
        _set(op, {**changes, "out_h": rows, "out_w": 1})


def split_transfer(op: TransferOp | GatherOp | FillOp, stride: int) -> None:
    """Give a transfer, gather or fill a row for every `stride` bytes of a tensor, if its runs can be cut so."""
    sides = [name.removesuffix("_outer_stride") for name in op.attribute_fields if name.endswith("_outer_stride")]
    strides = [(getattr(op, f"{side}_outer_stride"), getattr(op, f"{side}_inner_stride")) for side in sides]
    outer, inner, run = op.outer, op.inner, op.run
    if isinstance(op, TransferOp) and inner == 1 and run % stride == 0:
        inner, run, strides = run // stride, stride, [(step, stride) for step, _ in strides]
    dense = outer == 1 or all(apart == inner * step for apart, step in strides)
    if inner == 1 or not dense or outer * inner > MOST_ROWS:
        return
    changes: dict[str, AttributeValue] = {"outer": outer * inner, "inner": 1, "run": run}
    for side, (_, step) in zip(sides, strides, strict=True):
        changes |= {f"{side}_outer_stride": step, f"{side}_inner_stride": 0}
    _set(op, changes)


def _strides(unit: Unit, step: str) -> dict[Value[Any], int]:
    found: dict[Value[Any], int] = {}
    for op in unit.operations:
        for name in _operands(op):
            stride = getattr(op, f"{name}_{step}_stride")
            value = op.operands[[field.name for field in op.operand_fields].index(name)]
            if stride:
                found[value] = min(stride, found.get(value, stride))
    return found


def _operands(op: InstructionOp) -> Iterator[str]:
    """The operands that have rows and pixels."""
    return (field.name for field in op.operand_fields if f"{field.name}_row_stride" in op.attribute_fields)


def _can_split(op: InstructionOp) -> bool:
    """One row of pixels can be turned; more rows can be joined where they follow each other in all operands."""
    if not isinstance(op, (VectorOp, WindowOp)) or op.out_h * op.out_w > MOST_ROWS:
        return False
    if op.out_h == 1:
        return not isinstance(op, WindowOp) or (op.kernel_h == 1 and op.pad_top == 0)
    if isinstance(op, WindowOp):
        fixed = (op.kernel_h, op.kernel_w, op.stride_h, op.stride_w, op.in_h, op.in_w, op.pad_top, op.pad_left)
        if fixed != (1, 1, 1, 1, op.out_h, op.out_w, 0, 0):
            return False
    return all(
        getattr(op, f"{name}_row_stride") == op.out_w * getattr(op, f"{name}_pixel_stride") for name in _operands(op)
    )


def _turned(op: WindowOp) -> dict[str, AttributeValue]:
    """The window of one row over pixels as one of a pixel over rows."""
    found: dict[str, AttributeValue] = {"pad_top": op.pad_left, "pad_left": op.pad_top}
    for name in _TURNED:
        found |= {f"{name}_h": getattr(op, f"{name}_w"), f"{name}_w": getattr(op, f"{name}_h")}
    if op.attributes.get("fold") == "row":
        found["fold"] = "window"
    for first, second in (("counted_top", "counted_left"), ("counted_bottom", "counted_right")):
        if first in op.attribute_fields:
            found |= {first: getattr(op, second), second: getattr(op, first)}
    return found


def _set(op: InstructionOp, changes: dict[str, AttributeValue]) -> None:
    """Change attributes; defaults are left out."""
    for name, value in changes.items():
        if value == op.attribute_fields[name].default:
            op.attributes.pop(name, None)
        else:
            op.attributes[name] = value

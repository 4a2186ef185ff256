"""Sums of a product and another tensor happen while the product is requantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..dialects.core.operation import Module, Value
from ..dialects.tile.instruction import InstructionOp, Region
from ..dialects.tile.memory import AllocOp
from ..dialects.tile.residual import RequantizeAddOp
from ..dialects.tile.vector import BinaryOp, RequantizeOp
from .framework.base import Pass
from .framework.environment import Environment

FUSED_ELEMENTS = ("i8", "bf16")
"""The numbers that tile.requantize_add works on."""


@dataclass(frozen=True)
class FuseResiduals(Pass):
    """Add a residual while a product is requantized, instead of in a pass of its own.

    requantize(acc) -> t; add(t, r) -> out  ==  requantize_add(acc, r) -> out, where nothing else reads t, and nothing
    touches t, r or out between the two. The sum then costs no cycle of its own, and t takes no memory.
    """

    name: ClassVar[str] = "fuse-residuals"

    def run(self, module: Module, environment: Environment) -> None:
        """Fuse every sum that can be."""
        operations = [op for op in module.main.body if isinstance(op, InstructionOp)]
        users: dict[Value[Any], list[int]] = {}
        for position, op in enumerate(operations):
            for value in dict.fromkeys(op.operands):
                users.setdefault(value, []).append(position)
        for position, op in enumerate(operations):
            if isinstance(op, BinaryOp) and op.kind == "add" and op.element in FUSED_ELEMENTS:
                for side, other in (("lhs", "rhs"), ("rhs", "lhs")):
                    found = _producer(operations, users, position, side, other)
                    if found is not None:
                        producer = operations[found]
                        assert isinstance(producer, RequantizeOp)
                        fused = module.main.body.insert_before(producer, _fused(producer, op, side, other))
                        producer.erase()
                        op.erase()
                        operations[found] = fused
                        break
        for op in list(module.main.body):
            if isinstance(op, AllocOp) and op.buffer.is_unused:
                op.erase()


def _producer(
    operations: list[InstructionOp], users: dict[Value[Any], list[int]], position: int, side: str, other: str
) -> int | None:
    """The position of the requantization that the sum at `position` can join with its operand `side`, or None."""
    op = operations[position]
    assert isinstance(op, BinaryOp)
    region, output = _region(op, side), _region(op, "output")
    tensor, buffers = _buffer(op, region), {_buffer(op, each) for each in op.regions()}
    before = [at for at in users[tensor] if at < position and _touches(operations[at], tensor, region)]
    after = [at for at in users[tensor] if at > position and _touches(operations[at], tensor, region)]
    overwritten = _buffer(op, output) is tensor and (output.offset, output.end) == (region.offset, region.end)
    if len(before) != 1 or (after and not overwritten):
        return None
    producer = operations[before[0]]
    if not isinstance(producer, RequantizeOp) or isinstance(producer, RequantizeAddOp) or producer.groups != 1:
        return None
    written = _region(producer, "output")
    same = (written.offset, written.shape[1:], written.strides[1:]) == (region.offset, region.shape, region.strides)
    alike = producer.zero_point == getattr(op, f"{side}_zero") and producer.element == op.element
    residual = _region(op, other)
    if _buffer(op, residual) is tensor and residual.offset < region.end and region.offset < residual.end:
        return None
    if not same or not alike or getattr(op, f"{other}_channel_stride") != op.size_of(other):
        return None
    between = operations[before[0] + 1 : position]
    return before[0] if all(buffers.isdisjoint(each.operands) for each in between if each.parent is not None) else None


def _fused(requantize: RequantizeOp, add: BinaryOp, side: str, other: str) -> RequantizeAddOp:
    """Both instructions in one."""
    kept = {name: v for name, v in requantize.attributes.items() if not name.startswith("output_")}
    moved = {name: v for name, v in add.attributes.items() if name.startswith("output_")}
    taken: dict[str, int] = {
        "residual_offset": getattr(add, f"{other}_offset"),
        "residual_row_stride": getattr(add, f"{other}_row_stride"),
        "residual_pixel_stride": getattr(add, f"{other}_pixel_stride"),
        "residual_zero": getattr(add, f"{other}_zero"),
        "own_multiplier": getattr(add, f"{side}_multiplier"),
        "residual_multiplier": getattr(add, f"{other}_multiplier"),
        "sum_shift": add.shift,
        "sum_zero": add.zero_point,
        "sum_low": add.low,
        "sum_high": add.high,
    }
    fields = RequantizeAddOp.attribute_fields
    taken = {name: value for name, value in taken.items() if value != fields[name].default}
    accumulator, parameters, _ = requantize.operands
    operands: list[Value[Any]] = [accumulator, parameters, add.output, getattr(add, other)]
    return RequantizeAddOp(operands, (), kept | moved | taken, requantize.location.merged(add.location))


def _region(op: InstructionOp, operand: str) -> Region:
    return next(region for region in op.regions() if region.operand == operand)


def _buffer(op: InstructionOp, region: Region) -> Value[Any]:
    return op.operands[[declared.name for declared in op.operand_fields].index(region.operand)]


def _touches(op: InstructionOp, tensor: Value[Any], region: Region) -> bool:
    """True if an instruction that is still there touches a byte between the first and the last of the region."""
    return op.parent is not None and any(
        _buffer(op, each) is tensor and each.offset < region.end and region.offset < each.end for each in op.regions()
    )

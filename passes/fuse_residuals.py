"""Sums of a product and another tensor happen while the product is requantized."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
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
        touches: dict[Value[Any], _Touches] = {}
        for position, op in enumerate(operations):
            _record(touches, position, op)
        for position, op in enumerate(operations):
            if isinstance(op, BinaryOp) and op.kind == "add" and op.element in FUSED_ELEMENTS:
                for side, other in (("lhs", "rhs"), ("rhs", "lhs")):
                    found = _producer(operations, touches, position, side, other)
                    if found is not None:
                        producer = operations[found]
                        assert isinstance(producer, RequantizeOp)
                        fused = module.main.body.insert_before(producer, _fused(producer, op, side, other))
                        for at, gone in ((found, producer), (position, op)):
                            for value in dict.fromkeys(gone.operands):
                                touches[value].remove(at)
                            gone.erase()
                        operations[found] = fused
                        _record(touches, found, fused)
                        break
        for op in list(module.main.body):
            if isinstance(op, AllocOp) and op.buffer.is_unused:
                op.erase()


@dataclass
class _Touches:
    """Of one buffer: by the position of an instruction the bytes that it touches, each from an offset to an end."""

    positions: list[int] = field(default_factory=list[int])
    spans: dict[int, list[tuple[int, int]]] = field(default_factory=dict[int, list[tuple[int, int]]])

    def add(self, position: int) -> list[tuple[int, int]]:
        """The spans of an instruction, to be filled."""
        if position not in self.spans:
            insort(self.positions, position)
        return self.spans.setdefault(position, [])

    def remove(self, position: int) -> None:
        """Forget an instruction."""
        self.positions.remove(position)
        del self.spans[position]

    def last_before(self, position: int) -> int | None:
        """The last instruction before one."""
        index = bisect_left(self.positions, position)
        return self.positions[index - 1] if index else None


def _record(touches: dict[Value[Any], _Touches], position: int, op: InstructionOp) -> None:
    for value in op.operands:
        touches.setdefault(value, _Touches()).add(position)
    for region in op.regions():
        touches[_buffer(op, region)].add(position).append((region.offset, region.end))


def _producer(
    operations: list[InstructionOp], touches: dict[Value[Any], _Touches], position: int, side: str, other: str
) -> int | None:
    """The position of the requantization that the sum at `position` can join with its operand `side`, or None."""
    op = operations[position]
    assert isinstance(op, BinaryOp)
    region, output = _region(op, side), _region(op, "output")
    tensor, buffers = _buffer(op, region), {_buffer(op, each) for each in op.regions()}
    last = [touches[buffer].last_before(position) for buffer in buffers]
    found = touches[tensor].last_before(position)
    if found is None or any(at is not None and at > found for at in last):
        return None  # something comes between
    producer = operations[found]
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
    touching = [
        at
        for at, spans in touches[tensor].spans.items()
        if at not in (found, position) and any(offset < region.end and region.offset < end for offset, end in spans)
    ]
    overwritten = _buffer(op, output) is tensor and (output.offset, output.end) == (region.offset, region.end)
    if min(touching, default=position) < position or (touching and not overwritten):
        return None
    return found


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

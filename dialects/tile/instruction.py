"""What all instructions share: the engine that runs them and the tokens that order them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..core.fields import AttributeField, attribute, list_attribute
from ..core.operation import Operation

ENGINES = ("load", "array", "vector", "store")
"""The four engines; each runs its own instructions in order."""


@dataclass(frozen=True, slots=True)
class Region:
    """What an instruction touches of the buffer `operand`: the elements at offset + sum(index * stride).

    Units are bytes; in accumulators they are int32 elements. An input window counts as dense: gaps that a stride
    skips are included. A shape with a 0 touches nothing.
    """

    operand: str
    writes: bool
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements, repetitions by a stride of 0 or overlapping strides included."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """One past the last element touched; strides are not negative, so `offset` is the first."""
        if not self.size:
            return self.offset
        return self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)) + 1

    @property
    def is_dense(self) -> bool:
        """True if every element from `offset` to `end` is touched exactly once, in order."""
        expected = 1
        for count, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if count > 1 and stride != expected:
                return False
            expected *= count
        return True


class InstructionOp(Operation):
    """One instruction. Before scheduling it spans a whole layer, after it what the machine does in one go.

    `wait` names the engines from which one token is taken before the start; `signal` those that get one at the end.
    Every operand called X that is a buffer has an attribute `X_offset`: bytes (rows in accumulators) from its start.
    `layer` is its index in the module's attribute `layers`, the names of the layers in order of execution.
    """

    engine: ClassVar[str]
    spaces: ClassVar[Mapping[str, str]] = {}
    """The memory of each operand that does not lie in SRAM."""

    layer = attribute(int, default=0)
    wait = list_attribute(str, default=(), choices=ENGINES)
    signal = list_attribute(str, default=(), choices=ENGINES)

    def regions(self) -> tuple[Region, ...]:
        """All memory it reads and writes, reads first; offsets are relative to the buffers, as `X_offset` is."""
        raise TypeError(f"{self.name} does not say which memory it touches")


def offset_fields(op_class: type[InstructionOp]) -> dict[str, AttributeField[int]]:
    """The `X_offset` attribute of every operand X."""
    return {field.name: op_class.attribute_fields[f"{field.name}_offset"] for field in op_class.operand_fields}

"""Element types of instructions: what one number in SRAM is, and the one rule by which sizes, views and regions follow.

An instruction says which numbers it works on by the attribute `element`; offsets and strides stay bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from ..core.fields import attribute
from ..core.types import BF16, I8, I16, Array, ScalarType
from ..quant.bfloat16 import from_ordinals
from ..quant.types import BRAIN_FLOAT
from .instruction import InstructionOp, Region
from .types import number_view


@dataclass(frozen=True)
class Element:
    """A kind of number that instructions read and write.

    `accumulator_bits` is what a sum of products of such numbers needs; `record_bytes` the size of the parameters that
    one channel of it is requantized with (see `records`). Fields of instructions hold an integer as it is, and a float
    as its ordinal. Floats have no zero points and no fixed-point multipliers: where an instruction has fields for
    these, they are 0. Sums of their products are float32 numbers in the low half of an accumulator.
    """

    type: ScalarType
    accumulator_bits: int
    record_bytes: int

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type, little-endian in memory."""
        return self.type.dtype

    @cached_property
    def size(self) -> int:
        """Bytes of one number."""
        return self.type.dtype.itemsize

    @cached_property
    def is_float(self) -> bool:
        """True for bfloat16: the numeric contract is that of `accelc.dialects.quant.bfloat16`."""
        return self.type.is_float

    @cached_property
    def low(self) -> int:
        """The smallest number, as a field holds it."""
        return BRAIN_FLOAT.low if self.is_float else int(np.iinfo(self.dtype).min)

    @cached_property
    def high(self) -> int:
        """The largest number, as a field holds it."""
        return BRAIN_FLOAT.high if self.is_float else int(np.iinfo(self.dtype).max)

    def stored(self, field: int) -> Any:
        """The number that a field holds, as memory does."""
        return from_ordinals(np.asarray(field))[()] if self.is_float else field

    def sums(self, accumulators: Array) -> Array:
        """The sums of products in int64 accumulators [..., n], as a view: int64, or float32 for floats."""
        return accumulators.view("<f4")[..., ::2] if self.is_float else accumulators


ELEMENTS = {"i8": Element(I8, 32, 8), "i16": Element(I16, 48, 12), "bf16": Element(BF16, 32, 8)}
ELEMENT_NAMES = tuple(ELEMENTS)


def element_of_size(size: int) -> str:
    """An element of so many bytes, for instructions that only copy numbers."""
    return next(name for name, element in ELEMENTS.items() if element.size == size)


_INTEGERS_ONLY = (
    *("zero_point", "input_zero", "weights_zero", "lhs_zero", "rhs_zero", "residual_zero", "sum_zero"),
    *("lhs_multiplier", "rhs_multiplier", "own_multiplier", "residual_multiplier"),
    *("shift", "sum_shift", "pre_shift"),
)
"""Fields of fixed-point arithmetic."""


@cache
def _element_fields(op_class: type[InstructionOp]) -> tuple[str, ...]:
    return tuple(name for name in op_class.attribute_fields if name.endswith("element"))


@cache
def _element_field(op_class: type[InstructionOp], operand: str) -> str:
    """The attribute that names the element of an operand."""
    name = f"{operand}_element"
    return name if name in op_class.attribute_fields else "element"


class ElementOp(InstructionOp):
    """An instruction on numbers of the type `element`; where operand X has its own, that is the attribute `X_element`.

    The clip bounds `low` and `high`, zero points and fill values are numbers of the element that they meet.
    """

    element = attribute(str, default="i8", choices=ELEMENT_NAMES, bits=2)

    def verify(self) -> None:
        super().verify()
        kinds = dict.fromkeys(getattr(self, name) for name in _element_fields(type(self)))
        if "bf16" not in kinds:
            return
        if len(kinds) > 1:
            raise self.error(f"works on {' and '.join(kinds)}, expected bf16 alone")
        for name in _INTEGERS_ONLY:
            if self.attributes.get(name):
                raise self.error(f"{name} is {self.attributes[name]}, expected 0 for numbers of bf16")

    def element_of(self, operand: str) -> Element:
        """The element type of an operand."""
        return ELEMENTS[getattr(self, _element_field(type(self), operand))]

    def size_of(self, operand: str) -> int:
        """Bytes of one number of an operand."""
        return self.element_of(operand).size

    def region(
        self, operand: str, writes: bool, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> Region:
        """The bytes of the numbers at offset + sum(index * stride) of an operand, all in bytes."""
        size = self.size_of(operand)
        if size == 1:
            return Region(operand, writes, offset, shape, strides)
        return Region(operand, writes, offset, (*shape, size), (*strides, 1))

    def view(self, operand: str, memory: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
        """The numbers at offset + sum(index * stride) bytes of flat int8 memory, as a view [..., *shape].

        A leading axis of `memory` (samples) is kept in front. Raises ValueError out of bounds.
        """
        return number_view(memory, self.element_of(operand).dtype, offset, shape, strides)

"""Element types of instructions: what one number in SRAM is, and the one rule by which sizes, views and regions follow.

An instruction says which numbers it works on by the attribute `element`; offsets and strides stay bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.fields import attribute
from ..core.types import I8, I16, Array, ScalarType
from .instruction import InstructionOp, Region


@dataclass(frozen=True, slots=True)
class Element:
    """A kind of number that instructions read and write.

    `accumulator_bits` is what a sum of products of such numbers needs; `record_bytes` the size of the bias, multiplier
    and shift that one channel of it is requantized with (see `records`).
    """

    type: ScalarType
    accumulator_bits: int
    record_bytes: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type, little-endian in memory."""
        return self.type.dtype

    @property
    def size(self) -> int:
        """Bytes of one number."""
        return self.type.dtype.itemsize

    @property
    def low(self) -> int:
        """The smallest number."""
        return int(np.iinfo(self.dtype).min)

    @property
    def high(self) -> int:
        """The largest number."""
        return int(np.iinfo(self.dtype).max)


ELEMENTS = {"i8": Element(I8, 32, 8), "i16": Element(I16, 48, 12)}
ELEMENT_NAMES = tuple(ELEMENTS)


def element_of_size(size: int) -> str:
    """An element of so many bytes, for instructions that only copy numbers."""
    return next(name for name, element in ELEMENTS.items() if element.size == size)


class ElementOp(InstructionOp):
    """An instruction on numbers of the type `element`; where operand X has its own, that is the attribute `X_element`.

    The clip bounds `low` and `high`, zero points and fill values are numbers of the element that they meet.
    """

    element = attribute(str, default="i8", choices=ELEMENT_NAMES, bits=2)

    def element_of(self, operand: str) -> Element:
        """The element type of an operand."""
        name = f"{operand}_element"
        return ELEMENTS[getattr(self, name) if name in self.attribute_fields else self.element]

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
        dtype = self.element_of(operand).dtype
        reach = sum((count - 1) * stride for count, stride in zip(shape, strides, strict=True))
        end = offset + reach + dtype.itemsize
        if offset < 0 or end > memory.shape[-1]:
            raise ValueError(f"address range {offset} to {end - 1} is outside a buffer of {memory.shape[-1]}")
        first = memory[..., offset : offset + dtype.itemsize].view(dtype)
        return np.lib.stride_tricks.as_strided(first, (*memory.shape[:-1], *shape), (*memory.strides[:-1], *strides))

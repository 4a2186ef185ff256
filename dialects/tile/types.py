"""Buffers: pieces of DRAM, SRAM or accumulator memory, and the strided views instructions take of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core.types import Array, DialectType

SPACES = ("dram", "sram", "acc")


@dataclass(frozen=True, slots=True)
class BufferType(DialectType):
    """`size` consecutive bytes of a memory `space`; in `acc` the size counts accumulator rows of int32 columns."""

    name: ClassVar[str] = "tile"
    keywords: ClassVar[tuple[str, ...]] = ("buffer",)

    space: str
    size: int

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"memory space is '{self.space}', expected one of {', '.join(SPACES)}")
        if self.size <= 0:
            raise ValueError(f"size is {self.size}, expected at least 1")

    @classmethod
    def from_parameters(cls, keyword: str, parameters: list[int | float | str]) -> BufferType:
        if len(parameters) != 2 or not isinstance(parameters[0], str) or not isinstance(parameters[1], int):
            raise ValueError("expected <space, size>")
        return cls(parameters[0], parameters[1])

    def __str__(self) -> str:
        return f"!tile.buffer<{self.space}, {self.size}>"


def strided_view(memory: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """The elements of flat `memory` at offset + sum(index * stride), all in units of elements.

    A leading axis of `memory` other than its last (samples) is kept in front. Raises ValueError out of bounds.
    """
    reach = [stride * (count - 1) for count, stride in zip(shape, strides, strict=True)]
    low = offset + sum(min(r, 0) for r in reach)
    high = offset + sum(max(r, 0) for r in reach)
    if low < 0 or high >= memory.shape[-1]:
        raise ValueError(f"address range {low} to {high} is outside a buffer of {memory.shape[-1]}")
    item = memory.strides[-1]
    return np.lib.stride_tricks.as_strided(
        memory[..., offset:],
        (*memory.shape[:-1], *shape),
        (*memory.strides[:-1], *(stride * item for stride in strides)),
    )


def number_view(
    memory: Array, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Array:
    """The numbers of a type at offset + sum(index * stride) bytes of flat int8 memory, as a view [..., *shape].

    Leading axes of `memory` (samples) are kept in front; strides are not negative. Raises ValueError out of bounds.
    """
    reach = sum((count - 1) * stride for count, stride in zip(shape, strides, strict=True))
    end = offset + reach + dtype.itemsize
    if offset < 0 or end > memory.shape[-1]:
        raise ValueError(f"address range {offset} to {end - 1} is outside a buffer of {memory.shape[-1]}")
    first = memory[..., offset : offset + dtype.itemsize].view(dtype)
    return np.lib.stride_tricks.as_strided(first, (*memory.shape[:-1], *shape), (*memory.strides[:-1], *strides))

"""The state of the simulated machine for a number of samples at once, and the scratch space of the fast path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.types import Array
from ..encoding import space_of
from ..program import Program

MEMORY_LIMIT = 4 << 30
"""The state of one sample may take this many bytes of the host's memory."""


@dataclass(frozen=True, slots=True)
class Extents:
    """How much of each memory a program touches: SRAM bytes, DRAM bytes behind the constants, accumulators."""

    sram: int
    dram: int
    accumulators: int

    @property
    def sample_bytes(self) -> int:
        """The memory that the state of one sample takes (accumulators as 64-bit integers)."""
        return self.sram + self.dram + 8 * self.accumulators


def extents(program: Program) -> Extents:
    """The extents of a program; CompileError if one sample would not fit into MEMORY_LIMIT."""
    sram = 0
    for instruction in program.instructions:
        for region in instruction.regions():
            if space_of(instruction.op_class, region.operand) == "sram":
                sram = max(sram, region.end)
    target = program.target
    found = Extents(sram, program.dram_bytes - program.constants.size, target.accumulators.rows * target.array.columns)
    if found.sample_bytes > MEMORY_LIMIT:
        raise CompileError(f"one sample takes {found.sample_bytes} bytes of memory, at most {MEMORY_LIMIT}")
    return found


NUMBER = 8
"""Bytes of the widest number."""


@dataclass(eq=False)
class Memory:
    """SRAM int8 [samples, bytes]; DRAM int8 [samples, bytes] without the constants, which all samples share.

    `accumulators` int64 [samples, elements] is used by the plain path only (the fast path keeps each result apart).
    """

    samples: int
    constants: Array
    sram: Array
    dram: Array
    accumulators: Array
    fresh: bool = True

    @staticmethod
    def allocate(program: Program, size: Extents, samples: int, *, accumulators: bool) -> Memory:
        """Zeroed memories; without `accumulators` those stay empty. Samples start at multiples of NUMBER bytes."""
        elements = size.accumulators if accumulators else 0
        return Memory(
            samples,
            program.constants,
            np.zeros((samples, -(-size.sram // NUMBER) * NUMBER), np.int8),
            np.zeros((samples, -(-size.dram // NUMBER) * NUMBER), np.int8),
            np.zeros((samples, elements), np.int64),
        )

    def reset(self, ranges: Mapping[str, Sequence[slice]] | None = None) -> None:
        """As after power-on; reading what nothing has written then gives 0 for every sample alike.

        Of SRAM and DRAM only `ranges`, where it is known that a run reads nothing else before it writes.
        """
        if self.fresh:
            self.fresh = False
            return
        self.accumulators.fill(0)
        for space, memory in (("sram", self.sram), ("dram", self.dram)):
            for part in (slice(None),) if ranges is None else ranges[space]:
                memory[:, part].fill(0)

    def locate(self, space: str, address: int) -> tuple[Array, int, bool]:
        """(array, address of its first element, True if all samples share it) of the memory that holds an address."""
        if space == "dram":
            if address < self.constants.size:
                return self.constants, 0, True
            return self.dram, self.constants.size, False
        return (self.sram if space == "sram" else self.accumulators), 0, False


@dataclass(eq=False)
class Scratch:
    """Buffers that live within one instruction and are shared by all of them, by purpose and element type.

    `compiled` tells the instructions that are bound with it to use machine code (kernels.py) where there is some.
    """

    compiled: bool = False
    arrays: dict[tuple[str, str], Array] = field(default_factory=dict[tuple[str, str], Array])

    def take(self, purpose: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
        """A contiguous array; its contents are undefined, and lost when another instruction takes the same purpose."""
        size = math.prod(shape)
        key = (purpose, np.dtype(dtype).str)
        known = self.arrays.get(key)
        if known is None or known.size < size:
            grown = size if known is None else max(size, known.size + known.size // 2)
            known = self.arrays[key] = np.empty(grown, dtype)
        return known[:size].reshape(shape)

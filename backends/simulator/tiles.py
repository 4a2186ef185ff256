"""Machine code for tiles: what LLVM has in common for kernels that hold the sums of a few rows in registers.

A kernel reads rows where they lie: for every tap, row r of the data is a run of bytes at places[r, 0] + taps[t], and
its sums go to places[r, 1]. Needs Numba: import it only where that is. A tile is written in LLVM's language, as no
compiler makes tiles of loops.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

ir: Any = import_module("llvmlite.ir")
cgutils: Any = import_module("numba.core.cgutils")
_types: Any = import_module("numba.core.types")
_extending: Any = import_module("numba.extending")

LANES = 16
"""Numbers that are worked on at once, as many as 32-bit ones fit a register of AVX-512."""

BYTE, INT, LONG = (ir.IntType(bits) for bits in (8, 32, 64))
MASK = ir.VectorType(ir.IntType(1), LANES)

Builder = Any
Address = Any


def vector(element: Any) -> Any:
    """The type of LANES elements."""
    return ir.VectorType(element, LANES)


def long(value: int) -> Any:
    """A constant address or number."""
    return ir.Constant(LONG, value)


class Tile(ABC):
    """Writes the code for `height` rows; `given` are the values of a kernel's fields by name."""

    def __init__(self, builder: Builder, given: dict[str, Any], height: int) -> None:
        self.builder, self.given, self.height = builder, given, height

    @abstractmethod
    def write(self, places: Address) -> None:
        """Code for the rows whose places start at an address: all taps, stored."""

    def rows(self, places: Address) -> list[Address]:
        """Where the data of every row starts."""
        b = self.builder
        return [b.add(self.given["data"], self.load(b.add(places, long(16 * m)), LONG)) for m in range(self.height)]

    def targets(self, places: Address) -> list[Address]:
        """Where the sums of every row go."""
        b = self.builder
        return [b.add(self.given["out"], self.load(b.add(places, long(16 * m + 8)), LONG)) for m in range(self.height)]

    def load(self, address: Address, kind: Any) -> Any:
        """What stands at an address of any alignment."""
        found = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        found.align = 1
        return found

    def spread(self, value: Any) -> Any:
        """A number in all lanes."""
        kind = vector(value.type)
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(INT, 0))
        return self.builder.shuffle_vector(first, nothing, ir.Constant(vector(INT), [0] * LANES))

    def mask(self, count: Any) -> Any:
        """The first so many lanes, all if there are more."""
        lanes = ir.Constant(vector(INT), list(range(LANES)))
        return self.builder.icmp_signed("<", lanes, self.spread(self.builder.trunc(count, INT)))

    def masked_load(self, address: Address, kind: Any, name: str, mask: Any) -> Any:
        """A vector of `kind`, called `name` by LLVM, of which only lanes in the mask are read; others are 0."""
        function = ir.FunctionType(kind, [kind.as_pointer(), INT, MASK, kind])
        callee = cgutils.get_or_insert_function(self.builder.module, function, f"llvm.masked.load.{name}.p0")
        target = self.builder.inttoptr(address, kind.as_pointer())
        return self.builder.call(callee, [target, ir.Constant(INT, 1), mask, ir.Constant(kind, [0] * LANES)])

    def masked_store(self, value: Any, address: Address, name: str, mask: Any) -> None:
        """Store the lanes in the mask."""
        kind = value.type
        function = ir.FunctionType(ir.VoidType(), [kind, kind.as_pointer(), INT, MASK])
        callee = cgutils.get_or_insert_function(self.builder.module, function, f"llvm.masked.store.{name}.p0")
        target = self.builder.inttoptr(address, kind.as_pointer())
        self.builder.call(callee, [value, target, ir.Constant(INT, 1), mask])


def kernel(fields: Sequence[str], heights: Sequence[int], tile: Callable[..., Tile]) -> Any:
    """Compiled code that takes the address of `fields` (int64) and arrays: all `rows` from `places` on, in tiles.

    As many rows as possible in tiles of the first height, then of the next; the last height is 1. A tile is made of
    builder, values of the fields by name, height, and Numba's types of the arrays.
    """

    def signed(arrays: Sequence[Any]) -> tuple[Any, Any]:
        def write(context: Any, builder: Builder, signature: Any, values: Any) -> Any:
            given: dict[str, Any] = {}
            for position, name in enumerate(fields):
                found = builder.add(values[0], long(8 * position))
                given[name] = builder.load(builder.inttoptr(found, LONG.as_pointer()))
            places = cgutils.alloca_once_value(builder, given["places"])
            left = cgutils.alloca_once_value(builder, given["rows"])
            for height in heights:
                count = builder.sdiv(builder.load(left), long(height))
                with cgutils.for_range(builder, count):
                    tile(builder, given, height, *arrays).write(builder.load(places))
                    builder.store(builder.add(builder.load(places), long(16 * height)), places)
                builder.store(builder.srem(builder.load(left), long(height)), left)
            return context.get_dummy_value()

        return _types.void(_types.int64, *arrays), write

    def code(context: Any, address: Any, data: Any, weights: Any) -> Any:
        return signed((data, weights))

    return _extending.intrinsic(code)

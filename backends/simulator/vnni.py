"""Products of 8-bit matrices by the instruction vpdpbusd of AVX-512 VNNI, the sums of a tile held in registers.

The instruction adds four products of an unsigned and a signed byte to each of 16 sums of 32 bits. Data are signed: 128
is added to them (the highest bit flipped), and sums start at -128 times the sum of their weights instead of 0. Sums may
wrap on the way, and are exact in the end if they fit 32 bits.

Data are read where they lie: for every tap, row r of the unfolded matrix is a run of bytes at places[r, 0] + taps[t].
Needs Numba: import it only where that is. A tile is written in LLVM's language, as no compiler makes tiles of loops.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ...dialects.core.types import Array
from .loops import machine_code

_ir: Any = import_module("llvmlite.ir")
_llvm: Any = import_module("llvmlite.binding")
_types: Any = import_module("numba.core.types")
_cgutils: Any = import_module("numba.core.cgutils")
_extending: Any = import_module("numba.extending")

LANES = 16
"""Sums in a register."""
WORD = 4
"""Products that are added to a sum at once."""
HEIGHTS = {4: (6, 4, 2, 1), 3: (8, 4, 1), 2: (8, 4, 1), 1: (8, 4, 1)}
"""Rows of the tiles that are so many registers wide: at most 24 sums, as there are 32 registers."""
ALIGNMENT = 64

_BYTE, _INT, _LONG = (_ir.IntType(bits) for bits in (8, 32, 64))
_VECTOR = _ir.VectorType(_INT, LANES)
_MASK = _ir.VectorType(_ir.IntType(1), LANES)
_DOT = _ir.FunctionType(_VECTOR, [_VECTOR] * 3)
_LOAD = _ir.FunctionType(_VECTOR, [_VECTOR.as_pointer(), _INT, _MASK, _VECTOR])
_STORE = _ir.FunctionType(_ir.VoidType(), [_VECTOR, _VECTOR.as_pointer(), _INT, _MASK])

_llvm.initialize_native_asmparser()


def has_vnni() -> bool:
    """True if this processor has the instruction, and its system lets programs use the registers."""
    return bool(_llvm.get_host_cpu_features().get("avx512vnni", False))


def panels(columns: int) -> list[tuple[int, int]]:
    """(first column, registers) of the pieces into which so many columns are cut."""
    widest = max(HEIGHTS) * LANES
    return [(at, -(-min(columns - at, widest) // LANES)) for at in range(0, columns, widest)]


def packed(weights: Array) -> tuple[Array, Array]:
    """int8 [taps, run, columns] as `multiply` reads them, and the int32 at which the sums of columns start.

    By panel, tap, word of the run, column and byte of the word; what is missing to whole words and registers is 0.
    """
    taps, run, columns = weights.shape
    words = -(-run // WORD)
    pieces: list[Array] = []
    for start, registers in panels(columns):
        piece = np.zeros((taps, words * WORD, registers * LANES), np.int8)
        part = weights[:, :, start : start + registers * LANES]
        piece[:, :run, : part.shape[2]] = part
        pieces.append(piece.reshape(taps, words, WORD, -1).transpose(0, 1, 3, 2).reshape(-1))
    starts = np.zeros(-(-columns // LANES) * LANES, np.int32)
    starts[:columns] = -128 * weights.sum(axis=(0, 1), dtype=np.int64)
    return _aligned(np.concatenate(pieces)), starts


def _aligned(data: Array) -> Array:
    """A copy whose registers each lie within one line of the cache."""
    room = np.empty(data.size + ALIGNMENT, np.int8)
    start = -room.__array_interface__["data"][0] % ALIGNMENT
    room[start : start + data.size] = data
    return room[start : start + data.size]


class _Tile:
    """Writes the code for `height` rows times `width` registers of columns."""

    def __init__(self, builder: Any, arguments: dict[str, Any], height: int, width: int) -> None:
        self.builder, self.arguments = builder, arguments
        self.height, self.width = height, width

    def write(self, places: Any) -> None:
        """Code from here on: the rows that start at the address `places`, all taps, stored."""
        b, given = self.builder, self.arguments
        self.sums = [[_cgutils.alloca_once(b, _VECTOR) for _ in range(self.width)] for _ in range(self.height)]
        self.weights = _cgutils.alloca_once_value(b, given["weights"])
        starts = [self.load(b.add(given["starts"], _long(64 * n)), _VECTOR) for n in range(self.width)]
        for row in self.sums:
            for place, start in zip(row, starts, strict=True):
                b.store(start, place)
        rows = [b.add(given["data"], self.load(b.add(places, _long(16 * m)), _LONG)) for m in range(self.height)]
        with _cgutils.for_range(b, given["tap_count"]) as tap:
            offset = self.load(b.add(given["taps"], b.shl(tap.index, _long(3))), _LONG)
            runs = [b.add(row, offset) for row in rows]
            with _cgutils.for_range(b, given["words"]) as word:
                ahead = b.shl(word.index, _long(2))
                self.add([self.load(b.add(run, ahead), _INT) for run in runs])
            with b.if_then(b.icmp_signed("!=", given["rest"], _long(0))):
                last = b.sub(b.add(b.shl(given["words"], _long(2)), given["rest"]), _long(WORD))
                unused = b.trunc(b.shl(b.sub(_long(WORD), given["rest"]), _long(3)), _INT)
                self.add([b.lshr(self.load(b.add(run, last), _INT), unused) for run in runs])
        for m, row in enumerate(self.sums):
            self.store(b.add(given["out"], self.load(b.add(places, _long(16 * m + 8)), _LONG)), row)

    def add(self, words: list[Any]) -> None:
        """A word of every row times the next weights."""
        b, at = self.builder, self.builder.load(self.weights)
        weights = [self.load(b.add(at, _long(64 * n)), _VECTOR) for n in range(self.width)]
        b.store(b.add(at, _long(64 * self.width)), self.weights)
        for word, row in zip(words, self.sums, strict=True):
            unsigned = self.spread(b.xor(word, _ir.Constant(_INT, -0x7F7F7F80)))
            for place, columns in zip(row, weights, strict=True):
                b.store(
                    b.asm(_DOT, "vpdpbusd $3, $2, $0", "=v,0,v,v", [b.load(place), unsigned, columns], False), place
                )

    def store(self, address: Any, row: list[Any]) -> None:
        """The sums of a row, or these and what stands at the address, as far as there are columns."""
        b, given = self.builder, self.arguments
        zero, alignment = _ir.Constant(_VECTOR, [0] * LANES), _ir.Constant(_INT, 4)
        load = _cgutils.get_or_insert_function(b.module, _LOAD, f"llvm.masked.load.v{LANES}i32.p0")
        store = _cgutils.get_or_insert_function(b.module, _STORE, f"llvm.masked.store.v{LANES}i32.p0")
        lanes = _ir.Constant(_VECTOR, list(range(LANES)))
        added = b.icmp_signed("!=", self.spread(b.trunc(given["accumulate"], _INT)), zero)
        for n, place in enumerate(row):
            left = b.trunc(b.sub(given["columns"], _long(LANES * n)), _INT)
            mask = b.icmp_signed("<", lanes, self.spread(left))
            target = b.inttoptr(b.add(address, _long(64 * n)), _VECTOR.as_pointer())
            before = b.call(load, [target, alignment, b.and_(mask, added), zero])
            b.call(store, [b.add(b.load(place), before), target, alignment, mask])

    def load(self, address: Any, kind: Any) -> Any:
        """What stands at an address of any alignment."""
        found = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        found.align = 1
        return found

    def spread(self, value: Any) -> Any:
        """The int in all lanes."""
        nothing = _ir.Constant(_VECTOR, _ir.Undefined)
        first = self.builder.insert_element(nothing, value, _ir.Constant(_INT, 0))
        return self.builder.shuffle_vector(first, nothing, _ir.Constant(_VECTOR, [0] * LANES))


def _long(value: int) -> Any:
    return _ir.Constant(_LONG, value)


_FIELDS = (
    *("data", "rows", "places", "tap_count", "taps", "words", "rest", "accumulate"),
    *("weights", "starts", "columns", "out"),
)
"""What the code of a panel finds in an array of int64: addresses and numbers."""


def _panel(width: int) -> Any:
    """Compiled code that takes the address of `_FIELDS`: all rows of a panel, in tiles."""

    def panel(context: Any, fields: Any) -> Any:
        def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            given: dict[str, Any] = {}
            for position, name in enumerate(_FIELDS):
                address = builder.add(values[0], _long(8 * position))
                given[name] = builder.load(builder.inttoptr(address, _LONG.as_pointer()))
            places = _cgutils.alloca_once_value(builder, given["places"])
            left = _cgutils.alloca_once_value(builder, given["rows"])
            for height in HEIGHTS[width]:
                count = builder.sdiv(builder.load(left), _long(height))
                with _cgutils.for_range(builder, count):
                    _Tile(builder, given, height, width).write(builder.load(places))
                    builder.store(builder.add(builder.load(places), _long(16 * height)), places)
                builder.store(builder.srem(builder.load(left), _long(height)), left)
            return context.get_dummy_value()

        return _types.void(_types.int64), write

    return _extending.intrinsic(panel)


_one, _two, _three, _four = (_panel(width) for width in (1, 2, 3, 4))


@machine_code
def multiply(
    data: Array,
    places: Array,
    taps: Array,
    run: int,
    weights: Array,
    starts: Array,
    columns: int,
    out: Array,
    accumulate: bool,
) -> None:
    """Out[places[r, 1] + c] (+)= the sum over t, k of data[places[r, 0] + taps[t] + k] * weights[t, k, c].

    `data` int8 and `out` int32 are flat; `places` int64 [rows, 2], of `out` in bytes; `run` is at least WORD; `weights`
    and `starts` are `packed`.
    """
    words = run // WORD
    panel = 64 * len(taps) * ((run + WORD - 1) // WORD)
    fields = np.array(
        [
            data.ctypes.data,
            len(places),
            places.ctypes.data,
            len(taps),
            taps.ctypes.data,
            words,
            run - words * WORD,
            np.int64(accumulate),
            weights.ctypes.data,
            starts.ctypes.data,
            columns,
            out.ctypes.data,
        ],
        np.int64,
    )
    address = fields.ctypes.data
    while fields[10] > 3 * LANES:
        _four(address)
        fields[8] += 4 * panel
        fields[9] += 4 * 4 * LANES
        fields[10] -= 4 * LANES
        fields[11] += 4 * 4 * LANES
    if fields[10] > 2 * LANES:
        _three(address)
    elif fields[10] > LANES:
        _two(address)
    elif fields[10] > 0:
        _one(address)

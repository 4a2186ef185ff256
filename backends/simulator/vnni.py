"""Products of 8-bit matrices by the instruction vpdpbusd of AVX-512 VNNI, the sums of a tile held in registers.

The instruction adds four products of an unsigned and a signed byte to each of 16 sums of 32 bits. Data are signed: 128
is added to them (the highest bit flipped), and sums start at -128 times the sum of their weights instead of 0. Sums may
wrap on the way, and are exact in the end if they fit 32 bits. Needs Numba: import it only where that is.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ...dialects.core.types import Array
from .loops import machine_code
from .tiles import INT, LANES, LONG, Tile, cgutils, ir, kernel, long, vector

_llvm: Any = import_module("llvmlite.binding")
_config: Any = import_module("numba.core.config")
_llvm.initialize_native_asmparser()

WORD = 4
"""Products that are added to a sum at once."""
HEIGHTS = {4: (6, 4, 2, 1), 3: (8, 4, 1), 2: (8, 4, 1), 1: (8, 4, 1)}
"""Rows of the tiles that are so many registers wide: at most 24 sums, as there are 32 registers."""
ALIGNMENT = 64

_SUMS = vector(INT)
_DOT = ir.FunctionType(_SUMS, [_SUMS] * 3)
_FIELDS = (
    *("data", "rows", "places", "tap_count", "taps", "words", "rest", "accumulate"),
    *("weights", "starts", "columns", "out"),
)


def has_vnni() -> bool:
    """True if this processor has the instruction, its system lets programs use the registers, and code is for it.

    For another processor Numba compiles where its variables NUMBA_CPU_NAME or NUMBA_CPU_FEATURES say so.
    """
    other = _config.CPU_NAME is not None or _config.CPU_FEATURES is not None
    return not other and bool(_llvm.get_host_cpu_features().get("avx512vnni", False))


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


class _Product(Tile):
    """Rows times `width` registers of columns."""

    def __init__(self, builder: Any, given: dict[str, Any], height: int, width: int) -> None:
        super().__init__(builder, given, height)
        self.width = width

    def write(self, places: Any) -> None:
        b, given = self.builder, self.given
        self.sums = [[cgutils.alloca_once(b, _SUMS) for _ in range(self.width)] for _ in range(self.height)]
        self.weights = cgutils.alloca_once_value(b, given["weights"])
        starts = [self.load(b.add(given["starts"], long(64 * n)), _SUMS) for n in range(self.width)]
        for row in self.sums:
            for place, start in zip(row, starts, strict=True):
                b.store(start, place)
        rows = self.rows(places)
        with cgutils.for_range(b, given["tap_count"]) as tap:
            offset = self.load(b.add(given["taps"], b.shl(tap.index, long(3))), LONG)
            runs = [b.add(row, offset) for row in rows]
            with cgutils.for_range(b, given["words"]) as word:
                ahead = b.shl(word.index, long(2))
                self.add([self.load(b.add(run, ahead), INT) for run in runs])
            with b.if_then(b.icmp_signed("!=", given["rest"], long(0))):
                last = b.sub(b.add(b.shl(given["words"], long(2)), given["rest"]), long(WORD))
                unused = b.trunc(b.shl(b.sub(long(WORD), given["rest"]), long(3)), INT)
                self.add([b.lshr(self.load(b.add(run, last), INT), unused) for run in runs])
        for target, row in zip(self.targets(places), self.sums, strict=True):
            self.store(target, row)

    def add(self, words: list[Any]) -> None:
        """A word of every row times the next weights."""
        b, at = self.builder, self.builder.load(self.weights)
        weights = [self.load(b.add(at, long(64 * n)), _SUMS) for n in range(self.width)]
        b.store(b.add(at, long(64 * self.width)), self.weights)
        for word, row in zip(words, self.sums, strict=True):
            unsigned = self.spread(b.xor(word, ir.Constant(INT, -0x7F7F7F80)))
            for place, columns in zip(row, weights, strict=True):
                total = b.asm(_DOT, "vpdpbusd $3, $2, $0", "=v,0,v,v", [b.load(place), unsigned, columns], False)
                b.store(total, place)

    def store(self, address: Any, row: list[Any]) -> None:
        """The sums of a row, or these and what stands at the address, as far as there are columns."""
        b, given = self.builder, self.given
        added = b.icmp_signed("!=", self.spread(b.trunc(given["accumulate"], INT)), ir.Constant(_SUMS, [0] * LANES))
        for n, place in enumerate(row):
            mask, target = self.mask(b.sub(given["columns"], long(LANES * n))), b.add(address, long(64 * n))
            before = self.masked_load(target, _SUMS, "v16i32", b.and_(mask, added))
            self.masked_store(b.add(b.load(place), before), target, "v16i32", mask)


def _panel(width: int) -> Any:
    def tile(builder: Any, given: dict[str, Any], height: int, *_: Any) -> Tile:
        return _Product(builder, given, height, width)

    return kernel(_FIELDS, HEIGHTS[width], tile)


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
        _four(address, data, weights)
        fields[8] += 4 * panel
        fields[9] += 4 * 4 * LANES
        fields[10] -= 4 * LANES
        fields[11] += 4 * 4 * LANES
    if fields[10] > 2 * LANES:
        _three(address, data, weights)
    elif fields[10] > LANES:
        _two(address, data, weights)
    elif fields[10] > 0:
        _one(address, data, weights)

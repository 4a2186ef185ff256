"""Depthwise products as machine code: sums of a few pixels in registers, of data that are read where they lie.

Floats hold every product and every partial sum exactly, so it makes no difference how LLVM adds them. Needs Numba:
import it only where that is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects.core.types import Array
from .loops import machine_code
from .tiles import LANES, LONG, Tile, cgutils, ir, kernel, long, vector

HEIGHTS = (4, 1)
"""Pixels of a tile."""

_FIELDS = ("data", "rows", "places", "tap_count", "taps", "accumulate", "weights", "next_tap", "channels", "out")


class _Pixels(Tile):
    """Pixels times the weights of LANES channels, or of those that are left."""

    def __init__(self, builder: Any, given: dict[str, Any], height: int, data: Any, weights: Any, whole: bool) -> None:
        super().__init__(builder, given, height)
        bits, real = data.dtype.bitwidth, weights.dtype.bitwidth
        self.stored = vector(ir.IntType(bits)), f"v{LANES}i{bits}"
        self.real = vector(ir.FloatType() if real == 32 else ir.DoubleType()), f"v{LANES}f{real}"
        self.mask_of_channels = None if whole else self.mask(given["channels"])

    def write(self, places: Any) -> None:
        b, given = self.builder, self.given
        rows, targets = self.rows(places), self.targets(places)
        nothing = ir.Constant(self.real[0], [0.0] * LANES)
        adds = b.icmp_signed("!=", given["accumulate"], long(0))
        sums = [cgutils.alloca_once(b, self.real[0]) for _ in rows]
        for place, target in zip(sums, targets, strict=True):
            b.store(b.select(adds, self.read(target, *self.real), nothing), place)
        with cgutils.for_range(b, given["tap_count"]) as tap:
            offset = self.load(b.add(given["taps"], b.shl(tap.index, long(3))), LONG)
            weights = self.read(b.add(given["weights"], b.mul(tap.index, given["next_tap"])), *self.real)
            for row, place in zip(rows, sums, strict=True):
                data = b.sitofp(self.read(b.add(row, offset), *self.stored), self.real[0])
                b.store(b.fadd(b.load(place), b.fmul(data, weights)), place)
        for place, target in zip(sums, targets, strict=True):
            if self.mask_of_channels is None:
                b.store(b.load(place), b.inttoptr(target, self.real[0].as_pointer())).align = 1
            else:
                self.masked_store(b.load(place), target, self.real[1], self.mask_of_channels)

    def read(self, address: Any, kind: Any, name: str) -> Any:
        """A vector of the channels of this tile."""
        if self.mask_of_channels is None:
            return self.load(address, kind)
        return self.masked_load(address, kind, name, self.mask_of_channels)


def _pixels(*, whole: bool) -> Any:
    def tile(builder: Any, given: dict[str, Any], height: int, data: Any, weights: Any) -> Tile:
        return _Pixels(builder, given, height, data, weights, whole)

    return kernel(_FIELDS, HEIGHTS, tile)


_whole, _rest = _pixels(whole=True), _pixels(whole=False)


@machine_code
def multiply_taps(data: Array, places: Array, taps: Array, weights: Array, out: Array, accumulate: bool) -> None:
    """Out[places[r, 1] + c] (+)= the sum over taps of data[places[r, 0] + taps[t] + c] * weights[t, c].

    `data` int8 or int16 and `out` are flat; `places` int64 [rows, 2] and `taps` int64 count bytes. `weights` [taps,
    channels] are of the type of `out`: float32, or float64 for int16 data.
    """
    size, channels = weights.itemsize, weights.shape[1]
    fields = np.array(
        [
            data.ctypes.data,
            len(places),
            places.ctypes.data,
            len(taps),
            taps.ctypes.data,
            np.int64(accumulate),
            weights.ctypes.data,
            channels * size,
            channels,
            out.ctypes.data,
        ],
        np.int64,
    )
    address = fields.ctypes.data
    while fields[8] > 0:
        step = np.int64(LANES)
        if fields[8] < LANES and channels >= LANES and not accumulate:
            step = fields[8]  # the last channels once more together with those before them, as masks are slower
            fields[0] -= (LANES - step) * data.itemsize
            fields[6] -= (LANES - step) * size
            fields[9] -= (LANES - step) * size
            _whole(address, data, weights)
        elif fields[8] < LANES:
            _rest(address, data, weights)
        else:
            _whole(address, data, weights)
        fields[0] += LANES * data.itemsize
        fields[6] += LANES * size
        fields[8] -= step
        fields[9] += LANES * size

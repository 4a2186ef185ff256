"""The last step of most instructions: scale, round half to even, add the zero point, clip, store."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ...dialects.core.types import Array
from .kernels import Clip, rounding_kernel
from .memory import Scratch
from .plain import Step

BLOCK = 1 << 14
"""Elements rounded at a time: 128 KiB of float64, which stay in the first two cache levels."""

NARROW = 64
"""Below this many channels, parameters are repeated over a whole image row so that the inner loop is long."""


def rounding_step(
    values: Array,
    out: Array,
    factor: npt.ArrayLike,
    offset: npt.ArrayLike,
    clip: Clip,
    scratch: Scratch,
    wide: tuple[Array, int] | None = None,
) -> Step:
    """Bind what `Rounding` computes, by machine code where that is wanted and there is some."""
    if scratch.compiled and wide is None:
        kernel = rounding_kernel(*_runs(values, out, factor, offset), clip)
        if kernel is not None:
            return kernel
    return Rounding(values, out, factor, offset, clip, scratch, wide)


class Rounding:
    """out = clip(rint(value * factor + offset) + zero_point, low, high) over arrays [samples, ..., height, width, c].

    `factor` and `offset` broadcast against the values; products and sums must be exact in float64, so that one
    rounding is left. With `wide` (bias, bits), value becomes floor((value + bias) * 2^-bits) first, exact below 2^52.
    Bound once; a call executes it in blocks over samples and rows without allocating.
    """

    def __init__(
        self,
        values: Array,
        out: Array,
        factor: npt.ArrayLike,
        offset: npt.ArrayLike,
        clip: Clip,
        scratch: Scratch,
        wide: tuple[Array, int] | None = None,
    ) -> None:
        self.zero_point, low, high = clip
        self.low, self.high = float(low), float(high)
        self.unit = None if wide is None else 2.0 ** -wide[1]
        values, out, factor, offset = _runs(values, out, factor, offset if wide is None else wide[0])
        self.blocks: list[tuple[Array, Array, Array, Array, Array]] = []
        for index in block_slices(values.shape):
            value = values[index]
            steps = scratch.take("rounding", value.shape, np.float64)
            self.blocks.append((value, out[index], steps, _part(factor, index), _part(offset, index)))

    def __call__(self) -> None:
        for value, out, steps, factor, offset in self.blocks:
            np.copyto(steps, value)
            if self.unit is None:
                np.multiply(steps, factor, out=steps)
                np.add(steps, offset, out=steps)
            else:
                np.add(steps, offset, out=steps)
                np.multiply(steps, self.unit, out=steps)
                np.floor(steps, out=steps)
                np.multiply(steps, factor, out=steps)
            np.rint(steps, out=steps)
            if self.zero_point:
                np.add(steps, self.zero_point, out=steps)
            np.clip(steps, self.low, self.high, out=steps)
            np.copyto(out, steps, casting="unsafe")


def _runs(values: Array, out: Array, factor: npt.ArrayLike, offset: npt.ArrayLike) -> tuple[Array, Array, Array, Array]:
    """The arrays of a rounding with parameters float64 of full rank; rows of narrow pixels become one axis."""
    factor, offset = (full_rank(np.asarray(a, np.float64), values.ndim) for a in (factor, offset))
    if values.shape[-1] < NARROW and is_mergeable(values) and is_mergeable(out):
        width = values.shape[-2]
        factor, offset = (merged(repeated(a, width, values.shape[-1])) for a in (factor, offset))
        values, out = merged(values), merged(out)
    return values, out, factor, offset


def block_slices(shape: tuple[int, ...], limit: int = BLOCK) -> list[tuple[slice, ...]]:
    """Slices that cut an array into pieces of about `limit` elements along its leading axes."""
    sizes = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axis = next((axis for axis, size in enumerate(sizes) if size <= limit), len(shape) - 1)
    step = max(1, limit // max(sizes[axis], 1))
    prefixes: list[tuple[slice, ...]] = [()]
    for count in shape[:axis]:
        prefixes = [(*prefix, slice(i, i + 1)) for prefix in prefixes for i in range(count)]
    return [(*prefix, slice(i, min(i + step, shape[axis]))) for prefix in prefixes for i in range(0, shape[axis], step)]


def _part(parameter: Array, index: tuple[slice, ...]) -> Array:
    """The piece of a broadcast array that belongs to a block."""
    return parameter[tuple(s if size > 1 else slice(None) for s, size in zip(index, parameter.shape, strict=False))]


def full_rank(array: Array, rank: int) -> Array:
    """The array with axes of length 1 in front."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def is_mergeable(array: Array) -> bool:
    """True if the last two axes are one contiguous run."""
    width, channels = array.shape[-2:]
    return width == 1 or channels == 1 or array.strides[-2] == channels * array.strides[-1]


def repeated(array: Array, width: int, channels: int) -> Array:
    """Channel parameters [..., 1, c] (or fewer) as a dense [..., width, c]."""
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:-2], width, channels)))


def merged(array: Array) -> Array:
    """The last two axes as one; `is_mergeable` must hold."""
    *front, width, channels = array.shape
    *strides, pixel, step = array.strides
    step = step if channels > 1 else pixel  # the stride of an axis of length 1 means nothing
    return np.lib.stride_tricks.as_strided(array, (*front, width * channels), (*strides, step))

"""Tensors as strided views of buffers: every tensor is seen as [samples, rows, pixels, channels]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...dialects.core.operation import Value
from ...dialects.quant.types import QuantizedType

Shape4 = tuple[int, int, int, int]


def shape4(shape: tuple[int, ...]) -> Shape4:
    """The shape as [N, H, W, C]: [M, K] has M rows of one pixel, [B, T, C] has B rows; more axes merge into N."""
    match shape:
        case ():
            return 1, 1, 1, 1
        case (c,):
            return 1, 1, 1, c
        case (m, c):
            return 1, m, 1, c
        case (h, w, c):
            return 1, h, w, c
        case _:
            h, w, c = shape[-3:]
            return math.prod(shape[:-3]), h, w, c


def shared_axes(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The axes of shapes of one rank above 4 that broadcast to the first: the sizes of all shapes for each axis.

    Neighbours before the last that repeat in the same operands are one axis; there are four at least.
    """
    axes: list[tuple[int, ...]] = []
    for sizes in zip(*(shape[:-1] for shape in shapes), strict=True):
        if axes and all((a == 1) == (n == 1) for a, n in zip(axes[-1], sizes, strict=True)):
            axes[-1] = tuple(a * n for a, n in zip(axes[-1], sizes, strict=True))
        elif sizes[0] != 1:
            axes.append(sizes)
    if len(axes) == 1:  # rows and pixels, so that no axis is long
        pixels = max(n for n in range(1, math.isqrt(axes[0][0]) + 1) if axes[0][0] % n == 0)
        axes = [tuple(n if n == 1 else part for n in axes[0]) for part in (axes[0][0] // pixels, pixels)]
    ones = (1,) * len(shapes)
    return [*[ones] * (3 - len(axes)), *axes, tuple(shape[-1] for shape in shapes)]


def axis4(rank: int, axis: int) -> int | None:
    """The axis of the [N, H, W, C] form that holds `axis` of a tensor of `rank`; None if it merges with others."""
    if rank == 2:
        return (1, 3)[axis]
    moved = axis + 4 - rank
    return moved if moved > 0 or (rank == 4 and moved == 0) else None


@dataclass(frozen=True, slots=True)
class View:
    """A tensor [N, H, W, C] at `offset` of `buffer`, with strides in bytes; a number takes `size` bytes."""

    buffer: Value[Any]
    offset: int
    shape: Shape4
    strides: Shape4
    size: int = 1

    def narrowed(self, axis: int, start: int, count: int, step: int = 1) -> View:
        """Elements start, start + step, ... (count of them) along one axis."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = count, strides[axis] * step
        return replace(self, offset=offset, shape=_four(shape), strides=_four(strides))

    def sample(self, index: int) -> View:
        """One sample."""
        return self.narrowed(0, index, 1)

    def channels(self, first: int, count: int) -> View:
        """A contiguous range of channels."""
        return self.narrowed(3, first, count)

    @property
    def is_dense(self) -> bool:
        """True if the elements follow each other without gaps in row-major order."""
        expected = self.size
        for count, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if count != 1 and stride != expected:
                return False
            expected *= count
        return True

    def reshaped(self, shape: Shape4) -> View | None:
        """The same elements in row-major order under another shape, if strides allow it without a copy."""
        if shape == self.shape:
            return self
        if self.is_dense:
            return replace(self, shape=shape, strides=dense_strides(shape, self.size))
        strides = _split_strides(self.shape, self.strides, shape, self.size)
        if strides is None or strides[3] != self.size:
            return None  # instructions read and write whole runs of channels
        return replace(self, shape=shape, strides=strides)

    def permuted(self, axes: tuple[int, ...]) -> View:
        """Axis i of the result is axis axes[i]."""
        shape, strides = [self.shape[a] for a in axes], [self.strides[a] for a in axes]
        return replace(self, shape=_four(shape), strides=_four(strides))


def _split_strides(shape: Shape4, strides: Shape4, target: Shape4, size: int) -> Shape4 | None:
    """Strides of the same elements under another shape, if none has to move.

    Both shapes are cut into the shortest runs of axes with equal products; the axes of a run must lie dense within it.
    """
    kept = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    wanted = [axis for axis in range(4) if target[axis] != 1]
    found = [0, 0, 0, 0]
    while wanted:
        old, new = [kept.pop()], [wanted.pop()]
        while (have := math.prod(n for n, _ in old)) != (need := math.prod(target[axis] for axis in new)):
            if have < need:
                old.append(kept.pop())
            else:
                new.append(wanted.pop())
        step = old[0][1]
        if any(outer[1] != inner[0] * inner[1] for inner, outer in itertools.pairwise(old)):
            return None
        for axis in new:
            found[axis], step = step, step * target[axis]
    for axis in (3, 2, 1, 0):
        found[axis] = found[axis] or (size if axis == 3 else found[axis + 1] * target[axis + 1])
    return _four(found)


def dense_strides(shape: Shape4, size: int) -> Shape4:
    """Row-major strides in bytes of numbers of `size` bytes."""
    _, h, w, c = shape
    return h * w * c * size, w * c * size, c * size, size


def dense_view(buffer: Value[Any], shape: tuple[int, ...], size: int) -> View:
    """A whole tensor whose numbers follow each other from the start of a buffer."""
    return View(buffer, 0, shape4(shape), dense_strides(shape4(shape), size), size)


def number_size(value: Value[Any]) -> int:
    """Bytes of one number of a tensor."""
    return value.type.element.dtype.itemsize


def element_name(value: Value[Any]) -> str:
    """What instructions call the numbers of a tensor: i8, i16 or bf16."""
    element = value.type.element
    return str(element.storage if isinstance(element, QuantizedType) else element)


def _four(values: list[int]) -> Shape4:
    return values[0], values[1], values[2], values[3]

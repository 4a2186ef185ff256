"""Input windows of the fast path: pixels of SRAM as padded arrays of another type, and views of their windows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.window import WindowOp
from .kernels import copy_kernel
from .memory import Scratch
from .plain import Step


class PaddedInput:
    """The input of a window operation for a slice of samples, with its padding filled in: [samples, h, w, channels].

    `array` is scratch space that `fill` writes from `sram`; where nothing is padded and no conversion is wanted it is
    a view of `sram` itself and `fill` does nothing.
    """

    def __init__(
        self, op: WindowOp, sram: Array, channels: int, padding: int, scratch: Scratch, dtype: Any, *, copy: bool = True
    ) -> None:
        need, (rows, columns) = op.padded_size, op.input_size
        self.padding = padding
        self.borders: list[Array] = []
        self.copies: list[tuple[Array, Array]] = []
        if not copy and need == (rows, columns):
            self.array = op.input_view(sram, channels)
            return
        self.array = scratch.take("padded", (len(sram), *need, channels), dtype)
        if rows <= 0 or columns <= 0:
            self.borders.append(self.array)
            return
        top, left = op.pad_top, op.pad_left
        inner = self.array[:, top : top + rows, left : left + columns]
        borders = [self.array[:, :top], self.array[:, top + rows :]]
        borders += [self.array[:, top : top + rows, :left], self.array[:, top : top + rows, left + columns :]]
        self.borders += [border for border in borders if border.size]
        self.copies.append((inner, op.input_view(sram, channels)))

    def fill(self) -> None:
        """Copy the pixels from SRAM and set the padding."""
        for border in self.borders:
            border.fill(self.padding)
        for target, source in self.copies:
            np.copyto(target, source)

    def windows(self, op: WindowOp, groups: int, group_stride: int, channels: int) -> Array:
        """A view [samples, groups, out_h, out_w, kernel_h, kernel_w, channels]; `group_stride` counts channels."""
        sample, row, pixel, step = self.array.strides
        shape = (len(self.array), groups, op.out_h, op.out_w, op.kernel_h, op.kernel_w, channels)
        taps = (row * op.dilation_h, pixel * op.dilation_w)
        strides = (sample, group_stride * step, row * op.stride_h, pixel * op.stride_w, *taps, step)
        return np.lib.stride_tricks.as_strided(self.array, shape, strides)

    def taps(self, op: WindowOp, channels: int) -> list[Array]:
        """One view [samples, out_h, out_w, channels] for every window position, in the order of the weights."""
        windows = self.windows(op, 1, 0, channels)[:, 0]
        return [windows[:, :, :, i, j] for i in range(op.kernel_h) for j in range(op.kernel_w)]


def windows_of_chunks(
    op: MatmulOp, sram: Array, together: int, scratch: Scratch
) -> Iterator[tuple[slice, list[Step], Array]]:
    """The int8 windows of a product for `together` samples at a time: which, what fills them, and the view of them."""
    span, apart = op.channel_span
    for first in range(0, len(sram), together):
        chosen = slice(first, min(first + together, len(sram)))
        padded = PaddedInput(op, sram[chosen], span, op.zero_point, scratch, np.int8, copy=False)
        steps: list[Step] = [padded.fill] if padded.borders or padded.copies else []
        yield chosen, steps, padded.windows(op, op.groups, apart, op.in_c)


def unfold_step(windows: Array, matrix: Array, scratch: Scratch) -> Step:
    """Bind a copy of windows [samples, groups, h, w, kernel_h, kernel_w, channels] to a matrix of as many elements."""
    target = matrix.reshape(windows.shape)
    kernel = copy_kernel(windows, target) if scratch.compiled else None
    return kernel or partial(np.copyto, target, windows)

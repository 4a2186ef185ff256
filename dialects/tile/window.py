"""Instructions that slide a window over rows and pixels: the shared geometry and its view in numpy."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute
from ..core.types import Array, Type
from .elements import ElementOp
from .instruction import Region

LARGEST_WINDOW = 2**12
"""The kernel of an instruction is smaller along each axis."""


class WindowOp(ElementOp):
    """Reads `in_h` x `in_w` pixels of SRAM and produces `out_h` x `out_w` windows of kernel_h x kernel_w taps.

    Output row oh, tap i reads input row oh*stride_h + i*dilation_h - pad_top; rows and columns outside the input are
    padding. Pixel (y, x) starts at byte input_offset + y*input_row_stride + x*input_pixel_stride; channels are dense.
    """

    in_h = attribute(int, bits=16)
    in_w = attribute(int, bits=16)
    out_h = attribute(int, bits=16)
    out_w = attribute(int, bits=16)
    kernel_h = attribute(int, default=1, bits=12)
    kernel_w = attribute(int, default=1, bits=12)
    stride_h = attribute(int, default=1, bits=16)
    stride_w = attribute(int, default=1, bits=16)
    dilation_h = attribute(int, default=1, bits=16)
    dilation_w = attribute(int, default=1, bits=16)
    pad_top = attribute(int, default=0, bits=12)
    pad_left = attribute(int, default=0, bits=12)
    input_offset = attribute(int, default=0, bits=32)
    input_row_stride = attribute(int, bits=24)
    input_pixel_stride = attribute(int, bits=24)

    def infer_types(self) -> tuple[Type, ...]:
        return ()

    def verify(self) -> None:
        super().verify()
        for name in ("in_h", "in_w", "out_h", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w"):
            if self.attribute_or_default(name) == 0:
                raise self.error(f"{name} is 0, expected at least 1")

    @property
    def padded_size(self) -> tuple[int, int]:
        """Rows and pixels that the windows span, padding included."""
        need_h = (self.out_h - 1) * self.stride_h + (self.kernel_h - 1) * self.dilation_h + 1
        need_w = (self.out_w - 1) * self.stride_w + (self.kernel_w - 1) * self.dilation_w + 1
        return need_h, need_w

    @property
    def input_size(self) -> tuple[int, int]:
        """Rows and pixels that are read from the input; not positive where all is padding."""
        need_h, need_w = self.padded_size
        return min(self.in_h, need_h - self.pad_top), min(self.in_w, need_w - self.pad_left)

    def input_region(self, channels: int, groups: int = 1, group_stride: int = 0) -> Region:
        """The read of `groups` runs of `channels` numbers, `group_stride` bytes apart, at each pixel of the input."""
        rows, columns = (max(size, 0) for size in self.input_size)
        strides = (self.input_row_stride, self.input_pixel_stride, group_stride, self.size_of("input"))
        return self.region("input", False, self.input_offset, (rows, columns, groups, channels), strides)

    def input_view(self, memory: Array, channels: int) -> Array:
        """The pixels that are read: a view [..., rows, pixels, channels]; `input_size` must be positive."""
        strides = (self.input_row_stride, self.input_pixel_stride, self.size_of("input"))
        return self.view("input", memory, self.input_offset, (*self.input_size, channels), strides)

    def padded_input(self, memory: Array, channels: int, padding: int) -> Array:
        """The input with its padding made explicit: [..., padded_h, padded_w, channels], a copy.

        `padding` is a number as fields hold it.
        """
        need_h, need_w = self.padded_size
        rows, columns = self.input_size
        element = self.element_of("input")
        shape = (*memory.shape[:-1], need_h, need_w, channels)
        padded = np.full(shape, element.stored(padding), element.dtype)
        if rows > 0 and columns > 0:
            inside = self.input_view(memory, channels)
            padded[..., self.pad_top : self.pad_top + rows, self.pad_left : self.pad_left + columns, :] = inside
        return padded

    def windows(self, padded: Array) -> Array:
        """All windows of a padded input: a view [..., out_h, out_w, kernel_h, kernel_w, channels]."""
        *front, sh, sw, sc = padded.strides
        shape = (self.out_h, self.out_w, self.kernel_h, self.kernel_w, padded.shape[-1])
        strides = (sh * self.stride_h, sw * self.stride_w, sh * self.dilation_h, sw * self.dilation_w, sc)
        return np.lib.stride_tricks.as_strided(
            padded, (*padded.shape[:-3], *shape), (*front, *strides), writeable=False
        )

"""Requantization with a sum behind it: the vector unit's requantizer feeds its adder, in one pass."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute, operand
from ..core.types import Array
from ..quant.arithmetic import rescale
from ..quant.bfloat16 import finished
from .instruction import Region
from .types import BufferType
from .vector import RequantizeOp


class RequantizeAddOp(RequantizeOp):
    """out = clip(round(((t - zero_point)*Mt + (r - residual_zero)*Mr) * 2^-s) + z), t as of `tile.requantize`.

    Bit for bit a tile.requantize followed by a tile.binary that adds `residual`, without t in memory: Mt is
    `own_multiplier`, Mr `residual_multiplier`, s `sum_shift`, z `sum_zero`, the last clip `sum_low` to `sum_high`. Of
    one group only. The residual may lie where the output does. bf16: clamp(t + r) in float32, rounded.
    """

    name = "tile.requantize_add"

    residual = operand(BufferType)

    residual_offset = attribute(int, default=0, bits=32)
    residual_row_stride = attribute(int, bits=24)
    residual_pixel_stride = attribute(int, bits=24)
    residual_zero = attribute(int, default=0, bits=-16)
    own_multiplier = attribute(int, bits=-24)
    residual_multiplier = attribute(int, bits=-24)
    sum_shift = attribute(int, bits=8)
    sum_zero = attribute(int, bits=-16)
    sum_low = attribute(int, default=-128, bits=-16)
    sum_high = attribute(int, default=127, bits=-16)

    def verify(self) -> None:
        super().verify()
        if self.groups != 1:
            raise self.error(f"adds to {self.groups} groups, expected one")

    def regions(self) -> tuple[Region, ...]:
        shape, strides = self._residual
        *reads, output = super().regions()
        return (*reads, self.region("residual", False, self.residual_offset, shape, strides), output)

    def evaluate(self, accumulator: Array, parameters: Array, output: Array, residual: Array) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        own, element = self.requantized(accumulator, parameters), self.element_of("output")
        if element.is_float:
            with np.errstate(all="ignore"):
                total = own.astype(np.float32) + self.residual_view(residual).astype(np.float32)
            self.grouped_output_view(output)[...] = finished(total, self.sum_low, self.sum_high)
            return
        own = (own.astype(np.int64) - self.zero_point) * self.own_multiplier
        other = (self.residual_view(residual).astype(np.int64) - self.residual_zero) * self.residual_multiplier
        result = rescale(own + other, 1, self.sum_shift, self.sum_zero, self.sum_low, self.sum_high, element.dtype)
        self.grouped_output_view(output)[...] = result

    def residual_view(self, memory: Array) -> Array:
        """The residual as a view [..., 1, out_h, out_w, out_c]."""
        return self.view("residual", memory, self.residual_offset, *self._residual)

    @property
    def _residual(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = (1, self.out_h, self.out_w, self.out_c)
        return shape, (0, self.residual_row_stride, self.residual_pixel_stride, self.size_of("residual"))

"""Maximum and average over windows of an image."""

from __future__ import annotations

import numpy as np

from ..core.fields import list_attribute, operand
from ..core.operation import Operation
from ..core.tensor import TensorOperation
from ..core.types import Array, ElementType, TensorType
from ..quant.arithmetic import fixed_point, rescale
from ..quant.bfloat16 import BFLOAT16
from ..quant.types import QuantizedType, is_brain_float, quantized_element
from .elements import (
    ClampedOperation,
    float_element,
    is_quantized,
    require_at_least,
    require_length,
    require_rank,
    require_sum,
)
from .ordered import ordered_maximum, sum_in_order, tap_views
from .windows import output_extent, pad_image, reduce_windows, window_counts


class WindowOperation(Operation):
    """The window of a pooling: sizes in pixels, pads top, left, bottom, right."""

    kernel = list_attribute(int)
    strides = list_attribute(int, default=(1, 1))
    pads = list_attribute(int, default=(0, 0, 0, 0))
    dilations = list_attribute(int, default=(1, 1))

    def pooled_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The NHWC shape after pooling; a located error if no window fits or one lies outside of the image."""
        for name, length, bound in (("kernel", 2, 1), ("strides", 2, 1), ("pads", 4, 0), ("dilations", 2, 1)):
            require_length(self, name, length)
            require_at_least(self, name, bound)
        batch, height, width, channels = shape
        extents = [
            output_extent(size, self.kernel[i], self.strides[i], self.dilations[i], self.pads[i], self.pads[i + 2])
            for i, size in enumerate((height, width))
        ]
        if min(extents) < 1:
            kernel = f"{self.kernel[0]}x{self.kernel[1]} with dilations {list(self.dilations)}"
            raise self.error(f"kernel is {kernel}, expected to fit the padded {height}x{width} image")
        if self.tap_counts(shape, (0, 0, 0, 0)).min() < 1:
            raise self.error(f"pads are {list(self.pads)}, expected every window to touch the {height}x{width} image")
        return (batch, *extents, channels)

    def tap_counts(self, shape: tuple[int, ...], counted: tuple[int, ...]) -> Array:
        """[OH, OW]: how many taps of each window lie in the NHWC image extended by `counted` (as `pads`)."""
        rows, columns = (
            window_counts(
                shape[i + 1],
                self.kernel[i],
                self.strides[i],
                self.dilations[i],
                (self.pads[i], self.pads[i + 2]),
                (counted[i], counted[i + 2]),
            )
            for i in (0, 1)
        )
        return np.multiply.outer(rows, columns)


class MaxPoolOp(WindowOperation, TensorOperation):
    """The maximum of each window, data NHWC, any number type, kept; padding never wins.

    bf16 by its ordinals.
    """

    name = "nn.max_pool"

    data = operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        require_rank(self, "data", self.data, 4, "NHWC")
        return self.pooled_shape(self.data.type.shape)

    def expected_element(self) -> ElementType:
        float_element(self, data=self.data)
        return self.data.type.element

    def evaluate(self, data: Array) -> Array:
        element = self.data.type.element
        if data.dtype == BFLOAT16:
            return ordered_maximum(data, self.kernel, self.strides, self.pads, self.dilations)
        lowest = element.low if isinstance(element, QuantizedType) else -np.inf
        image = pad_image(data, self.pads, lowest, data.dtype)
        return reduce_windows(image, np.maximum, self.kernel, self.strides, self.dilations)


class AveragePoolOp(WindowOperation, ClampedOperation):
    """The average of each window, data NHWC, f32, bf16 or quantized.

    The divisor is the number of taps inside the image extended by `counted_pads` (zeros: taps on pixels only; equal
    to `pads`: all taps). Quantized: clip(rint(sum(x - zp_in) * M * 2^-s) + zp_out), one rounding, with
    (M, s) = fixed_point(scale_in / (scale_out * count)) for each count; the result type is the data's unless given.
    bf16: the taps are added in order, and the sum is multiplied by the float32 nearest to 1 / count.
    """

    name = "nn.average_pool"

    data = operand(TensorType)
    counted_pads = list_attribute(int, default=(0, 0, 0, 0))

    def expected_shape(self) -> tuple[int, ...]:
        require_rank(self, "data", self.data, 4, "NHWC")
        for name in ("pads", "counted_pads"):
            require_length(self, name, 4)
        if any(not 0 <= counted <= pad for counted, pad in zip(self.counted_pads, self.pads, strict=True)):
            raise self.error(f"counted_pads are {list(self.counted_pads)}, expected 0 to pads {list(self.pads)}")
        return self.pooled_shape(self.data.type.shape)

    def expected_element(self) -> ElementType | None:
        element = float_element(self, data=self.data)
        return element or (None if self.results else self.data.type.element)

    def verify(self) -> None:
        super().verify()
        if is_quantized(self.data):
            require_sum(self, int(self.counts().max()), self.data)
            try:
                self.fixed_point()
            except ValueError as error:
                raise self.error(f"the scales do not fit: {error}") from None

    def counts(self) -> Array:
        """[OH, OW]: the divisor of every window."""
        return self.tap_counts(self.data.type.shape, self.counted_pads)

    def fixed_point(self) -> tuple[Array, Array]:
        """(M, s) of every window as [OH, OW] arrays, for quantized data."""
        source, target = quantized_element(self.data.type), quantized_element(self.out.type)
        return fixed_point(source.scale / (target.scale * self.counts()))

    def evaluate(self, data: Array) -> Array:
        if is_brain_float(self.data):
            taps = tap_views(data, self.kernel, self.strides, self.pads, self.dilations)
            return self.clamp(sum_in_order(taps) * (1.0 / self.counts()).astype(np.float32)[:, :, None])
        if not is_quantized(self.data):
            image = pad_image(data, self.pads, 0.0, data.dtype)
            total = reduce_windows(image, np.add, self.kernel, self.strides, self.dilations)
            return self.clamp(total / self.counts().astype(np.float32)[:, :, None])
        source, target = quantized_element(self.data.type), quantized_element(self.out.type)
        image = pad_image(data, self.pads, source.zero_point, np.dtype(np.int32)) - np.int32(source.zero_point)
        total = reduce_windows(image, np.add, self.kernel, self.strides, self.dilations)
        multiplier, shift = (values[:, :, None] for values in self.fixed_point())
        return rescale(total, multiplier, shift, target.zero_point, *self.integer_bounds, target.dtype)

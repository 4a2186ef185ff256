"""Window instructions of the vector unit: pooling and depthwise convolution."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute, operand
from ..core.types import Array
from ..quant.arithmetic import pre_shifted, rescale
from ..quant.bfloat16 import finished, from_ordinals, gated_product, ordinals, with_bias
from .elements import ELEMENT_NAMES
from .instruction import Region
from .records import RECORD_BYTES, unpack_factors, unpack_floats, unpack_multipliers, unpack_requantization
from .types import BufferType
from .window import WindowOp


class VectorWindowOp(WindowOp):
    """A window instruction that writes pixels of `channels` channels to SRAM."""

    engine = "vector"

    channels = attribute(int, bits=16)
    output_offset = attribute(int, default=0, bits=32)
    output_row_stride = attribute(int, bits=24)
    output_pixel_stride = attribute(int, bits=24)

    def regions(self) -> tuple[Region, ...]:
        shape = (self.out_h, self.out_w, self.channels)
        strides = (self.output_row_stride, self.output_pixel_stride, self.size_of("output"))
        output = self.region("output", True, self.output_offset, shape, strides)
        return (self.input_region(self.channels), *self.parameter_regions(), output)

    def parameter_regions(self) -> tuple[Region, ...]:
        """The reads beside the input."""
        return ()

    def output_view(self, memory: Array) -> Array:
        """The output as a writable view [..., out_h, out_w, channels]."""
        shape = (self.out_h, self.out_w, self.channels)
        strides = (self.output_row_stride, self.output_pixel_stride, self.size_of("output"))
        return self.view("output", memory, self.output_offset, shape, strides)


class MaxPoolOp(VectorWindowOp):
    """out = the largest value in the window, of bf16 the one with the largest ordinal; padding never wins."""

    name = "tile.max_pool"

    input = operand(BufferType)
    output = operand(BufferType)

    def evaluate(self, input: Array, output: Array) -> None:
        element = self.element_of("input")
        padded = self.padded_input(input, self.channels, element.low)
        if element.is_float:
            largest = from_ordinals(self.windows(ordinals(padded)).max(axis=(-3, -2)))
        else:
            largest = self.windows(padded).max(axis=(-3, -2))
        self.output_view(output)[...] = largest


class AveragePoolOp(VectorWindowOp):
    """out = clip(round(sum(in - input_zero) * M[n] * 2^-s[n]) + zero_point), n the number of counted window elements.

    An element counts if its row lies in [-counted_top, in_h + counted_bottom) and its column in
    [-counted_left, in_w + counted_right). `multipliers` holds kernel_h*kernel_w + 1 packed words, indexed by n. bf16:
    clamp(sum * factor[n]), the sum float32 and in the order of the taps; `multipliers` holds float32 factors.
    """

    name = "tile.average_pool"

    input = operand(BufferType)
    multipliers = operand(BufferType)
    output = operand(BufferType)

    multipliers_offset = attribute(int, default=0, bits=32)
    counted_top = attribute(int, default=0, bits=12)
    counted_left = attribute(int, default=0, bits=12)
    counted_bottom = attribute(int, default=0, bits=12)
    counted_right = attribute(int, default=0, bits=12)
    input_zero = attribute(int, bits=-16)
    zero_point = attribute(int, bits=-16)
    low = attribute(int, default=-128, bits=-16)
    high = attribute(int, default=127, bits=-16)

    def parameter_regions(self) -> tuple[Region, ...]:
        size = RECORD_BYTES * (self.kernel_h * self.kernel_w + 1)
        return (Region("multipliers", False, self.multipliers_offset, (size,), (1,)),)

    def evaluate(self, input: Array, multipliers: Array, output: Array) -> None:
        if self.element_of("output").is_float:
            self._average_floats(input, multipliers, output)
            return
        windows = self.windows(self.padded_input(input, self.channels, self.input_zero))
        total = windows.sum(axis=(-3, -2), dtype=np.int64) - self.kernel_h * self.kernel_w * self.input_zero
        multiplier, shift = unpack_multipliers(multipliers, self.multipliers_offset, self.kernel_h * self.kernel_w + 1)
        counts = self.counts()
        factors, shifts = (table[..., counts][..., None] for table in (multiplier, shift))
        clip = (self.zero_point, self.low, self.high, self.element_of("output").dtype)
        self.output_view(output)[...] = rescale(total, factors, shifts, *clip)

    def _average_floats(self, input: Array, multipliers: Array, output: Array) -> None:
        windows = self.windows(self.padded_input(input, self.channels, 0).astype(np.float32))
        total = np.zeros((*windows.shape[:-3], self.channels), np.float32)
        factors = unpack_floats(multipliers, self.multipliers_offset, self.kernel_h * self.kernel_w + 1)
        with np.errstate(all="ignore"):
            for row, column in np.ndindex(self.kernel_h, self.kernel_w):
                total += windows[..., row, column, :]
            self.output_view(output)[...] = finished(
                total * factors[..., self.counts()][..., None], self.low, self.high
            )

    def counts(self) -> Array:
        """Counted window elements for every output pixel: int64 [out_h, out_w]."""
        rows = _counted(self.out_h, self.stride_h, self.kernel_h, self.dilation_h, self.pad_top)
        columns = _counted(self.out_w, self.stride_w, self.kernel_w, self.dilation_w, self.pad_left)
        high = ((rows >= -self.counted_top) & (rows < self.in_h + self.counted_bottom)).sum(axis=1)
        wide = ((columns >= -self.counted_left) & (columns < self.in_w + self.counted_right)).sum(axis=1)
        return np.outer(high, wide)


class DepthwiseOp(VectorWindowOp):
    """Depthwise convolution: out = clip(round((sum + bias >> pre_shift) * M * 2^-s) + zero_point, low, high).

    `weights` is [kernel_h*kernel_w, channels] of `weights_element`; `parameters` one record (bias, multiplier, shift) a
    channel. The input is made of `input_element`, the output of `element`; `pre_shift` as in `RequantizeOp`, and so is
    bf16: products are added in the order of the taps.
    """

    name = "tile.depthwise"

    input = operand(BufferType)
    weights = operand(BufferType)
    parameters = operand(BufferType)
    output = operand(BufferType)

    weights_offset = attribute(int, default=0, bits=32)
    parameters_offset = attribute(int, default=0, bits=32)
    input_element = attribute(str, default="i8", choices=ELEMENT_NAMES, bits=2)
    weights_element = attribute(str, default="i8", choices=ELEMENT_NAMES, bits=2)
    pre_shift = attribute(int, default=0, bits=6)
    input_zero = attribute(int, bits=-16)
    zero_point = attribute(int, bits=-16)
    low = attribute(int, default=-128, bits=-16)
    high = attribute(int, default=127, bits=-16)
    useful_macs = attribute(int, default=0)

    def parameter_regions(self) -> tuple[Region, ...]:
        size = self.kernel_h * self.kernel_w * self.channels * self.size_of("weights")
        weights = Region("weights", False, self.weights_offset, (size,), (1,))
        return (
            weights,
            Region("parameters", False, self.parameters_offset, (self.record_bytes * self.channels,), (1,)),
        )

    @property
    def record_bytes(self) -> int:
        """Bytes of the parameters of one channel."""
        return self.element_of("input").record_bytes

    def evaluate(self, input: Array, weights: Array, parameters: Array, output: Array) -> None:
        shape, size = (self.kernel_h, self.kernel_w, self.channels), self.size_of("weights")
        strides = (self.kernel_w * self.channels * size, self.channels * size, size)
        taps = self.view("weights", weights, self.weights_offset, shape, strides)
        if self.element_of("output").is_float:
            self._convolve_floats(input, taps.astype(np.float32), parameters, output)
            return
        windows = self.windows(self.padded_input(input, self.channels, self.input_zero)).astype(np.float64)
        taps = taps.astype(np.float64)
        total = np.einsum("...hwijc,ijc->...hwc", windows, taps if taps.ndim == 3 else taps[0])
        records = (self.parameters_offset, self.channels, self.record_bytes)
        bias, multiplier, shift = unpack_requantization(parameters, *records)
        flat = (*bias.shape[:-1], 1, 1, self.channels)
        clip = (self.zero_point, self.low, self.high, self.element_of("output").dtype)
        biased = pre_shifted(total + bias.reshape(flat), self.pre_shift)
        self.output_view(output)[...] = rescale(biased, multiplier.reshape(flat), shift.reshape(flat), *clip)

    def _convolve_floats(self, input: Array, taps: Array, parameters: Array, output: Array) -> None:
        windows = self.windows(self.padded_input(input, self.channels, 0).astype(np.float32))
        total = np.zeros((*windows.shape[:-3], self.channels), np.float32)
        with np.errstate(all="ignore"):
            for row, column in np.ndindex(self.kernel_h, self.kernel_w):
                total += gated_product(windows[..., row, column, :], taps[..., row, column, :][..., None, None, :])
        bias, factor = unpack_factors(parameters, self.parameters_offset, self.channels)
        flat = (*bias.shape[:-1], 1, 1, self.channels)
        result = with_bias(total, factor.reshape(flat), bias.reshape(flat), self.low, self.high)
        self.output_view(output)[...] = result


def _counted(count: int, stride: int, kernel: int, dilation: int, pad: int) -> Array:
    return np.arange(count)[:, None] * stride + np.arange(kernel)[None, :] * dilation - pad

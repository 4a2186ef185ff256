"""Instructions of the vector unit that look at all channels of a pixel: softmax and normalisations."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute, operand
from ..core.types import Array
from ..quant.arithmetic import round_to_range
from ..quant.bfloat16_tables import LRN_ENTRIES, brain_float_layer_norm, brain_float_lrn, brain_float_softmax
from ..quant.layer_norm import layer_norm_steps
from ..quant.tables import lrn_gain, softmax_entries, softmax_steps, window_sums
from .instruction import Region
from .types import BufferType, strided_view
from .vector import UnaryVectorOp


class ChannelwiseOp(UnaryVectorOp):
    """One input, and a table of int32 words (float32 for floats) in SRAM."""

    table = operand(BufferType)
    output = operand(BufferType)

    table_offset = attribute(int, default=0, bits=32)

    @property
    def table_words(self) -> int:
        """The number of int32 words read."""
        return softmax_entries(self.element_of("input").type)

    def parameter_regions(self) -> tuple[Region, ...]:
        return (Region("table", False, self.table_offset, (4 * self.table_words,), (1,)),)

    def words(self, memory: Array) -> Array:
        """The table; the same for all samples."""
        first = memory.reshape(-1, memory.shape[-1])[0]
        span = first[self.table_offset : self.table_offset + 4 * self.table_words]
        return np.ascontiguousarray(span).view("<f4" if self.element_of("input").is_float else "<i4")


class SoftmaxOp(ChannelwiseOp):
    """out = clip(round(2^b * e / sum(e)) + low of the element) over the channels of a pixel, e = exp(in - maximum).

    How e is made of the table and what b is: accelc.dialects.quant.tables.softmax_steps; of bf16:
    accelc.dialects.quant.bfloat16_tables.brain_float_softmax.
    """

    name = "tile.softmax"

    def evaluate(self, input: Array, table: Array, output: Array) -> None:
        softmax = brain_float_softmax if self.element_of("input").is_float else softmax_steps
        self.output_view(output)[...] = softmax(self.input_view(input), self.words(table), -1)


class MaskedSoftmaxOp(ChannelwiseOp):
    """As softmax, of the channels whose byte in `mask` is not 0; the others are 0 in the result and count for nothing.

    The mask of pixel (y, x) is `out_c` bytes at mask_offset + y*row + x*pixel stride; a stride of 0 repeats it.
    """

    name = "tile.masked_softmax"

    mask = operand(BufferType)

    mask_offset = attribute(int, default=0, bits=32)
    mask_row_stride = attribute(int, default=0, bits=24)
    mask_pixel_stride = attribute(int, default=0, bits=24)

    def parameter_regions(self) -> tuple[Region, ...]:
        shape, strides = (self.out_h, self.out_w, self.out_c), (self.mask_row_stride, self.mask_pixel_stride, 1)
        return (*super().parameter_regions(), Region("mask", False, self.mask_offset, shape, strides))

    def evaluate(self, input: Array, table: Array, output: Array, mask: Array) -> None:
        shape, strides = (self.out_h, self.out_w, self.out_c), (self.mask_row_stride, self.mask_pixel_stride, 1)
        shown = strided_view(mask, self.mask_offset, shape, strides)
        softmax = brain_float_softmax if self.element_of("input").is_float else softmax_steps
        self.output_view(output)[...] = softmax(self.input_view(input), self.words(table), -1, shown)


class LrnOp(ChannelwiseOp):
    """out = clip(round((in - input_zero) * G * 2^-shift) + zero_point), G the gain of the sum of squares around it.

    The sum is over `size` neighbouring channels. The table has `entries` words; how it is indexed and interpolated:
    accelc.dialects.quant.tables.lrn_gain. Of bf16: accelc.dialects.quant.bfloat16_tables.brain_float_lrn.
    """

    name = "tile.lrn"

    size = attribute(int, bits=12)
    entries = attribute(int, bits=16)
    shift = attribute(int, bits=8)
    input_zero = attribute(int, bits=-16)
    zero_point = attribute(int, bits=-16)
    low = attribute(int, default=-128, bits=-16)
    high = attribute(int, default=127, bits=-16)

    def verify(self) -> None:
        super().verify()
        if self.element_of("input").is_float and self.entries != LRN_ENTRIES:
            raise self.error(f"entries is {self.entries}, expected {LRN_ENTRIES} for numbers of {self.element}")

    @property
    def table_words(self) -> int:
        return self.entries

    def evaluate(self, input: Array, table: Array, output: Array) -> None:
        if self.element_of("input").is_float:
            self.output_view(output)[...] = brain_float_lrn(self.input_view(input), self.words(table), self.size)
            return
        offset = self.input_view(input).astype(np.int64) - self.input_zero
        gain = lrn_gain(self.words(table), window_sums(offset * offset, self.size))
        steps = offset * gain * 2.0**-self.shift
        clip = (self.zero_point, self.low, self.high, self.element_of("output").dtype)
        self.output_view(output)[...] = round_to_range(steps, *clip)


class LayerNormOp(ChannelwiseOp):
    """Layer normalisation (RMS normalisation unless `centred`) of each pixel: accelc.dialects.quant.layer_norm.

    The table holds E (two words, the low one first), then for every channel its gain G and its offset B. Of bf16 it is
    float32: epsilon, a word that is not read, the gains and offsets of `brain_float_layer_norm`.
    """

    name = "tile.layer_norm"

    centred = attribute(bool, default=True, bits=1)
    shift = attribute(int, bits=8)
    input_zero = attribute(int, bits=-16)
    zero_point = attribute(int, bits=-16)
    low = attribute(int, default=-128, bits=-16)
    high = attribute(int, default=127, bits=-16)

    @property
    def table_words(self) -> int:
        return 2 + 2 * self.out_c

    def evaluate(self, input: Array, table: Array, output: Array) -> None:
        words = self.words(table)
        if self.element_of("input").is_float:
            parameters = (words[2::2], words[3::2], float(words[0]))
            numbers = brain_float_layer_norm(self.input_view(input), *parameters, centred=self.centred)
            self.output_view(output)[...] = numbers
            return
        words = words.astype(np.int64)
        epsilon = int(words[0] & 0xFFFFFFFF) + (int(words[1]) << 32)
        x = self.input_view(input).astype(np.int64) - self.input_zero
        steps = layer_norm_steps(x, words[2::2], words[3::2], self.shift, epsilon, centred=self.centred)
        clip = (self.zero_point, self.low, self.high, self.element_of("output").dtype)
        self.output_view(output)[...] = round_to_range(steps, *clip)

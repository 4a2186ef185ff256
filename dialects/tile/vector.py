"""Element-wise instructions of the vector unit: requantize accumulators, add and multiply, look up, rescale."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from ..core.fields import attribute, operand
from ..core.types import Array, ScalarType, Type
from ..quant.arithmetic import pre_shifted, rescale
from ..quant.bfloat16 import finished, with_bias
from ..quant.bfloat16_tables import HEADER_ENTRIES, LARGEST_PAGES, SEGMENT, looked_up_brain_float
from ..quant.tables import looked_up, lookup_entries
from .elements import ELEMENT_NAMES, ElementOp
from .instruction import Region
from .records import RECORD_BYTES, unpack_factors, unpack_floats, unpack_multipliers, unpack_requantization
from .types import BufferType, strided_view


class VectorOp(ElementOp):
    """Writes `out_h` x `out_w` pixels of `out_c` channels; (y, x) at output_offset + y*row + x*pixel stride bytes."""

    engine = "vector"

    out_h = attribute(int, bits=16)
    out_w = attribute(int, bits=16)
    out_c = attribute(int, bits=16)
    output_offset = attribute(int, default=0, bits=32)
    output_row_stride = attribute(int, bits=24)
    output_pixel_stride = attribute(int, bits=24)

    def infer_types(self) -> tuple[Type, ...]:
        return ()

    def output_region(self) -> Region:
        """The write of the output."""
        strides = (self.output_row_stride, self.output_pixel_stride, self.size_of("output"))
        return self.region("output", True, self.output_offset, (self.out_h, self.out_w, self.out_c), strides)

    def output_view(self, memory: Array) -> Array:
        """The output as a writable view [..., out_h, out_w, out_c]."""
        strides = (self.output_row_stride, self.output_pixel_stride, self.size_of("output"))
        return self.view("output", memory, self.output_offset, (self.out_h, self.out_w, self.out_c), strides)


class RequantizeOp(VectorOp):
    """out = clip(round((acc + bias >> pre_shift) * M * 2^-s) + zero_point, low, high) per channel, to SRAM.

    Reads the accumulators that a matmul with `groups` groups of `group_columns` channels laid out (rows = out_h*out_w)
    and of each group the `out_c` columns from `first_column` on; group g of the output is output_group_stride bytes
    further. `parameters` holds one record (bias, multiplier, shift) for every column written, group by group. The
    accumulators are those of products of `accumulator_element`, which fixes the size of a record; the result is made of
    `element`. `pre_shift` brings sums of more than 32 bits to the multiplier: |acc + bias| < 2^(31 + pre_shift).

    bf16: out = clamp(acc * factor + bias) with two float32 operations and one rounding; a record is (bias, factor).
    """

    name = "tile.requantize"
    spaces = MappingProxyType({"accumulator": "acc"})

    accumulator = operand(BufferType)
    parameters = operand(BufferType)
    output = operand(BufferType)

    accumulator_offset = attribute(int, default=0, bits=20)
    parameters_offset = attribute(int, default=0, bits=32)
    tile_columns = attribute(int, bits=12)
    groups = attribute(int, default=1, bits=16)
    group_columns = attribute(int, bits=16)
    first_column = attribute(int, default=0, bits=16)
    output_group_stride = attribute(int, default=0, bits=24)
    accumulator_element = attribute(str, default="i8", choices=ELEMENT_NAMES, bits=2)
    pre_shift = attribute(int, default=0, bits=6)
    zero_point = attribute(int, bits=-16)
    low = attribute(int, default=-128, bits=-16)
    high = attribute(int, default=127, bits=-16)

    @property
    def accumulator_rows(self) -> int:
        """Accumulator rows of the whole matmul result it reads from."""
        return self.groups * -(-self.group_columns // self.tile_columns) * self.out_h * self.out_w

    def verify(self) -> None:
        super().verify()
        if not self.tile_columns:
            raise self.error("tile_columns is 0, expected at least 1")
        if self.first_column + self.out_c > self.group_columns:
            found = f"{self.first_column} to {self.first_column + self.out_c}"
            raise self.error(f"reads columns {found}, a group has {self.group_columns}")

    def regions(self) -> tuple[Region, ...]:
        rows, tile = self.out_h * self.out_w, self.tile_columns
        group = -(-self.group_columns // tile) * rows * tile
        reads: list[Region] = []
        column, end = self.first_column, self.first_column + self.out_c
        while column < end:
            first, inside = divmod(column, tile)
            whole = (end - column) // tile if not inside else 0
            width = tile if whole else min(tile - inside, end - column)
            offset = self.accumulator_offset * tile + first * rows * tile + inside
            shape, strides = (self.groups, max(whole, 1), rows, width), (group, rows * tile, tile, 1)
            reads.append(Region("accumulator", False, offset, shape, strides))
            column += width * max(whole, 1)
        size = self.record_bytes * self.groups * self.out_c
        parameters = Region("parameters", False, self.parameters_offset, (size,), (1,))
        output = self.region("output", True, self.output_offset, *self._grouped_output)
        return (*reads, parameters, output)

    def evaluate(self, accumulator: Array, parameters: Array, output: Array) -> None:
        self.grouped_output_view(output)[...] = self.requantized(accumulator, parameters)

    def requantized(self, accumulator: Array, parameters: Array) -> Array:
        """The numbers that it writes: [..., groups, out_h, out_w, out_c]."""
        count, element = self.groups * self.out_c, self.element_of("accumulator")
        values = self.accumulator_view(element.sums(accumulator))
        grouped = (*values.shape[:-4], self.groups, 1, 1, self.out_c)
        if element.is_float:
            bias, factor = (a.reshape(grouped) for a in unpack_factors(parameters, self.parameters_offset, count))
            return with_bias(values, factor, bias, self.low, self.high)
        bias, multiplier, shift = unpack_requantization(parameters, self.parameters_offset, count, self.record_bytes)
        total = pre_shifted(values + bias.reshape(grouped), self.pre_shift)
        clip = (self.zero_point, self.low, self.high, self.element_of("output").dtype)
        return rescale(total, multiplier.reshape(grouped), shift.reshape(grouped), *clip)

    def accumulator_view(self, memory: Array) -> Array:
        """The accumulators it reads: [..., groups, out_h, out_w, out_c]; a copy when columns span tiles."""
        rows, tile = self.out_h * self.out_w, self.tile_columns
        tiles = -(-self.group_columns // tile)
        first, last = self.first_column // tile, (self.first_column + self.out_c - 1) // tile
        base = self.accumulator_offset * tile + first * rows * tile
        count = last - first + 1
        shape = (self.groups, self.out_h, self.out_w, count, tile)
        strides = (tiles * rows * tile, self.out_w * tile, tile, rows * tile, 1)
        view = strided_view(memory, base, shape, strides)
        flat = view.reshape(*view.shape[:-2], count * tile)
        skip = self.first_column - first * tile
        return flat[..., skip : skip + self.out_c]

    def grouped_output_view(self, memory: Array) -> Array:
        """The output as a writable view [..., groups, out_h, out_w, out_c]."""
        return self.view("output", memory, self.output_offset, *self._grouped_output)

    @property
    def record_bytes(self) -> int:
        """Bytes of the parameters of one channel."""
        return self.element_of("accumulator").record_bytes

    @property
    def _grouped_output(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shape and strides in bytes of the output as [groups, out_h, out_w, out_c]."""
        shape = (self.groups, self.out_h, self.out_w, self.out_c)
        step = self.size_of("output")
        return shape, (self.output_group_stride, self.output_row_stride, self.output_pixel_stride, step)


class BinaryOp(VectorOp):
    """Two inputs element by element, one rounding: add, sub, mul or div of (lhs - lhs_zero) and (rhs - rhs_zero).

    add, sub: clip(round((l*Ml +- r*Mr) * 2^-s) + zero_point); mul: l*r*Ml; div: (l*Ml*2^-s) / r, where x/0 saturates
    by the sign of x and 0/0 is 0. Strides are bytes; one of 0 broadcasts that axis.

    bf16: clamp(l op r), one float32 operation and one rounding.
    """

    name = "tile.binary"

    lhs = operand(BufferType)
    rhs = operand(BufferType)
    output = operand(BufferType)

    kind = attribute(str, choices=("add", "sub", "mul", "div"), bits=2)
    lhs_offset = attribute(int, default=0, bits=32)
    lhs_row_stride = attribute(int, bits=24)
    lhs_pixel_stride = attribute(int, bits=24)
    lhs_channel_stride = attribute(int, default=1, bits=4)
    rhs_offset = attribute(int, default=0, bits=32)
    rhs_row_stride = attribute(int, bits=24)
    rhs_pixel_stride = attribute(int, bits=24)
    rhs_channel_stride = attribute(int, default=1, bits=4)
    lhs_zero = attribute(int, default=0, bits=-16)
    rhs_zero = attribute(int, default=0, bits=-16)
    lhs_multiplier = attribute(int, bits=-24)
    rhs_multiplier = attribute(int, default=0, bits=-24)
    shift = attribute(int, bits=8)
    zero_point = attribute(int, bits=-16)
    low = attribute(int, default=-128, bits=-16)
    high = attribute(int, default=127, bits=-16)

    def regions(self) -> tuple[Region, ...]:
        shape = (self.out_h, self.out_w, self.out_c)
        left = (self.lhs_row_stride, self.lhs_pixel_stride, self.lhs_channel_stride)
        right = (self.rhs_row_stride, self.rhs_pixel_stride, self.rhs_channel_stride)
        return (
            self.region("lhs", False, self.lhs_offset, shape, left),
            self.region("rhs", False, self.rhs_offset, shape, right),
            self.output_region(),
        )

    def evaluate(self, lhs: Array, rhs: Array, output: Array) -> None:
        if self.element_of("output").is_float:
            one, two = (view.astype(np.float32) for view in self.input_views(lhs, rhs))
            with np.errstate(all="ignore"):
                real = _FLOAT_OPERATIONS[self.kind](one, two)
            self.output_view(output)[...] = finished(real, self.low, self.high)
            return
        left, right = (view.astype(np.int64) for view in self.input_views(lhs, rhs))
        left, right = left - self.lhs_zero, right - self.rhs_zero
        clip = (self.zero_point, self.low, self.high, self.element_of("output").dtype)
        if self.kind == "mul":
            result = rescale(left * right, self.lhs_multiplier, self.shift, *clip)
        elif self.kind == "div":
            scaled = left * float(self.lhs_multiplier) * 2.0**-self.shift
            saturated = np.sign(left) * float(2**31)
            quotient = np.divide(scaled, right, out=saturated, where=right != 0)
            result = np.clip(np.rint(quotient) + self.zero_point, self.low, self.high)
        else:
            sign = -1 if self.kind == "sub" else 1
            total = left * self.lhs_multiplier + sign * right * self.rhs_multiplier
            result = rescale(total, 1, self.shift, *clip)
        self.output_view(output)[...] = result

    def input_views(self, lhs: Array, rhs: Array) -> tuple[Array, Array]:
        """Both inputs as views [..., out_h, out_w, out_c]."""
        shape = (self.out_h, self.out_w, self.out_c)
        left = (self.lhs_row_stride, self.lhs_pixel_stride, self.lhs_channel_stride)
        right = (self.rhs_row_stride, self.rhs_pixel_stride, self.rhs_channel_stride)
        return self.view("lhs", lhs, self.lhs_offset, shape, left), self.view("rhs", rhs, self.rhs_offset, shape, right)


_FLOAT_OPERATIONS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


class UnaryVectorOp(VectorOp):
    """One input of the output's shape."""

    input = operand(BufferType)

    input_offset = attribute(int, default=0, bits=32)
    input_row_stride = attribute(int, bits=24)
    input_pixel_stride = attribute(int, bits=24)

    def regions(self) -> tuple[Region, ...]:
        shape = (self.out_h, self.out_w, self.out_c)
        strides = (self.input_row_stride, self.input_pixel_stride, self.size_of("input"))
        source = self.region("input", False, self.input_offset, shape, strides)
        return (source, *self.parameter_regions(), self.output_region())

    def parameter_regions(self) -> tuple[Region, ...]:
        """The reads beside the input."""
        return ()

    def input_view(self, memory: Array) -> Array:
        """The input as a view [..., out_h, out_w, out_c]."""
        shape = (self.out_h, self.out_w, self.out_c)
        strides = (self.input_row_stride, self.input_pixel_stride, self.size_of("input"))
        return self.view("input", memory, self.input_offset, shape, strides)


class LookupOp(UnaryVectorOp):
    """out = table[input + 128] for 8-bit numbers; interpolated between 513 entries for 16-bit ones.

    The table is made of `element` and lies in SRAM. That of bf16 numbers has a header and `pages`, all of 16-bit words:
    accelc.dialects.quant.bfloat16_tables.
    """

    name = "tile.lookup"

    table = operand(BufferType)
    output = operand(BufferType)

    table_offset = attribute(int, default=0, bits=32)
    pages = attribute(int, default=0, bits=12)

    def verify(self) -> None:
        super().verify()
        low, high = (1, LARGEST_PAGES) if self.element_of("input").is_float else (0, 0)
        if not low <= self.pages <= high:
            raise self.error(f"pages is {self.pages}, expected {low} to {high} for numbers of {self.element}")

    @property
    def table_entries(self) -> int:
        """The numbers in the table."""
        return table_entries(self.element_of("input").type, self.pages)

    def parameter_regions(self) -> tuple[Region, ...]:
        return (self.region("table", False, self.table_offset, (self.table_entries,), (self.size_of("table"),)),)

    def evaluate(self, input: Array, table: Array, output: Array) -> None:
        values = self.view("table", table, self.table_offset, (self.table_entries,), (self.size_of("table"),))
        first, numbers = values.reshape(-1, self.table_entries)[0], self.input_view(input)
        if self.element_of("input").is_float:
            self.output_view(output)[...] = looked_up_brain_float(numbers, first.view("<i2"))
        else:
            self.output_view(output)[...] = looked_up(numbers, first)


def table_entries(type: ScalarType, pages: int) -> int:
    """The numbers in the table of a lookup of elements of this type."""
    return HEADER_ENTRIES + SEGMENT * pages if type.is_float else lookup_entries(type)


class RescaleOp(UnaryVectorOp):
    """out = clip(round((in - input_zero) * M * 2^-s) + zero_point), (M, s) one of two by the sign of in - input_zero.

    `parameters` holds two packed multipliers (for values >= 0, for values < 0) a channel, or one pair for all channels
    when `per_channel` is false. The input is made of `input_element`, the result of `element`.

    bf16: clamp(in * factor), one float32 operation and one rounding; `parameters` holds float32 factors in the same
    places (NaN takes that of values < 0).
    """

    name = "tile.rescale"

    parameters = operand(BufferType)
    output = operand(BufferType)

    parameters_offset = attribute(int, default=0, bits=32)
    per_channel = attribute(bool, default=False, bits=1)
    input_element = attribute(str, default="i8", choices=ELEMENT_NAMES, bits=2)
    input_zero = attribute(int, bits=-16)
    zero_point = attribute(int, bits=-16)
    low = attribute(int, default=-128, bits=-16)
    high = attribute(int, default=127, bits=-16)

    def parameter_regions(self) -> tuple[Region, ...]:
        size = 2 * RECORD_BYTES * (self.out_c if self.per_channel else 1)
        return (Region("parameters", False, self.parameters_offset, (size,), (1,)),)

    def evaluate(self, input: Array, parameters: Array, output: Array) -> None:
        if self.element_of("output").is_float:
            self._multiply_floats(input, parameters, output)
            return
        values = self.input_view(input).astype(np.int64) - self.input_zero
        pairs = self.out_c if self.per_channel else 1
        multiplier, shift = unpack_multipliers(parameters, self.parameters_offset, 2 * pairs)
        rows = (*multiplier.shape[:-1], 1, 1, pairs)
        above = values >= 0
        chosen = np.where(above, multiplier[..., 0::2].reshape(rows), multiplier[..., 1::2].reshape(rows))
        shifts = np.where(above, shift[..., 0::2].reshape(rows), shift[..., 1::2].reshape(rows))
        clip = (self.zero_point, self.low, self.high, self.element_of("output").dtype)
        self.output_view(output)[...] = rescale(values, chosen, shifts, *clip)

    def _multiply_floats(self, input: Array, parameters: Array, output: Array) -> None:
        pairs = self.out_c if self.per_channel else 1
        words = unpack_floats(parameters, self.parameters_offset, 2 * pairs)
        above, below = (words[..., first::2].reshape(*words.shape[:-1], 1, 1, pairs) for first in (0, 1))
        values = self.input_view(input).astype(np.float32)
        with np.errstate(all="ignore"):
            real = values * np.where(values >= 0, above, below)
        self.output_view(output)[...] = finished(real, self.low, self.high)

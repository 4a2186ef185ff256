"""Instructions on indices: rows of a table that they name, and the place of the largest channel."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from ..core.fields import attribute, operand
from ..core.operation import Operation
from ..core.types import Array, Type
from ..quant.bfloat16 import ordinals
from ..quant.indices import MOST_ROWS, largest_index, rows_of
from .elements import ELEMENT_NAMES
from .instruction import InstructionOp, Region
from .types import BufferType, number_view, strided_view
from .vector import VectorOp

INDEX_BYTES = 2
"""An index in SRAM is an int16."""


class GatherOp(InstructionOp):
    """Load DMA: `outer` x `inner` runs of `run` contiguous bytes, each the row of a table in DRAM that an index names.

    Index (y, x) stands at indices_offset + y*outer + x*inner stride in SRAM, row r at source_offset + r*source_stride.
    A negative index counts from the end of the `rows`, one beyond them is taken to the nearest: addresses depend on
    data, times and bounds do not.
    """

    name = "tile.gather"
    engine = "load"
    spaces = MappingProxyType({"source": "dram"})

    source = operand(Type)
    indices = operand(BufferType)
    destination = operand(BufferType)

    outer = attribute(int, default=1, bits=16)
    inner = attribute(int, default=1, bits=16)
    run = attribute(int, bits=24)
    rows = attribute(int, bits=16)
    source_offset = attribute(int, default=0, bits=32)
    source_stride = attribute(int, bits=24)
    indices_offset = attribute(int, default=0, bits=32)
    indices_outer_stride = attribute(int, default=0, bits=24)
    indices_inner_stride = attribute(int, default=0, bits=24)
    destination_offset = attribute(int, default=0, bits=32)
    destination_outer_stride = attribute(int, default=0, bits=24)
    destination_inner_stride = attribute(int, default=0, bits=24)

    def infer_types(self) -> tuple[Type, ...]:
        return ()

    def verify(self) -> None:
        if (self.indices.type.space, self.destination.type.space) != ("sram", "sram"):
            spaces = f"{self.indices.type.space} into {self.destination.type.space}"
            raise self.error(f"gathers by indices in {spaces}, expected sram")
        if isinstance(self.source.type, BufferType) and self.source.type.space != "dram":
            raise self.error(f"gathers from {self.source.type.space}, expected dram")

    def regions(self) -> tuple[Region, ...]:
        shape = (self.outer, self.inner)
        read = (self.indices_outer_stride, self.indices_inner_stride, 1)
        write = (self.destination_outer_stride, self.destination_inner_stride, 1)
        return (
            Region("source", False, self.source_offset, (self.rows, self.run), (self.source_stride, 1)),
            Region("indices", False, self.indices_offset, (*shape, INDEX_BYTES), read),
            Region("destination", True, self.destination_offset, (*shape, self.run), write),
        )

    def evaluate(self, source: Array, indices: Array, destination: Array) -> None:
        """Of one table for all samples: `source` is flat, the others may have leading axes of samples."""
        flat = source.reshape(-1).view(np.int8)
        table = strided_view(flat, self.source_offset, (self.rows, self.run), (self.source_stride, 1))
        steps = (self.indices_outer_stride, self.indices_inner_stride)
        named = number_view(indices, np.dtype("<i2"), self.indices_offset, (self.outer, self.inner), steps)
        strides = (self.destination_outer_stride, self.destination_inner_stride, 1)
        shape = (self.outer, self.inner, self.run)
        strided_view(destination, self.destination_offset, shape, strides)[...] = table[rows_of(named, self.rows)]


class ArgMaxOp(VectorOp):
    """out = the index of the largest of `channels` numbers of a pixel, as an int16: the first, or the `last` of them.

    The input is made of `input_element`; floats are ordered by their ordinals.
    """

    name = "tile.arg_max"

    input = operand(BufferType)
    output = operand(BufferType)

    channels = attribute(int, bits=16)
    last = attribute(bool, default=False, bits=1)
    input_element = attribute(str, default="i8", choices=ELEMENT_NAMES, bits=2)
    input_offset = attribute(int, default=0, bits=32)
    input_row_stride = attribute(int, bits=24)
    input_pixel_stride = attribute(int, bits=24)

    def verify(self) -> None:
        Operation.verify(self)  # of all instructions on bf16 this one alone gives integers
        if self.element != "i16" or self.out_c != 1:
            raise self.error(f"gives {self.out_c} numbers of {self.element}, expected one index of i16")
        if self.channels > MOST_ROWS:
            raise self.error(f"channels is {self.channels}, expected at most {MOST_ROWS}")

    def regions(self) -> tuple[Region, ...]:
        shape = (self.out_h, self.out_w, self.channels)
        strides = (self.input_row_stride, self.input_pixel_stride, self.size_of("input"))
        return (self.region("input", False, self.input_offset, shape, strides), self.output_region())

    def evaluate(self, input: Array, output: Array) -> None:
        shape = (self.out_h, self.out_w, self.channels)
        strides = (self.input_row_stride, self.input_pixel_stride, self.size_of("input"))
        values = self.view("input", input, self.input_offset, shape, strides)
        numbers = ordinals(values) if self.element_of("input").is_float else values
        self.output_view(output)[..., 0] = largest_index(numbers, last=self.last)

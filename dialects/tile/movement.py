"""Instructions that move bytes inside the SRAM on the vector unit: strided copies and fills."""

from __future__ import annotations

from ..core.fields import attribute, operand
from ..core.types import Array, Type
from .elements import ElementOp
from .instruction import Region
from .types import BufferType


class MoveOp(ElementOp):
    """Copies `size0` x `size1` x `size2` x `size3` numbers; both sides have a stride in bytes for each axis."""

    name = "tile.move"
    engine = "vector"

    input = operand(BufferType)
    output = operand(BufferType)

    size0 = attribute(int, default=1, bits=16)
    size1 = attribute(int, default=1, bits=16)
    size2 = attribute(int, default=1, bits=16)
    size3 = attribute(int, bits=16)
    input_offset = attribute(int, default=0, bits=32)
    input_stride0 = attribute(int, default=0, bits=24)
    input_stride1 = attribute(int, default=0, bits=24)
    input_stride2 = attribute(int, default=0, bits=24)
    input_stride3 = attribute(int, default=1, bits=24)
    output_offset = attribute(int, default=0, bits=32)
    output_stride0 = attribute(int, default=0, bits=24)
    output_stride1 = attribute(int, default=0, bits=24)
    output_stride2 = attribute(int, default=0, bits=24)
    output_stride3 = attribute(int, default=1, bits=24)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Elements along each axis, outermost first."""
        return self.size0, self.size1, self.size2, self.size3

    @property
    def input_strides(self) -> tuple[int, int, int, int]:
        """Bytes between neighbours along each axis of the input."""
        return self.input_stride0, self.input_stride1, self.input_stride2, self.input_stride3

    @property
    def output_strides(self) -> tuple[int, int, int, int]:
        """Bytes between neighbours along each axis of the output."""
        return self.output_stride0, self.output_stride1, self.output_stride2, self.output_stride3

    def infer_types(self) -> tuple[Type, ...]:
        return ()

    def regions(self) -> tuple[Region, ...]:
        return (
            self.region("input", False, self.input_offset, self.sizes, self.input_strides),
            self.region("output", True, self.output_offset, self.sizes, self.output_strides),
        )

    def evaluate(self, input: Array, output: Array) -> None:
        source = self.view("input", input, self.input_offset, self.sizes, self.input_strides)
        self.view("output", output, self.output_offset, self.sizes, self.output_strides)[...] = source.copy()


class FillOp(ElementOp):
    """Writes `value` to `outer` x `inner` runs of `run` numbers; strides are bytes."""

    name = "tile.fill"
    engine = "vector"

    output = operand(BufferType)

    value = attribute(int, bits=-16)
    outer = attribute(int, default=1, bits=16)
    inner = attribute(int, default=1, bits=16)
    run = attribute(int, bits=24)
    output_offset = attribute(int, default=0, bits=32)
    output_outer_stride = attribute(int, default=0, bits=24)
    output_inner_stride = attribute(int, default=0, bits=24)

    def infer_types(self) -> tuple[Type, ...]:
        return ()

    def regions(self) -> tuple[Region, ...]:
        strides = (self.output_outer_stride, self.output_inner_stride, self.size_of("output"))
        return (self.region("output", True, self.output_offset, (self.outer, self.inner, self.run), strides),)

    def evaluate(self, output: Array) -> None:
        self.output_view(output)[...] = self.element_of("output").stored(self.value)

    def output_view(self, memory: Array) -> Array:
        """The output as a writable view [..., outer, inner, run]."""
        strides = (self.output_outer_stride, self.output_inner_stride, self.size_of("output"))
        return self.view("output", memory, self.output_offset, (self.outer, self.inner, self.run), strides)

"""Buffers and data transfers: allocation, host access to DRAM, load and store DMA."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from ..core.fields import attribute, operand, result
from ..core.operation import Operation
from ..core.types import Array, TensorType, Type
from .instruction import InstructionOp, Region
from .types import BufferType, strided_view


class AllocOp(Operation):
    """A buffer. `address` (bytes; rows in accumulators) is chosen by `allocate-banks`, -1 before.

    `row_stride` is the number of bytes of one image row when the buffer holds a tensor (the scheduler cuts it into
    strips of whole rows), 0 otherwise. `columns` is the number of integers in an accumulator row.
    """

    name = "tile.alloc"

    address = attribute(int, default=-1)
    columns = attribute(int, default=1)
    row_stride = attribute(int, default=0)
    buffer = result(BufferType)

    def evaluate(self) -> Array:
        kind = self.buffer.type
        if kind.space == "acc":
            return np.zeros(kind.size * self.columns, np.int64)
        return np.zeros(kind.size, np.int8)


class HostWriteOp(Operation):
    """The host places a tensor densely (row-major) at `buffer_offset` of a DRAM buffer."""

    name = "tile.host_write"

    data = operand(TensorType)
    buffer = operand(BufferType)
    buffer_offset = attribute(int, default=0)

    def infer_types(self) -> tuple[Type, ...]:
        return ()

    def verify(self) -> None:
        if self.buffer.type.space != "dram":
            raise self.error(f"writes to {self.buffer.type.space}, expected dram")

    def evaluate(self, data: Array, buffer: Array) -> None:
        flat = np.ascontiguousarray(data).reshape(-1).view(np.int8)
        buffer[self.buffer_offset : self.buffer_offset + flat.size] = flat


class HostReadOp(Operation):
    """The host reads a dense tensor from `buffer_offset` of a DRAM buffer."""

    name = "tile.host_read"

    buffer = operand(BufferType)
    buffer_offset = attribute(int, default=0)
    data = result(TensorType)

    def verify(self) -> None:
        if self.buffer.type.space != "dram":
            raise self.error(f"reads from {self.buffer.type.space}, expected dram")

    def evaluate(self, buffer: Array) -> Array:
        kind = self.data.type
        size = kind.size * kind.element.dtype.itemsize
        flat = buffer[self.buffer_offset : self.buffer_offset + size]
        return flat.view(kind.element.dtype).reshape(kind.shape).copy()


class TransferOp(InstructionOp):
    """Copies `outer` x `inner` runs of `run` contiguous bytes between DRAM and SRAM, each side with its own strides."""

    outer = attribute(int, default=1, bits=16)
    inner = attribute(int, default=1, bits=16)
    run = attribute(int, bits=24)
    source_offset = attribute(int, default=0, bits=32)
    source_outer_stride = attribute(int, default=0, bits=24)
    source_inner_stride = attribute(int, default=0, bits=24)
    destination_offset = attribute(int, default=0, bits=32)
    destination_outer_stride = attribute(int, default=0, bits=24)
    destination_inner_stride = attribute(int, default=0, bits=24)

    @property
    def size(self) -> int:
        """Bytes moved."""
        return self.outer * self.inner * self.run

    def infer_types(self) -> tuple[Type, ...]:
        return ()

    def regions(self) -> tuple[Region, ...]:
        shape = (self.outer, self.inner, self.run)
        read = (self.source_outer_stride, self.source_inner_stride, 1)
        write = (self.destination_outer_stride, self.destination_inner_stride, 1)
        return (
            Region("source", False, self.source_offset, shape, read),
            Region("destination", True, self.destination_offset, shape, write),
        )

    def evaluate(self, source: Array, destination: Array) -> None:
        shape = (self.outer, self.inner, self.run)
        flat = source.reshape(-1).view(np.int8)
        read = strided_view(flat, self.source_offset, shape, (self.source_outer_stride, self.source_inner_stride, 1))
        strides = (self.destination_outer_stride, self.destination_inner_stride, 1)
        strided_view(destination, self.destination_offset, shape, strides)[...] = read


class LoadOp(TransferOp):
    """Load DMA: DRAM (a buffer, or a constant of the module) to SRAM."""

    name = "tile.load"
    engine = "load"
    spaces = MappingProxyType({"source": "dram"})

    source = operand(Type)
    destination = operand(BufferType)

    def verify(self) -> None:
        if self.destination.type.space != "sram":
            raise self.error(f"loads into {self.destination.type.space}, expected sram")
        if isinstance(self.source.type, BufferType) and self.source.type.space != "dram":
            raise self.error(f"loads from {self.source.type.space}, expected dram")


class StoreOp(TransferOp):
    """Store DMA: SRAM to DRAM."""

    name = "tile.store"
    engine = "store"
    spaces = MappingProxyType({"destination": "dram"})

    source = operand(BufferType)
    destination = operand(BufferType)

    def verify(self) -> None:
        if (self.source.type.space, self.destination.type.space) != ("sram", "dram"):
            actual = f"{self.source.type.space} to {self.destination.type.space}"
            raise self.error(f"stores {actual}, expected sram to dram")

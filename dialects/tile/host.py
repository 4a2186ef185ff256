"""The instruction with which the machine lets the host compute what it cannot."""

from __future__ import annotations

from types import MappingProxyType

from ..core.fields import attribute, operand
from ..core.types import Array, Type
from .instruction import InstructionOp, Region
from .types import BufferType


class CallHostOp(InstructionOp):
    """Stops the store queue until the host has done call `call` of the program.

    By then all earlier stores are in DRAM, where the host reads them; `size` bytes from `destination_offset` of
    `destination` on are its results, for loads that wait for the store queue. The other engines go on. What the host
    does stands behind the instruction: tile.host_read, quant.dequantize, nn.host, quant.quantize, tile.host_write.
    """

    name = "tile.call_host"
    engine = "store"
    spaces = MappingProxyType({"destination": "dram"})

    destination = operand(BufferType)
    call = attribute(int, bits=16)
    size = attribute(int, bits=32)
    destination_offset = attribute(int, default=0, bits=32)

    def infer_types(self) -> tuple[Type, ...]:
        return ()

    def verify(self) -> None:
        if self.destination.type.space != "dram":
            raise self.error(f"the results of the host go to {self.destination.type.space}, expected dram")

    def regions(self) -> tuple[Region, ...]:
        return (Region("destination", True, self.destination_offset, (self.size,), (1,)),)

    def evaluate(self, destination: Array) -> None:
        """Nothing: the operations of the host stand behind it."""

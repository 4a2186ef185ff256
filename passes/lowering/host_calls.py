"""Calls of the host become one instruction each, with a DRAM buffer for what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...backends.host import stored_bytes
from ...backends.program import ALIGNMENT
from ...dialects.core.operation import Function, Value
from ...dialects.nn.movement import ReshapeOp, TransposeOp
from ...dialects.nn.onnx import HostOp
from ...dialects.quant.ops import QuantizeOp
from ...dialects.tile.host import CallHostOp
from ...dialects.tile.memory import AllocOp, HostWriteOp
from ...dialects.tile.types import BufferType
from .emission import Emitter
from .movement import emit_input


@dataclass
class Mailboxes:
    """Where in DRAM the host puts the quantized results of its calls: one buffer for each call.

    `offsets` has the place of every tensor that is quantized from results of the host; `sizes` the bytes of a call.
    """

    offsets: dict[QuantizeOp, int] = field(default_factory=dict[QuantizeOp, int])
    sizes: dict[HostOp, int] = field(default_factory=dict[HostOp, int])
    buffers: dict[HostOp, Value[Any]] = field(default_factory=dict[HostOp, Value[Any]])

    @classmethod
    def of(cls, function: Function) -> Mailboxes:
        """Lay out the buffers of all calls of a function."""
        boxes = cls({}, {op: 0 for op in function.body if isinstance(op, HostOp)})
        for op in function.body:
            if isinstance(op, QuantizeOp) and (call := source_of(op.data)) is not None:
                boxes.offsets[op] = boxes.sizes[call]
                boxes.sizes[call] += stored_bytes(op.out.type) + -stored_bytes(op.out.type) % ALIGNMENT
        return boxes

    def emit_call(self, emitter: Emitter, op: HostOp) -> None:
        """The instruction, then the call itself."""
        size = max(self.sizes[op], ALIGNMENT)
        buffer = AllocOp((), (BufferType("dram", size),), {}, op.location)
        buffer.buffer.name = op.callee
        self.buffers[op] = buffer.buffer
        emitter.operations.append(buffer)
        emitter.begin_layer(op, "host")
        emitter.add(CallHostOp, [buffer.buffer], call=len(self.buffers) - 1, size=size)
        emitter.operations.append(op)

    def emit_result(self, emitter: Emitter, op: QuantizeOp) -> None:
        """What the host puts into the buffer of its call, and the load of it."""
        call = source_of(op.data)
        assert call is not None
        buffer, offset = self.buffers[call], self.offsets[op]
        attributes = {"buffer_offset": offset} if offset else {}
        emitter.operations += [op, HostWriteOp([op.out, buffer], (), attributes)]
        emit_input(emitter, op, buffer, offset)


def source_of(value: Value[Any]) -> HostOp | None:
    """The call that a value of the host comes from by transposes and reshapes."""
    op = value.defining_op
    while isinstance(op, (TransposeOp, ReshapeOp)):
        op = op.operands[0].defining_op
    return op if isinstance(op, HostOp) else None

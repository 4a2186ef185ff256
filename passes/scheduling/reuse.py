"""Constants that several units read, the weights of every step of a recurrent layer, are loaded once and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.tile.memory import LoadOp


def repeated_loads(operations: Sequence[Operation], room: int) -> dict[LoadOp, Value[Any]]:
    """Loads of constants that an earlier load has brought in the same way, each with the buffer to read instead.

    A buffer is kept from one reader to the next as long as all that is live meanwhile takes at most `room` bytes.
    Linear in the operations, plus their number for every constant that is kept.
    """
    first, last, written = _spans(operations)
    usage = np.zeros(len(operations) + 1, np.int64)
    for buffer, begin in first.items():
        usage[begin : last[buffer] + 1] += buffer.type.size
    kept: dict[tuple[Any, ...], Value[Any]] = {}
    found: dict[LoadOp, Value[Any]] = {}
    for index, op in enumerate(operations):
        if not isinstance(op, LoadOp) or not isinstance(op.source, Constant) or written[op.destination] > 1:
            continue
        buffer, size = op.destination, op.destination.type.size
        attributes = sorted((name, value) for name, value in op.attributes.items() if name != "layer")
        key = (op.source, size, *attributes)
        earlier = kept.get(key)
        if earlier is not None and usage[last[earlier] + 1 : index].max(initial=0) + size <= room:
            usage[last[earlier] + 1 : index] += size
            usage[index : min(last[earlier], last[buffer]) + 1] -= size
            last[earlier] = max(last[earlier], last[buffer])
            found[op] = earlier
        else:
            kept[key] = buffer
    return found


def read_instead(operations: Sequence[Operation], buffers: dict[LoadOp, Value[Any]]) -> Iterator[bool]:
    """Make what reads the buffers of these loads read the others; for every operation whether it is still needed."""
    others = {load.destination: buffer for load, buffer in buffers.items()}
    for op in operations:
        if op in buffers:
            op.set_operands(())
            yield False
            continue
        for index, value in enumerate(op.operands):
            if value in others:
                op.set_operand(index, others[value])
        yield True


def _spans(
    operations: Sequence[Operation],
) -> tuple[dict[Value[Any], int], dict[Value[Any], int], Counter[Value[Any]]]:
    """The first and the last operation that touches each SRAM buffer, and how many loads write it."""
    first: dict[Value[Any], int] = {}
    last: dict[Value[Any], int] = {}
    written: Counter[Value[Any]] = Counter()
    for index, op in enumerate(operations):
        for value in op.operands:
            if getattr(value.type, "space", "") == "sram":
                first.setdefault(value, index)
                last[value] = index
        if isinstance(op, LoadOp):
            written[op.destination] += 1
    return first, last, written

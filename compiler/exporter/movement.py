"""Data movement on integers in ONNX: what is stored is moved, no number changes."""

from __future__ import annotations

import numpy as np

from ...dialects.nn.movement import ConcatOp, GatherOp, PadOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from ...dialects.quant.types import QuantizedType
from .graph import GraphWriter, axis_in, order_in


def concat(op: ConcatOp, graph: GraphWriter) -> None:
    """Concat of the integers."""
    layout = graph.layout(op)
    inputs = [graph.stored(op, value, layout) for value in op.inputs]
    graph.store(op.out, graph.node(op, "Concat", inputs, axis=axis_in(layout, op.axis)), layout)


def cut(op: SliceOp, graph: GraphWriter) -> None:
    """Slice of the integers."""
    layout, rank = graph.layout(op), len(op.starts)
    starts, stops, steps = (order_in(layout, entries) for entries in (op.starts, op.stops, op.steps))
    lists = [graph.integers(entries, "bounds") for entries in (starts, stops, range(rank), steps)]
    graph.store(op.out, graph.node(op, "Slice", [graph.stored(op, op.data, layout), *lists]), layout)


def pad(op: PadOp, graph: GraphWriter) -> None:
    """Pad of the integers with the integer that stands for the value."""
    layout = graph.layout(op)
    pads = graph.integers([*order_in(layout, op.low), *order_in(layout, op.high)], "pads")
    element = op.data.type.element
    if isinstance(element, QuantizedType) and element.dtype.itemsize != 1:  # onnxruntime pads no 16-bit integers
        value = graph.constant(np.float32((op.stored_value - element.zero_point) * element.scale), "value")
        graph.quantize(op, graph.node(op, "Pad", [graph.real(op, op.data, layout), pads, value]), layout)
        return
    value = graph.constant(op.data.type.element.dtype.type(op.stored_value), "value")
    graph.store(op.out, graph.node(op, "Pad", [graph.stored(op, op.data, layout), pads, value]), layout)


def gather(op: GatherOp, graph: GraphWriter) -> None:
    """Gather of the integers."""
    layout = graph.layout(op)
    inputs = [graph.stored(op, op.data, layout), graph.integers(op.indices, "indices")]
    graph.store(op.out, graph.node(op, "Gather", inputs, axis=axis_in(layout, op.axis)), layout)


def permute(op: PermuteChannelsOp, graph: GraphWriter) -> None:
    """Gather of the channels."""
    layout, rank = graph.layout(op), op.data.type.rank
    inputs = [graph.stored(op, op.data, layout), graph.integers(op.permutation, "permutation")]
    graph.store(op.out, graph.node(op, "Gather", inputs, axis=axis_in(layout, rank - 1)), layout)


def reshape(op: ReshapeOp, graph: GraphWriter) -> None:
    """Reshape of what is stored."""
    graph.store(op.out, graph.node(op, "Reshape", [graph.stored(op, op.data), graph.integers(op.shape, "shape")]))


def transpose(op: TransposeOp, graph: GraphWriter) -> None:
    """Transpose of what is stored."""
    graph.store(op.out, graph.node(op, "Transpose", [graph.stored(op, op.data)], perm=list(op.permutation)))

"""What every operation on integers is in ONNX: one function a family, all of them in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ...dialects.core.operation import Constant, Operation
from ...dialects.core.types import F32
from ...dialects.nn.activation import PReluOp
from ...dialects.nn.cast import CastOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import AddOp, BinaryOperation, DivOp, MulOp, SubOp
from ...dialects.nn.indexing import ArgMaxOp, EmbeddingOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import ConcatOp, GatherOp, PadOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from ...dialects.nn.normalization import LrnOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import MaskedSoftmaxOp, SoftmaxOp
from ...dialects.quant.indices import INDEX_TYPE
from ...dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp
from ...dialects.quant.tables import looked_up
from ...dialects.quant.types import QuantizedType, quantized_element
from ..importer.reading import EXPORTED
from .graph import AS_IS, CHANNELS_FIRST, GraphWriter, axis_in
from .movement import concat, cut, gather, pad, permute, reshape, transpose
from .products import convolution, is_ratio, product

AXES_INPUT_OPSET = 18
"""From this opset on ReduceMean takes its axes as an input, as ReduceSum does already."""

HIDDEN = -1e9
"""What is added to hidden scores: the softmax of the rest is what it is without them."""

Exporter = Callable[[Any, GraphWriter], None]


def quantize(op: QuantizeOp, graph: GraphWriter) -> None:
    """QuantizeLinear of an input, or of floats that the host has moved."""
    graph.quantize(op, graph.stored(op, op.data))


def dequantize(op: DequantizeOp, graph: GraphWriter) -> None:
    """DequantizeLinear for the readers of floats."""
    graph.store(op.out, graph.real(op, op.data))


def requantize(op: RequantizeOp, graph: GraphWriter) -> None:
    """The end of a convolution or product; else integers of one type as those of another."""
    source = op.data.defining_op
    if isinstance(source, Conv2dOp) and not isinstance(op.data.type.element, QuantizedType):
        convolution(source, op, graph)
    elif isinstance(source, MatmulOp) and not isinstance(op.data.type.element, QuantizedType):
        product(source, op, graph)
    else:
        ratio = quantized_element(op.data.type).scale / quantized_element(op.out.type).scale
        if not is_ratio(op, ratio):
            raise op.error("a factor other than the ratio of the scales has no form in ONNX")
        layout = graph.layout(op)
        graph.quantize(op, graph.real(op, op.data, layout), layout, op.bounds)


def accumulate(op: Conv2dOp | MatmulOp, graph: GraphWriter) -> None:
    """Nothing yet: the `quant.requantize` that reads the accumulators writes both."""


def binary(op: BinaryOperation, graph: GraphWriter) -> None:
    """Add, Sub, Mul, Div of the reals."""
    layout = graph.layout(op)
    kind = {AddOp: "Add", SubOp: "Sub", MulOp: "Mul", DivOp: "Div"}[type(op)]  # pyright: ignore[reportArgumentType]
    operands = [graph.real(op, value, layout if _follows(value, op) else AS_IS) for value in op.operands]
    if layout == CHANNELS_FIRST and not all(_follows(value, op) for value in op.operands):
        layout = AS_IS
        operands = [graph.real(op, value) for value in op.operands]
    graph.quantize(op, graph.node(op, kind, operands), layout, op.integer_bounds)


def _follows(value: Any, op: Operation) -> bool:
    """True if the layout of the value can follow that of the result: a constant that broadcasts, or rank 4."""
    return isinstance(value, Constant) or value.type.rank == op.result.type.rank


def prelu(op: PReluOp, graph: GraphWriter) -> None:
    """PRelu with the float slopes."""
    layout = graph.layout(op)
    inputs = [graph.real(op, op.data, layout), graph.stored(op, op.slope, layout)]
    graph.quantize(op, graph.node(op, "PRelu", inputs), layout)


def lookup(op: LookupOp, graph: GraphWriter) -> None:
    """A function of this model: Gather(table, integer + half its entries), exact for any function of one number."""
    element, source = quantized_element(op.out.type), quantized_element(op.data.type)
    assert isinstance(op.table, Constant)
    table = op.table.array
    if source.dtype.itemsize != 1:  # the straight lines between the knots, at every integer
        lowest, highest = np.iinfo(source.dtype).min, np.iinfo(source.dtype).max
        table = looked_up(np.arange(lowest, highest + 1).astype(source.dtype), table)
    layout = graph.layout(op)
    inputs = [graph.stored(op, op.data, layout), graph.constant(table, str(op.table.name))]
    scale, zero_point = element.scale, element.zero_point
    result = graph.node(op, "Lookup", inputs, domain=EXPORTED, scale=scale, zero_point=zero_point)
    graph.store(op.out, result, layout)


def pool(op: MaxPoolOp | AveragePoolOp, graph: GraphWriter) -> None:
    """MaxPool and AveragePool of the reals."""
    attributes: dict[str, Any] = {"kernel_shape": list(op.kernel), "strides": list(op.strides), "pads": list(op.pads)}
    bounds = None
    if isinstance(op, AveragePoolOp):
        if any(op.counted_pads) and op.counted_pads != op.pads:
            raise op.error(f"counted_pads {list(op.counted_pads)} have no form in ONNX, expected pads or zeros")
        attributes["count_include_pad"] = int(any(op.counted_pads))
        bounds = op.integer_bounds
    if any(dilation != 1 for dilation in op.dilations):
        if isinstance(op, AveragePoolOp):
            raise op.error("a dilated average has no form in ONNX before opset 19")
        attributes["dilations"] = list(op.dilations)
    kind = "MaxPool" if isinstance(op, MaxPoolOp) else "AveragePool"
    pooled = graph.node(op, kind, [graph.real(op, op.data, CHANNELS_FIRST)], **attributes)
    graph.quantize(op, pooled, CHANNELS_FIRST, bounds)


def mean(op: ReduceMeanOp, graph: GraphWriter) -> None:
    """ReduceMean of the reals; ReduceSum where the factor is the number of elements."""
    if op.factor not in (1.0, float(op.count)):
        raise op.error(
            f"{op.factor} times the mean of {op.count} elements has no form in ONNX, expected 1 or {op.count}"
        )
    layout = graph.layout(op) if op.keepdims else AS_IS
    axes = [axis_in(layout, axis) for axis in op.axes]
    data, keepdims = graph.real(op, op.data, layout), int(op.keepdims)
    kind = "ReduceMean" if op.factor == 1.0 else "ReduceSum"
    if kind == "ReduceMean" and graph.opset < AXES_INPUT_OPSET:
        reduced = graph.node(op, kind, [data], axes=axes, keepdims=keepdims)
    else:
        reduced = graph.node(op, kind, [data, graph.integers(axes, "axes")], keepdims=keepdims)
    graph.quantize(op, reduced, layout, op.integer_bounds)


def lrn(op: LrnOp, graph: GraphWriter) -> None:
    """LRN of the reals of an image."""
    if op.data.type.rank != 4:
        raise op.error(f"an LRN of rank {op.data.type.rank} has no form in ONNX, expected 4")
    data = graph.real(op, op.data, CHANNELS_FIRST)
    normalized = graph.node(op, "LRN", [data], size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)
    graph.quantize(op, normalized, CHANNELS_FIRST)


def layer_norm(op: LayerNormOp, graph: GraphWriter) -> None:
    """LayerNormalization of the reals over the last axis; without a mean the arithmetic of x / sqrt(mean(x x) + e)."""
    if not op.centred:
        _root_mean_square(op, graph)
        return
    inputs = [graph.real(op, op.data), graph.stored(op, op.scale), graph.stored(op, op.bias)]
    graph.quantize(op, graph.node(op, "LayerNormalization", inputs, axis=-1, epsilon=op.epsilon))


def _root_mean_square(op: LayerNormOp, graph: GraphWriter) -> None:
    data = graph.real(op, op.data)
    two, epsilon = (graph.constant(np.float32(number), "number") for number in (2.0, op.epsilon))
    squares, last = graph.node(op, "Pow", [data, two]), [-1]
    if graph.opset < AXES_INPUT_OPSET:
        mean = graph.node(op, "ReduceMean", [squares], axes=last, keepdims=1)
    else:
        mean = graph.node(op, "ReduceMean", [squares, graph.integers(last, "axes")], keepdims=1)
    root = graph.node(op, "Sqrt", [graph.node(op, "Add", [mean, epsilon])])
    result = graph.node(op, "Mul", [graph.node(op, "Div", [data, root]), graph.stored(op, op.scale)])
    if not isinstance(op.bias, Constant) or op.bias.array.any():
        result = graph.node(op, "Add", [result, graph.stored(op, op.bias)])
    graph.quantize(op, result)


def softmax(op: SoftmaxOp, graph: GraphWriter) -> None:
    """Softmax of the reals, quantized to steps of 1/256."""
    layout = graph.layout(op)
    axis = axis_in(layout, op.axis) if op.data.type.rank == 4 else op.axis
    graph.quantize(op, graph.node(op, "Softmax", [graph.real(op, op.data, layout)], axis=axis), layout)


def masked_softmax(op: MaskedSoftmaxOp, graph: GraphWriter) -> None:
    """Softmax of the reals and a constant that hides those which the mask leaves out."""
    if not isinstance(op.mask, Constant):
        raise op.error("a computed mask has no form in ONNX, expected a constant")
    shown = op.mask.array != 0
    if not shown.any(axis=-1).all():
        raise op.error("a mask that hides a whole row has no form in ONNX")
    bias = graph.constant(np.where(shown, 0, HIDDEN).astype(np.float32), str(op.mask.name))
    scores = graph.node(op, "Add", [graph.real(op, op.data), bias])
    graph.quantize(op, graph.node(op, "Softmax", [scores], axis=-1))


def embedding(op: EmbeddingOp, graph: GraphWriter) -> None:
    """Gather of the reals of rows."""
    index = graph.node(op, "Cast", [graph.stored(op, op.indices)], to=TensorProto.INT64)
    graph.quantize(op, graph.node(op, "Gather", [graph.real(op, op.table), index], axis=0))


def arg_max(op: ArgMaxOp, graph: GraphWriter) -> None:
    """ArgMax of the reals."""
    axis, last = op.data.type.rank - 1, int(op.last)
    index = graph.node(op, "ArgMax", [graph.real(op, op.data)], axis=axis, keepdims=0, select_last_index=last)
    graph.store(op.result, graph.node(op, "Cast", [index], to=TensorProto.FLOAT))


def cast(op: CastOp, graph: GraphWriter) -> None:
    """Cast on the side of the host, to integers from the nearest one; an index is one already."""
    data, dtype = graph.stored(op, op.data), op.result.type.element.dtype
    source = op.data.defining_op
    whole = isinstance(source, DequantizeOp) and source.data.type.element == INDEX_TYPE
    if dtype.kind in "biu" and op.data.type.element == F32 and not whole:
        data = graph.node(op, "Round", [data])
    graph.store(op.result, graph.node(op, "Cast", [data], to=helper.np_dtype_to_tensor_dtype(dtype)))


EXPORTERS: dict[type[Operation], Exporter] = {
    QuantizeOp: quantize,
    DequantizeOp: dequantize,
    RequantizeOp: requantize,
    LookupOp: lookup,
    Conv2dOp: accumulate,
    MatmulOp: accumulate,
    AddOp: binary,
    SubOp: binary,
    MulOp: binary,
    DivOp: binary,
    PReluOp: prelu,
    MaxPoolOp: pool,
    AveragePoolOp: pool,
    ReduceMeanOp: mean,
    LrnOp: lrn,
    LayerNormOp: layer_norm,
    SoftmaxOp: softmax,
    MaskedSoftmaxOp: masked_softmax,
    EmbeddingOp: embedding,
    ArgMaxOp: arg_max,
    CastOp: cast,
    ConcatOp: concat,
    SliceOp: cut,
    PadOp: pad,
    GatherOp: gather,
    PermuteChannelsOp: permute,
    ReshapeOp: reshape,
    TransposeOp: transpose,
}
"""The operations that have a form in ONNX."""

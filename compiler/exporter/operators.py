"""What every operation on integers is in ONNX: one function a family, all of them in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ...dialects.core.operation import Constant, Operation
from ...dialects.core.types import F32, Array
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
from ...dialects.quant.arithmetic import fixed_point
from ...dialects.quant.indices import INDEX_TYPE
from ...dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp
from ...dialects.quant.tables import looked_up
from ...dialects.quant.types import QuantizedType, quantized_element
from ..importer.reading import EXPORTED
from .graph import AS_IS, CHANNELS_FIRST, GraphWriter, axis_in, order_in

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
        _convolution(source, op, graph)
    elif isinstance(source, MatmulOp) and not isinstance(op.data.type.element, QuantizedType):
        _product(source, op, graph)
    else:
        ratio = quantized_element(op.data.type).scale / quantized_element(op.out.type).scale
        if not _is_ratio(op, ratio):
            raise op.error("a factor other than the ratio of the scales has no form in ONNX")
        layout = graph.layout(op)
        graph.quantize(op, graph.real(op, op.data, layout), layout, op.bounds)


def accumulate(op: Conv2dOp | MatmulOp, graph: GraphWriter) -> None:
    """Nothing yet: the `quant.requantize` that reads the accumulators writes both."""


def _convolution(op: Conv2dOp, end: RequantizeOp, graph: GraphWriter) -> None:
    weight, bias = _dequantized_constants(op, end, graph, op.weight, quantized_element(op.data.type), (3, 2, 0, 1))
    result = graph.node(
        end,
        "Conv",
        [graph.real(op, op.data, CHANNELS_FIRST), weight, *bias],
        kernel_shape=list(op.weight.type.shape[:2]),
        strides=list(op.strides),
        pads=list(op.pads),
        dilations=list(op.dilations),
        group=op.groups,
    )
    graph.quantize(end, result, CHANNELS_FIRST, end.bounds)


def _product(op: MatmulOp, end: RequantizeOp, graph: GraphWriter) -> None:
    """Gemm of rows for a matrix of weights (it has a bias), MatMul of two activations."""
    left = quantized_element(op.lhs.type)
    if not op.has_weights:
        _product_of_activations(op, end, graph)
        return
    weight, bias = _dequantized_constants(op, end, graph, op.rhs, left, (0, 1))
    lhs = graph.real(op, op.lhs)
    flat = op.lhs.type.rank == 2
    if not flat:
        lhs = graph.node(end, "Reshape", [lhs, _integers(graph, (-1, op.lhs.type.shape[-1]), "shape")])
    result = graph.node(end, "Gemm", [lhs, weight, *bias])
    if not flat:
        result = graph.node(end, "Reshape", [result, _integers(graph, op.out.type.shape, "shape")])
    graph.quantize(end, result, AS_IS, end.bounds)


def _product_of_activations(op: MatmulOp, end: RequantizeOp, graph: GraphWriter) -> None:
    if op.bias is not None:
        raise op.error("a bias of two computed operands has no form in ONNX")
    if not isinstance(op.rhs.type.element, QuantizedType):
        raise op.error(f"rhs is {op.rhs.type}, which has no form in ONNX, expected a matrix or a quantized type")
    rhs = graph.real(op, op.rhs)
    if op.transpose_rhs:
        rank = op.rhs.type.rank
        rhs = graph.node(end, "Transpose", [rhs], perm=[*range(rank - 2), rank - 1, rank - 2])
    product = graph.node(end, "MatMul", [graph.real(op, op.lhs), rhs])
    assert isinstance(end.scale, Constant)
    left, right, result = (quantized_element(value.type).scale for value in (op.lhs, op.rhs, end.out))
    if not _is_ratio(end, left * right / result):
        factor = weight_scales(end.scale.array, left * right, result)
        product = graph.node(end, "Mul", [product, graph.constant(factor.reshape(()), "factor")])
    graph.quantize(end, product, AS_IS, end.bounds)


def _is_ratio(end: RequantizeOp, ratio: float) -> bool:
    """True if the factor is the one that dequantizing and quantizing are together."""
    assert isinstance(end.scale, Constant)
    return bool(np.allclose(end.scale.array, ratio, rtol=2.0**-20, atol=0.0))


def _dequantized_constants(
    op: Conv2dOp | MatmulOp,
    end: RequantizeOp,
    graph: GraphWriter,
    weight: Any,
    data: QuantizedType,
    order: tuple[int, ...],
) -> tuple[str, list[str]]:
    """DequantizeLinear of weight (axes in `order`) and bias, with the scales that the factors of `end` stand for."""
    if not isinstance(weight, Constant) or not isinstance(end.scale, Constant):
        raise op.error("the weights are computed, expected a constant")
    channels = weight.type.shape[-1]
    factors = np.broadcast_to(end.scale.array, (channels,))
    scales = weight_scales(factors, data.scale, quantized_element(end.out.type).scale)
    axis = order.index(weight.type.rank - 1)
    name = str(weight.name)
    inputs = [
        graph.constant(weight.array.transpose(order), name),
        graph.constant(scales, f"{name}.scale"),
        graph.constant(np.zeros(channels, weight.array.dtype), "zero_points"),
    ]
    real = graph.node(op, "DequantizeLinear", inputs, axis=axis)
    if op.bias is None:
        return real, []
    assert isinstance(op.bias, Constant)
    if op.bias.array.dtype != np.int32:  # DequantizeLinear takes no wider integers
        reals = op.bias.array * (data.scale * scales.astype(np.float64))
        return real, [graph.constant(reals.astype(np.float32), str(op.bias.name))]
    inputs = [
        graph.constant(op.bias.array, str(op.bias.name)),
        graph.constant((np.float32(data.scale) * scales).astype(np.float32), f"{op.bias.name}.scale"),
    ]
    return real, [graph.node(op, "DequantizeLinear", inputs, axis=0)]


def weight_scales(factors: Array, data: float, result: float) -> Array:
    """Float32 scales s of weights with data * s / result ~= factors, that give the multipliers of the factors again.

    The nearest float32 or one of its neighbours does, as multipliers have two bits less.
    """
    wanted = fixed_point(factors)
    nearest = (factors.astype(np.float64) * result / data).astype(np.float32)
    best = nearest.copy()
    for direction in (np.inf, 0.0):
        candidate = nearest
        for _ in range(2):
            found = fixed_point(np.float32(data * best.astype(np.float64) / result))
            wrong = (found[0] != wanted[0]) | (found[1] != wanted[1])
            candidate = np.nextafter(candidate, np.float32(direction))
            best = np.where(wrong, candidate, best)
    found = fixed_point(np.float32(data * best.astype(np.float64) / result))
    return np.where((found[0] == wanted[0]) & (found[1] == wanted[1]), best, nearest).astype(np.float32)


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
        reduced = graph.node(op, kind, [data, _integers(graph, axes, "axes")], keepdims=keepdims)
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
        mean = graph.node(op, "ReduceMean", [squares, _integers(graph, last, "axes")], keepdims=1)
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


def concat(op: ConcatOp, graph: GraphWriter) -> None:
    """Concat of the integers."""
    layout = graph.layout(op)
    inputs = [graph.stored(op, value, layout) for value in op.inputs]
    graph.store(op.out, graph.node(op, "Concat", inputs, axis=axis_in(layout, op.axis)), layout)


def cut(op: SliceOp, graph: GraphWriter) -> None:
    """Slice of the integers."""
    layout, rank = graph.layout(op), len(op.starts)
    starts, stops, steps = (order_in(layout, entries) for entries in (op.starts, op.stops, op.steps))
    lists = [_integers(graph, entries, "bounds") for entries in (starts, stops, range(rank), steps)]
    graph.store(op.out, graph.node(op, "Slice", [graph.stored(op, op.data, layout), *lists]), layout)


def pad(op: PadOp, graph: GraphWriter) -> None:
    """Pad of the integers with the integer that stands for the value."""
    layout = graph.layout(op)
    pads = _integers(graph, [*order_in(layout, op.low), *order_in(layout, op.high)], "pads")
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
    inputs = [graph.stored(op, op.data, layout), _integers(graph, op.indices, "indices")]
    graph.store(op.out, graph.node(op, "Gather", inputs, axis=axis_in(layout, op.axis)), layout)


def permute(op: PermuteChannelsOp, graph: GraphWriter) -> None:
    """Gather of the channels."""
    layout, rank = graph.layout(op), op.data.type.rank
    inputs = [graph.stored(op, op.data, layout), _integers(graph, op.permutation, "permutation")]
    graph.store(op.out, graph.node(op, "Gather", inputs, axis=axis_in(layout, rank - 1)), layout)


def reshape(op: ReshapeOp, graph: GraphWriter) -> None:
    """Reshape of what is stored."""
    graph.store(op.out, graph.node(op, "Reshape", [graph.stored(op, op.data), _integers(graph, op.shape, "shape")]))


def transpose(op: TransposeOp, graph: GraphWriter) -> None:
    """Transpose of what is stored."""
    graph.store(op.out, graph.node(op, "Transpose", [graph.stored(op, op.data)], perm=list(op.permutation)))


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


def _integers(graph: GraphWriter, values: Any, hint: str) -> str:
    return graph.constant(np.asarray(list(values), np.int64), hint)

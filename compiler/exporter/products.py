"""Convolutions and products on integers in ONNX, with the requantization that ends them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects.core.operation import Constant
from ...dialects.core.types import Array
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.quant.arithmetic import fixed_point
from ...dialects.quant.ops import RequantizeOp
from ...dialects.quant.types import QuantizedType, quantized_element
from .graph import AS_IS, CHANNELS_FIRST, GraphWriter


def convolution(op: Conv2dOp, end: RequantizeOp, graph: GraphWriter) -> None:
    """Conv of channels first."""
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


def product(op: MatmulOp, end: RequantizeOp, graph: GraphWriter) -> None:
    """Gemm of rows for a matrix of weights (it has a bias), MatMul of two activations."""
    left = quantized_element(op.lhs.type)
    if not op.has_weights:
        _product_of_activations(op, end, graph)
        return
    weight, bias = _dequantized_constants(op, end, graph, op.rhs, left, (0, 1))
    lhs = graph.real(op, op.lhs)
    flat = op.lhs.type.rank == 2
    if not flat:
        lhs = graph.node(end, "Reshape", [lhs, graph.integers((-1, op.lhs.type.shape[-1]), "shape")])
    result = graph.node(end, "Gemm", [lhs, weight, *bias])
    if not flat:
        result = graph.node(end, "Reshape", [result, graph.integers(op.out.type.shape, "shape")])
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
    if not is_ratio(end, left * right / result):
        factor = weight_scales(end.scale.array, left * right, result)
        product = graph.node(end, "Mul", [product, graph.constant(factor.reshape(()), "factor")])
    graph.quantize(end, product, AS_IS, end.bounds)


def is_ratio(end: RequantizeOp, ratio: float) -> bool:
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

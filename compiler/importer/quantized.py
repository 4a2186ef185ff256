"""Operators of quantized models: conversions, and operators on integers as conversions around float ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from ...dialects.core.types import Array, TensorType
from ...dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp
from ...dialects.quant.types import QuantizedType
from .activation import lower_leaky_relu, lower_sigmoid
from .arithmetic import lower_add, lower_gemm, lower_matmul, lower_mul
from .convolution import lower_conv
from .lowering import Imported, Known, Lowering, Unsupported, shape_of
from .movement import lower_concat
from .normalization import lower_softmax
from .pooling import lower_average_pool, lower_global_average_pool
from .steps import SHIFTS, Steps

DYNAMIC = "its scales depend on the data of a run: give the float model, or quantize statically"
REASONS = dict.fromkeys(("DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"), DYNAMIC)
"""Why operators of onnxruntime's dynamically quantized models are refused."""

OPSET = 13
"""The opset of the standard whose operators those of onnxruntime follow, unless a node names another."""

Handler = Callable[[Lowering], Imported]

_STORED = frozenset({*SHIFTS, "int4", "uint4", "int32"})
_ONNX_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}  # TensorProto.DataType


def lower_quantize(lowering: Lowering) -> Imported:
    """QuantizeLinear with one scale.

    uint8 becomes int8, integer and zero point less 128, which changes nothing else; uint16 around 32768 becomes int16.
    """
    _refuse_blocks(lowering)
    precision = lowering.node.integer("precision", 0)
    if precision not in (0, TensorProto.FLOAT):
        raise Unsupported(f"the attribute 'precision' is {precision}, expected 0 or {TensorProto.FLOAT} (float32)")
    return _quantized(lowering, lowering.value(lowering.input(0)), 1)


def lower_dequantize(lowering: Lowering) -> Imported:
    """DequantizeLinear: constants keep the integers they come from; a tensor must have been quantized alike."""
    _refuse_blocks(lowering)
    return _dequantized(lowering, 0, axis=lowering.node.integer("axis", 1))


def lower_qlinear_conv(lowering: Lowering) -> Imported:
    """QLinearConv = quantize(Conv(dequantize(x), dequantize(w), bias at scale x * w))."""
    operands = [_dequantized(lowering, 0), _dequantized(lowering, 3, axis=0)]
    return _quantized(lowering, lower_conv(lowering.with_inputs([*operands, _bias(lowering, 8, 1, 4)])), 6)


def lower_qlinear_matmul(lowering: Lowering) -> Imported:
    """QLinearMatMul = quantize(MatMul(dequantize(a), dequantize(b)))."""
    operands = [_dequantized(lowering, 0, axis=-2), _dequantized(lowering, 3, axis=-1)]
    return _quantized(lowering, lower_matmul(lowering.with_inputs(operands)), 6)


def lower_qgemm(lowering: Lowering) -> Imported:
    """QGemm of onnxruntime = quantize(Gemm(...)); without an output scale the result stays real."""
    axis = 0 if lowering.node.integer("transB", 0) else 1
    operands = [_dequantized(lowering, 0), _dequantized(lowering, 3, axis=axis)]
    bias = _bias(lowering, 6, 1, 4)
    result = lower_gemm(lowering.with_inputs([*operands, bias]))
    return _quantized(lowering, result, 7) if lowering.has(7) else result


def lower_qlinear_concat(lowering: Lowering) -> Imported:
    """QLinearConcat of onnxruntime: the scale and zero point of the result, then three inputs for each tensor."""
    operands = [_dequantized(lowering, index) for index in range(2, len(lowering.inputs), 3)]
    return _quantized(lowering, lower_concat(lowering.with_inputs(operands)), 0)


def lower_lookup(lowering: Lowering) -> Imported:
    """The table of an exported model: its attributes say what the integers of the result stand for."""
    data, table = lowering.value(lowering.input(0)), lowering.array(1, "table")
    if not isinstance(data.type.element, QuantizedType) or table.shape != (256,) or table.dtype != np.int8:
        raise lowering.error(
            f"data is {data.type}, table {table.dtype}{list(table.shape)}, expected int8 and int8[256]"
        )
    scale, zero_point = lowering.node.number("scale", 0.0), lowering.node.integer("zero_point", 0)
    element = _element(lowering, "int8", np.array(scale, np.float32), np.array(zero_point))
    entries = lowering.integer_constant(f"{lowering.node.label}.table", table)
    return lowering.emit(LookupOp, data, entries, result_types=[TensorType(data.type.shape, element)])


def around(handler: Handler, operands: int = 1) -> Handler:
    """A handler for an operator that takes tensor, scale and zero point of every operand, then those of the result."""

    def lower_around(lowering: Lowering) -> Imported:
        if lowering.node.integer("channels_last", 0):
            raise Unsupported("channels_last is 1, expected 0")
        reals = [_dequantized(lowering, 3 * index) for index in range(operands)]
        opset = lowering.node.integer("opset", OPSET)
        return _quantized(lowering, handler(lowering.with_inputs(reals, opset=opset)), 3 * operands)

    return lower_around


lower_qlinear_add = around(lower_add, 2)
lower_qlinear_mul = around(lower_mul, 2)
lower_qlinear_average_pool = around(lower_average_pool)
lower_qlinear_global_average_pool = around(lower_global_average_pool)
lower_qlinear_leaky_relu = around(lower_leaky_relu)
lower_qlinear_sigmoid = around(lower_sigmoid)
lower_qlinear_softmax = around(lower_softmax)


def _quantized(lowering: Lowering, value: Imported, index: int) -> Imported:
    """Quantize to the scale and zero point of inputs `index` and `index` + 1."""
    scale, zero_point = _scale(lowering, index), _zero_point(lowering, index + 1)
    if scale.size != 1 or zero_point.size != 1:
        raise Unsupported(f"{scale.size} scales of an activation, expected one for the whole tensor")
    element = _element(lowering, zero_point.dtype.name, scale, zero_point)
    return lowering.emit(QuantizeOp, value, result_types=[TensorType(shape_of(value), element)])


def _dequantized(lowering: Lowering, index: int, *, axis: int = 1) -> Imported:
    """The reals behind input `index`, whose scale and zero point are the next two inputs."""
    data, scale = lowering.input(index), _scale(lowering, index + 1)
    if isinstance(data, Known):
        stored = data.array
        if stored.dtype.name not in _STORED:
            raise Unsupported(f"'{data.name}' is {stored.dtype}, expected integers of 4 to 32 bits")
        given = lowering.array(index + 2, "zero_point") if lowering.has(index + 2) else np.zeros(1, np.int64)
        return _known(lowering, data.name, stored, scale, given, axis)
    if not isinstance(data.type.element, QuantizedType):
        kind = f"an input of type {data.type.element}" if data.defining_op is None else str(data.type)
        raise Unsupported(f"reads '{data.name}', {kind}, expected the result of QuantizeLinear")
    if scale.size != 1:
        raise Unsupported(f"{scale.size} scales of an activation, expected one for the whole tensor")
    source = data.type.element
    elements = [_element(lowering, *parameters) for parameters in _readings(lowering, index, source, scale)]
    if source not in elements:
        raise Unsupported(f"reads {source} as {elements[0]}, expected the scale and zero point that it was made with")
    return lowering.emit(DequantizeOp, data)


def _readings(lowering: Lowering, index: int, source: QuantizedType, scale: Array) -> list[tuple[str, Array, Array]]:
    """Element type, scale and zero point that input `index` may mean: without a zero point it is 0 of either sign."""
    if lowering.has(index + 2):
        zero_point = _zero_point(lowering, index + 2)
        return [(zero_point.dtype.name, scale, zero_point)]
    zero = np.zeros(1, np.int64)
    return [(name, scale, zero) for name, (storage, _) in SHIFTS.items() if storage == source.storage]


def _known(lowering: Lowering, name: str, stored: Array, scale: Array, zero_point: Array, axis: int) -> Known:
    if stored.dtype.name in ("int4", "uint4"):
        stored = stored.astype(np.int8)
    try:
        steps = Steps.of(stored, scale, zero_point.astype(np.int64), axis)
    except ValueError as error:
        raise lowering.error(f"scales and zero points do not fit '{name}': {error}") from None
    return Known(name, steps.real(), steps)


def _bias(lowering: Lowering, index: int, data_scale: int, weight_scale: int) -> Imported | None:
    """An int32 bias at the scale of data times weight, in float32 as onnxruntime multiplies them."""
    if not lowering.has(index):
        return None
    bias = lowering.input(index)
    if not isinstance(bias, Known):
        raise Unsupported("the bias is computed at run time, expected a constant")
    scale = _scale(lowering, data_scale) * _scale(lowering, weight_scale)
    return _known(lowering, bias.name, bias.array, scale.reshape(-1), np.zeros(1, np.int64), 0)


def _scale(lowering: Lowering, index: int) -> Array:
    scale = lowering.array(index, "scale")
    if scale.dtype.name not in ("float32", "float16", "bfloat16"):
        raise lowering.error(f"the scale is {scale.dtype}, expected float32")
    return scale.astype(np.float32)


def _zero_point(lowering: Lowering, index: int) -> Array:
    """The zero point; where it is absent 0 of the element type the node asks for, uint8 if it asks for none."""
    if lowering.has(index):
        return lowering.array(index, "zero_point")
    asked = lowering.node.integer("output_dtype", 0)
    if asked and asked not in _ONNX_TYPES:
        raise Unsupported(f"output_dtype is {asked}, expected int8, uint8, int16 or uint16")
    return np.zeros((), _ONNX_TYPES.get(asked, "uint8"))


def _element(lowering: Lowering, dtype: str, scale: Array, zero_point: Array) -> QuantizedType:
    if dtype not in SHIFTS:
        raise Unsupported(f"an activation of type {dtype}, expected int8, uint8, int16 or uint16")
    storage, shift = SHIFTS[dtype]
    try:
        return QuantizedType(storage, float(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]) - shift)
    except ValueError as error:
        if storage.dtype.itemsize == 2:
            raise Unsupported(
                f"a {dtype} activation with zero point {int(zero_point.reshape(-1)[0])}: {error}; quantize activations "
                "of 16 bits symmetrically (ActivationSymmetric of onnxruntime)"
            ) from None
        raise lowering.error(str(error)) from None


def _refuse_blocks(lowering: Lowering) -> None:
    if lowering.node.integer("block_size", 0):
        raise Unsupported("block_size is given, expected one scale for the tensor or for an index of one axis")

"""Float operations become integer ones: one function a family, all of them in one table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.tensor import TensorOperation
from ...dialects.core.types import I8, Array, TensorType, scalar_type
from ...dialects.nn.activation import PReluOp, UnaryOperation
from ...dialects.nn.chain import ChainOp, call
from ...dialects.nn.comparison import COMPARISONS
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from ...dialects.nn.indexing import ArgMaxOp, EmbeddingOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import DATA_MOVEMENT, ReshapeOp, TransposeOp
from ...dialects.nn.normalization import BatchNormOp, LrnOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import MASK_TYPE, MaskedSoftmaxOp, SoftmaxOp
from ...dialects.quant.arithmetic import clamp_bounds
from ...dialects.quant.indices import INDEX_TYPE
from ...dialects.quant.ops import LookupOp
from ...dialects.quant.tables import lookup_table, lrn_table, softmax_table, softmax_type
from ...dialects.quant.types import QuantizedType, quantized_element
from ..lowering.elementwise import is_pooled
from .conversion import Conversion, storage_suffix, weight_label
from .factors import quantize_factors
from .grouping import constant_type
from .ranges import activation_type, range_of
from .stored import fixed_array, fixed_name, is_fixed, is_wide

Converter = Callable[[Any, Conversion], Value[Any]]


def convert(op: Operation, conversion: Conversion) -> None:
    """Insert the integer form of `op` before it; raises a located CompileError if its constants have none."""
    try:
        value = converter(op)(op, conversion)
    except ValueError as error:
        raise op.error(str(error)) from None
    value.name = op.result.name
    conversion.twins[op.result] = value


def converter(op: Operation) -> Converter:
    """The function that converts operations of this class; KeyError if there is none."""
    return _CONVERTERS[next(kind for kind in type(op).__mro__ if kind in _CONVERTERS)]


def is_convertible(op: Operation) -> bool:
    """True if operations of this class have an integer form."""
    return any(kind in _CONVERTERS for kind in type(op).__mro__)


def _convolution(op: Conv2dOp, conversion: Conversion) -> Value[Any]:
    data = conversion.activation(op, 0)
    return _weighted(op, conversion, data, op.weight, op.bias)


def _matmul(op: MatmulOp, conversion: Conversion) -> Value[Any]:
    lhs = conversion.activation(op, 0)
    if is_fixed(op.rhs) and not is_fixed(op.lhs) and not is_wide(op.rhs):
        if op.transpose_rhs or op.factor != 1.0:
            raise ValueError("its weights are transposed or have a factor, expected them plain (canonicalize)")
        return _weighted(op, conversion, lhs, op.rhs, op.bias)
    rhs = conversion.activation(op, 1)
    scale = op.factor * quantized_element(lhs.type).scale * quantized_element(rhs.type).scale
    operands, format = [lhs, rhs], conversion.format(lhs)
    largest = op.lhs.type.shape[-1] * format.activation_span**2
    if op.bias is not None:
        stored = np.rint(fixed_array(op.bias).astype(np.float64) / scale)
        largest += int(np.abs(stored).max(initial=0.0))
        if largest >= format.accumulator_limit:
            bits = format.accumulator_bits
            raise ValueError(f"the bias does not fit a {bits}-bit accumulator at the scales of the operands")
        operands.append(_bias(op.bias, conversion, stored.astype(format.bias_dtype)))
    return _accumulate(op, conversion, operands, np.asarray(scale), largest)


def _weighted(
    op: Conv2dOp | MatmulOp, conversion: Conversion, data: Value[Any], weight: Value[Any], bias: Value[Any] | None
) -> Value[Any]:
    """Insert data * weight + bias in the accumulator, then one factor per output channel."""
    stored, lost = conversion.stored(weight, bias, quantized_element(data.type).scale, conversion.format(data))
    if stored.raised:
        conversion.raised[op] = stored.raised
    if lost is not None:
        conversion.lost[op] = lost
    operands = [data, conversion.constant(fixed_name(weight), stored.weight.dtype.name, stored.weight)]
    if bias is not None and stored.bias is not None:
        operands.append(_bias(bias, conversion, stored.bias))
    return _accumulate(op, conversion, operands, stored.accumulator_scales, stored.largest)


def _bias(bias: Value[Any], conversion: Conversion, stored: Array) -> Value[Any]:
    return conversion.constant(fixed_name(bias), stored.dtype.name, stored)


def _accumulate(
    op: Conv2dOp | MatmulOp, conversion: Conversion, operands: list[Value[Any]], scales: Array, largest: int
) -> Value[Any]:
    kept = {name: value for name, value in op.attributes.items() if name not in ("clamp_min", "clamp_max", "factor")}
    sums = scalar_type(conversion.format(operands[0]).bias_dtype)
    wide = type(op)(operands, (TensorType(op.out.type.shape, sums),), kept)
    accumulator = conversion.insert(op, wide).result
    conversion.layers[wide] = op
    bounds = clamp_bounds(conversion.types[op.out], op.clamp_min, op.clamp_max)
    return conversion.requantize(op, accumulator, scales, bounds, largest)


def _batch_norm(op: BatchNormOp, conversion: Conversion) -> Value[Any]:
    """A factor and an offset per channel are a depthwise 1x1 convolution: one scale a channel, an int32 offset."""
    scale, bias, mean, variance = (np.asarray(fixed_array(v), np.float64) for v in op.operands[1:])
    factor = scale / np.sqrt(variance + op.epsilon)
    channels = op.data.type.shape[-1]
    data = conversion.activation(op, 0)
    format, input_scale = conversion.format(data), quantized_element(data.type).scale
    stored = quantize_factors(factor.reshape(1, 1, 1, channels), bias - mean * factor, input_scale, format)
    assert stored.bias is not None
    if stored.raised:
        conversion.raised[op] = stored.raised
    image = (op.data.type.size // channels, 1, 1, channels)
    shape = op.data.type.shape
    if op.data.type.rank != 4:
        data = conversion.insert(op, ReshapeOp.build(data, shape=image)).result
    name = op.operands[1].name
    weight = conversion.constant(name, stored.weight.dtype.name, stored.weight)
    offset = conversion.constant(name, stored.bias.dtype.name, stored.bias)
    wide = conversion.insert(op, Conv2dOp.build(data, weight, offset, groups=channels, macs=0)).result
    narrow = conversion.requantize(op, wide, stored.accumulator_scales, largest=stored.largest)
    return narrow if op.data.type.rank == 4 else conversion.insert(op, ReshapeOp.build(narrow, shape=shape)).result


def _binary(op: AddOp | SubOp | MulOp, conversion: Conversion) -> Value[Any]:
    operands = [conversion.same_storage(op, 0), conversion.same_storage(op, 1)]
    return conversion.build(op, type(op), operands, conversion.types[op.out])


def _division(op: DivOp, conversion: Conversion) -> Value[Any]:
    """By a constant, x / c == x * (1 / c): a multiplication is cheaper, and 1 / c is quantized around 0."""
    if not isinstance(op.rhs, Constant):
        operands = [conversion.same_storage(op, 0), conversion.same_storage(op, 1)]
        return conversion.build(op, DivOp, operands, conversion.types[op.out])
    with np.errstate(divide="ignore"):
        reciprocal = Constant(f"{op.rhs.name}.reciprocal", np.asarray(1.0 / op.rhs.array))
    element = constant_type(reciprocal.array, conversion.types[op.out].storage)
    rhs = conversion.constant(
        reciprocal.name, storage_suffix(element.storage), element.quantize(reciprocal.array), element
    )
    return conversion.build(op, MulOp, [conversion.same_storage(op, 0), rhs], conversion.types[op.out], **op.attributes)


def _unary(op: UnaryOperation, conversion: Conversion) -> Value[Any]:
    if quantized_element(conversion.operand(op, 0).type) == INDEX_TYPE and _is_decided_near_zero(op):
        return _compared_index(op, conversion)
    data, target = conversion.same_storage(op, 0), conversion.types[op.out]
    table = lookup_table(op.apply, quantized_element(data.type), target)
    operands = [data, conversion.constant(weight_label(op), "table", table)]
    return conversion.build(op, LookupOp, operands, target)


def _is_decided_near_zero(op: UnaryOperation) -> bool:
    """True if all that a function of x does with x is to compare it with numbers that 8 bits tell from all others."""
    steps = op.steps if isinstance(op, ChainOp) else ["x", call(op)]
    followers = [after for step, after in itertools.pairwise(steps) if step == "x"]
    found = [_COMPARED.fullmatch(step) for step in followers]
    return steps[-1] != "x" and all(match is not None and abs(float(match.group(1))) < I8_EDGE for match in found)


I8_EDGE = 126
"""Between the numbers below this and the ends of 8 bits, to which larger indices are taken, lies another integer."""
_COMPARED = re.compile(
    rf"(?:{'|'.join(kind.name.removeprefix('nn.') for kind in COMPARISONS)})\(value=([^,]*)(?:, .*)?\)"
)


def _compared_index(op: UnaryOperation, conversion: Conversion) -> Value[Any]:
    """A table of 8-bit numbers, which the index becomes: a step between knots of a 16-bit table would be a slope."""
    near, target = QuantizedType(I8, 1.0, 0), conversion.types[op.out]
    narrow = target if target.storage == I8 else activation_type(range_of(target))
    data = conversion.operand(op, 0, type=near)
    table = conversion.constant(weight_label(op), "table", lookup_table(op.apply, near, narrow))
    value = conversion.build(op, LookupOp, [data, table], narrow)
    return value if narrow == target else conversion.rescale(op, value, target)


def _prelu(op: PReluOp, conversion: Conversion) -> Value[Any]:
    return conversion.build(op, PReluOp, [conversion.operand(op, 0), op.slope], conversion.types[op.out])


def _average(op: AveragePoolOp | ReduceMeanOp, conversion: Conversion) -> Value[Any]:
    if isinstance(op, ReduceMeanOp) and not is_pooled(op):
        return _product_with_ones(op, conversion)
    return conversion.build(op, type(op), [conversion.same_storage(op, 0)], conversion.types[op.out])


def _product_with_ones(op: ReduceMeanOp, conversion: Conversion) -> Value[Any]:
    """The sum of any elements is their product with ones, exactly; they are moved to the end where they are not."""
    data, shape, rank = conversion.operand(op, 0), op.data.type.shape, op.data.type.rank
    order = (*(axis for axis in range(rank) if axis not in op.axes), *op.axes)
    if order != tuple(range(rank)):
        data = conversion.insert(op, TransposeOp.build(data, permutation=order)).result
    samples = 1 if 0 in op.axes else shape[0]
    rows = (samples, op.data.type.size // (samples * op.count), op.count)
    data = conversion.insert(op, ReshapeOp.build(data, shape=rows)).result
    ones = conversion.constant(weight_label(op), "ones", np.ones((op.count, 1), np.int8))
    total = conversion.insert(op, MatmulOp.build(data, ones, macs=0)).result
    bounds = clamp_bounds(conversion.types[op.out], op.clamp_min, op.clamp_max)
    factor = np.asarray(quantized_element(data.type).scale * op.factor / op.count)
    largest = op.count * conversion.format(data).activation_span
    mean = conversion.requantize(op, total, factor, bounds, largest)
    return conversion.insert(op, ReshapeOp.build(mean, shape=op.out.type.shape)).result


def _lrn(op: LrnOp, conversion: Conversion) -> Value[Any]:
    data, target = conversion.same_storage(op, 0), conversion.types[op.out]
    source = quantized_element(data.type)
    table, shift = lrn_table(source, target, size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)
    operands = [data, conversion.constant(weight_label(op), "table", table)]
    return conversion.build(op, LrnOp, operands, target, shift=shift)


def _layer_norm(op: LayerNormOp, conversion: Conversion) -> Value[Any]:
    operands = [conversion.same_storage(op, 0), op.scale, op.bias]
    return conversion.build(op, LayerNormOp, operands, conversion.types[op.out])


def _softmax(op: SoftmaxOp | MaskedSoftmaxOp, conversion: Conversion) -> Value[Any]:
    data, target = conversion.operand(op, 0), conversion.types[op.out]
    source = quantized_element(data.type)
    natural = softmax_type(source.storage)
    axis = op.axis if isinstance(op, SoftmaxOp) else -1
    table = softmax_table(source.scale, op.data.type.shape[axis], source.storage)
    operands = [data]
    if isinstance(op, MaskedSoftmaxOp) and isinstance(op.mask, Constant):
        operands.append(conversion.constant(op.mask.name, "int8", (fixed_array(op.mask) != 0).astype(np.int8)))
    elif isinstance(op, MaskedSoftmaxOp):
        operands.append(conversion.operand(op, 1, type=MASK_TYPE))
    operands.append(conversion.constant(weight_label(op), "table", table))
    value = conversion.build(op, type(op), operands, natural)
    return value if target == natural else conversion.requantize(op, value, np.asarray(natural.scale))


def _embedding(op: EmbeddingOp, conversion: Conversion) -> Value[Any]:
    """The table takes the type of the result."""
    element = conversion.types[op.out]
    table = conversion.constant(
        fixed_name(op.table), storage_suffix(element.storage), element.quantize(fixed_array(op.table)), element
    )
    return conversion.build(op, EmbeddingOp, [conversion.operand(op, 0, type=INDEX_TYPE), table], element)


def _arg_max(op: ArgMaxOp, conversion: Conversion) -> Value[Any]:
    index = conversion.build(op, ArgMaxOp, [conversion.operand(op, 0)], INDEX_TYPE)
    element = conversion.types[op.out]
    return index if element == INDEX_TYPE else conversion.rescale(op, index, element)


def _movement(op: TensorOperation, conversion: Conversion) -> Value[Any]:
    """The same operation on integers: operands and result share one type."""
    element = conversion.types[op.out]
    operands = [conversion.operand(op, index, type=element) for index in range(len(op.operands))]
    return conversion.build(op, type(op), operands, element)


_CONVERTERS: dict[type[Operation], Converter] = {
    Conv2dOp: _convolution,
    MatmulOp: _matmul,
    BatchNormOp: _batch_norm,
    AddOp: _binary,
    SubOp: _binary,
    MulOp: _binary,
    DivOp: _division,
    UnaryOperation: _unary,
    PReluOp: _prelu,
    AveragePoolOp: _average,
    ReduceMeanOp: _average,
    LrnOp: _lrn,
    LayerNormOp: _layer_norm,
    SoftmaxOp: _softmax,
    MaskedSoftmaxOp: _softmax,
    EmbeddingOp: _embedding,
    ArgMaxOp: _arg_max,
    MaxPoolOp: _movement,
    **dict.fromkeys(DATA_MOVEMENT, _movement),
}
"""The integer form of every operation class that has one; a subclass inherits that of its base."""

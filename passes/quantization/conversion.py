"""Float operations become integer ones: one function a family, all of them in one table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ...dialects.core.operation import Constant, Module, Operation, Value
from ...dialects.core.tensor import TensorOperation
from ...dialects.core.types import I8, I16, Array, ScalarType, TensorType, scalar_type
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
from ...dialects.quant.arithmetic import clamp_bounds, pre_shift_for
from ...dialects.quant.indices import INDEX_TYPE
from ...dialects.quant.ops import DequantizeOp, LookupOp, RequantizeOp
from ...dialects.quant.tables import lookup_table, lrn_table, softmax_table, softmax_type
from ...dialects.quant.types import QuantizedType, quantized_element
from ..lowering.elementwise import is_pooled
from .factors import quantize_factors
from .formats import FORMATS, INT8, Format
from .grouping import constant_type
from .ranges import activation_type, range_of
from .stored import fixed_array, fixed_name, fixed_weights, is_fixed, is_wide
from .weights import QuantizedWeights

LARGEST_SCALE = 2.0**20
"""A requantization above this saturates every accumulator but 0 just as this one does."""

OpT = TypeVar("OpT", bound=Operation)


@dataclass
class Conversion:
    """The state of one conversion: the quantized twin of every float value converted so far."""

    module: Module
    types: Mapping[Value[Any], QuantizedType]
    precision: Format = INT8
    """The integers of products of 16-bit activations."""
    narrow: Mapping[Value[Any], QuantizedType] = field(default_factory=dict[Value[Any], QuantizedType])
    """Where precisions are mixed, the 8-bit type of every value, for those that 8-bit layers read of 16-bit ones."""
    promoted: frozenset[Operation] = frozenset()
    """Where precisions are mixed, the operations that work in 16 bits."""
    narrowed: dict[Value[Any], Value[Any]] = field(default_factory=dict[Value[Any], Value[Any]])
    """The 8-bit form of 16-bit values that were converted."""
    twins: dict[Value[Any], Value[Any]] = field(default_factory=dict[Value[Any], Value[Any]])
    raised: dict[Operation, int] = field(default_factory=dict[Operation, int])
    """The matmul-like operations with channels whose weight scale the bias floor raised, and how many."""
    layers: dict[Operation, Operation] = field(default_factory=dict[Operation, Operation])
    """The float operation that each integer convolution or product was made from."""
    weights: dict[tuple[Any, ...], QuantizedWeights] = field(default_factory=dict[tuple[Any, ...], QuantizedWeights])
    """Weights quantized before, by the names of weight and bias, scale of the data, and format: trials share them."""
    lost: dict[Operation, str] = field(default_factory=dict[Operation, str])
    """The matmul-like operations that do not keep the integers their model stores, and why."""

    def convert(self, op: Operation) -> None:
        """Insert the integer form of `op` before it; raises a located CompileError if its constants have none."""
        try:
            value = converter(op)(op, self)
        except ValueError as error:
            raise op.error(str(error)) from None
        value.name = op.result.name
        self.twins[op.result] = value

    def operand(self, op: Operation, index: int, *, type: QuantizedType | None = None) -> Value[Any]:
        """The quantized form of an operand; a constant is quantized here, to `type` or to what covers it.

        What another type holds is requantized to `type`. The storage of a constant is that of the result.
        """
        value = op.operands[index]
        producer = value.defining_op
        twin = producer.data if isinstance(producer, DequantizeOp) else self.twins.get(value)
        if twin is not None:
            return twin if type is None or twin.type.element == type else self.rescale(op, twin, type)
        array = fixed_array(value)
        element = type or constant_type(array, self.types[op.result].storage)
        return self.constant(fixed_name(value), _suffix(element.storage), element.quantize(array), element)

    def same_storage(self, op: Operation, index: int) -> Value[Any]:
        """The operand in the storage of the result: the vector unit works on one width at a time."""
        value, storage = self.operand(op, index), self.types[op.result].storage
        element = quantized_element(value.type)
        if element.storage == storage:
            return value
        if storage == I8:
            return self._narrow(op, index, value)
        return self.rescale(op, value, activation_type(range_of(element), storage=storage))

    def activation(self, op: Operation, index: int) -> Value[Any]:
        """An operand of a product: in 8 bits where precisions are mixed and `op` is not promoted."""
        value = self.operand(op, index)
        if not self.narrow or op in self.promoted or quantized_element(value.type).storage == I8:
            return value
        return self._narrow(op, index, value)

    def _narrow(self, op: Operation, index: int, value: Value[Any]) -> Value[Any]:
        if value not in self.narrowed:
            known = self.narrow.get(op.operands[index])
            element = known or activation_type(range_of(quantized_element(value.type)))
            self.narrowed[value] = self.rescale(op, value, element)
        return self.narrowed[value]

    def format(self, data: Value[Any]) -> Format:
        """The integers of a product of these activations with constant weights."""
        if quantized_element(data.type).storage == I8:
            return INT8
        # A model that is quantized to 16 bits brings its own activations, whatever the precision of the rest.
        return self.precision if self.precision.activation == I16 else FORMATS["int16"]

    def stored(
        self, weight: Value[Any], bias: Value[Any] | None, scale: float, format: Format
    ) -> tuple[QuantizedWeights, str | None]:
        """`fixed_weights`, once for each scale of the data."""
        if not isinstance(weight, Constant) or not (bias is None or isinstance(bias, Constant)):
            return fixed_weights(weight, bias, scale, format)
        key = (weight.name, None if bias is None else bias.name, scale, format)
        if key not in self.weights:
            self.weights[key], lost = fixed_weights(weight, bias, scale, format)
            assert lost is None
        return self.weights[key], None

    def rescale(self, op: Operation, value: Value[Any], element: QuantizedType) -> Value[Any]:
        """Insert the step from the type of a quantized value to another one."""
        factor = np.array([min(quantized_element(value.type).scale / element.scale, LARGEST_SCALE)], np.float32)
        operands = (value, self.constant(_label(op), "scale", factor))
        return self.insert(op, RequantizeOp(operands, (value.type.with_element(element),))).result

    def constant(self, name: str | None, suffix: str, array: Array, element: QuantizedType | None = None) -> Constant:
        """Add a constant called after the one or the value that it comes from; equal ones of a name are shared."""
        array = np.asarray(array)
        full = f"{name or 'constant'}.{suffix}"
        known = self.module.constants.get(full)
        shape_type = TensorType(array.shape, element) if element else None
        if known is not None and (shape_type is None or known.type == shape_type) and _same(known.array, array):
            return known
        return self.module.add_constant(full, array, shape_type)

    def insert(self, op: Operation, new: OpT) -> OpT:
        """Put `new` before `op`, at its location."""
        assert op.parent is not None
        new.location = op.location
        return op.parent.insert_before(op, new)

    def build(
        self,
        op: Operation,
        kind: type[TensorOperation],
        operands: list[Value[Any]],
        element: QuantizedType,
        **changes: Any,
    ) -> Value[Any]:
        """Insert a `kind` with the attributes of `op` and `changes`, whose result has the shape of that of `op`."""
        attributes = {**op.attributes, **changes} if isinstance(op, kind) else changes
        result_type = TensorType(op.result.type.shape, element)
        return self.insert(op, kind(operands, (result_type,), attributes)).result

    def requantize(
        self,
        op: Operation,
        accumulator: Value[Any],
        scales: Array,
        bounds: tuple[int, int] | None = None,
        largest: int = 0,
    ) -> Value[Any]:
        """Insert the step from `accumulator`, whose real value is `scales` [1 or C] * stored, to the type of `op`.

        Stored values have at most the magnitude `largest`; beyond 32 bits they are shifted before the multiplication.
        """
        element, shift = self.types[op.result], pre_shift_for(largest)
        factors = np.minimum(np.atleast_1d(scales) / element.scale, LARGEST_SCALE / 2**shift).astype(np.float32)
        constant = self.constant(_label(op), "scale", factors)
        low, high = bounds or (element.low, element.high)
        limits = {name: v for name, v, end in (("low", low, element.low), ("high", high, element.high)) if v != end}
        if shift:
            limits["pre_shift"] = shift
        result_type = TensorType(accumulator.type.shape, element)
        return self.insert(op, RequantizeOp((accumulator, constant), (result_type,), limits)).result


Converter = Callable[[Any, Conversion], Value[Any]]


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
    rhs = conversion.constant(reciprocal.name, _suffix(element.storage), element.quantize(reciprocal.array), element)
    return conversion.build(op, MulOp, [conversion.same_storage(op, 0), rhs], conversion.types[op.out], **op.attributes)


def _unary(op: UnaryOperation, conversion: Conversion) -> Value[Any]:
    if quantized_element(conversion.operand(op, 0).type) == INDEX_TYPE and _is_decided_near_zero(op):
        return _compared_index(op, conversion)
    data, target = conversion.same_storage(op, 0), conversion.types[op.out]
    table = lookup_table(op.apply, quantized_element(data.type), target)
    operands = [data, conversion.constant(_label(op), "table", table)]
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
    table = conversion.constant(_label(op), "table", lookup_table(op.apply, near, narrow))
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
    ones = conversion.constant(_label(op), "ones", np.ones((op.count, 1), np.int8))
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
    operands = [data, conversion.constant(_label(op), "table", table)]
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
    operands.append(conversion.constant(_label(op), "table", table))
    value = conversion.build(op, type(op), operands, natural)
    return value if target == natural else conversion.requantize(op, value, np.asarray(natural.scale))


def _embedding(op: EmbeddingOp, conversion: Conversion) -> Value[Any]:
    """The table takes the type of the result."""
    element = conversion.types[op.out]
    table = conversion.constant(
        fixed_name(op.table), _suffix(element.storage), element.quantize(fixed_array(op.table)), element
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


def _label(op: Operation) -> str:
    """What the constants of `op` are called after: its weight, or what it is called itself."""
    weights = [name for value in op.operands if is_fixed(value) and (name := fixed_name(value)) is not None]
    return weights[0] if weights else op.label


def _suffix(storage: ScalarType) -> str:
    return storage.dtype.name


def _same(known: Array, array: Array) -> bool:
    return known.dtype == array.dtype and known.shape == array.shape and known.tobytes() == array.tobytes()

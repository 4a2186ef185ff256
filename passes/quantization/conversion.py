"""The state of a conversion of float operations to integer ones, and what converters build with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ...dialects.core.operation import Constant, Module, Operation, Value
from ...dialects.core.tensor import TensorOperation
from ...dialects.core.types import I8, I16, Array, ScalarType, TensorType
from ...dialects.quant.arithmetic import pre_shift_for
from ...dialects.quant.ops import DequantizeOp, RequantizeOp
from ...dialects.quant.types import QuantizedType, quantized_element
from .formats import FORMATS, INT8, Format
from .grouping import constant_type
from .ranges import activation_type, range_of
from .stored import fixed_array, fixed_name, fixed_weights, is_fixed
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
        return self.constant(fixed_name(value), storage_suffix(element.storage), element.quantize(array), element)

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
        operands = (value, self.constant(weight_label(op), "scale", factor))
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
        constant = self.constant(weight_label(op), "scale", factors)
        low, high = bounds or (element.low, element.high)
        limits = {name: v for name, v, end in (("low", low, element.low), ("high", high, element.high)) if v != end}
        if shift:
            limits["pre_shift"] = shift
        result_type = TensorType(accumulator.type.shape, element)
        return self.insert(op, RequantizeOp((accumulator, constant), (result_type,), limits)).result


def weight_label(op: Operation) -> str:
    """What the constants of `op` are called after: its weight, or what it is called itself."""
    weights = [name for value in op.operands if is_fixed(value) and (name := fixed_name(value)) is not None]
    return weights[0] if weights else op.label


def storage_suffix(storage: ScalarType) -> str:
    """What the names of constants stored so end with."""
    return storage.dtype.name


def _same(known: Array, array: Array) -> bool:
    return known.dtype == array.dtype and known.shape == array.shape and known.tobytes() == array.tobytes()

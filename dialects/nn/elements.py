"""What `nn` operations ask of their operands' element types, and the real clamp that many of them carry."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.fields import AttributeField, attribute
from ..core.operation import Operation, Value
from ..core.tensor import TensorOperation
from ..core.types import BF16, F32, I8, I16, I32, I64, Array, ElementType, ScalarType, TensorType
from ..quant.arithmetic import clamp_bounds
from ..quant.bfloat16 import finished
from ..quant.types import QuantizedType, is_brain_float, is_number, number_of, quantized_element


def is_quantized(value: Value[TensorType]) -> bool:
    """True if the tensor has a quantized element type."""
    return isinstance(value.type.element, QuantizedType)


def require_element(op: Operation, name: str, value: Value[Any], expected: ElementType) -> None:
    """Raise a located error unless operand `name` has exactly this element type."""
    if value.type.element != expected:
        raise op.error(f"{name} has element type {value.type.element}, expected {expected}")


def require_rank(op: Operation, name: str, value: Value[Any], rank: int, layout: str) -> None:
    """Raise a located error unless operand `name` has `rank` axes; `layout` names them, as NHWC."""
    if value.type.rank != rank:
        raise op.error(f"{name} has {value.type.rank} axes, expected {rank} ({layout})")


def require_length(op: Operation, attribute_name: str, expected: int) -> None:
    """Raise a located error unless the list attribute has `expected` entries."""
    actual = getattr(op, attribute_name)
    if len(actual) != expected:
        raise op.error(f"{attribute_name} has {len(actual)} entries, expected {expected}")


def require_at_least(op: Operation, attribute_name: str, bound: int) -> None:
    """Raise a located error if an entry of the list attribute is below `bound`."""
    smallest = min(getattr(op, attribute_name), default=bound)
    if smallest < bound:
        raise op.error(f"{attribute_name} holds {smallest}, expected at least {bound}")


def require_axis(op: Operation, axis: int, rank: int) -> None:
    """Raise a located error unless `axis` is one of `rank` axes, counted from 0."""
    if not 0 <= axis < rank:
        raise op.error(f"axis is {axis}, expected 0 to {rank - 1}")


def require_permutation(op: Operation, permutation: tuple[int, ...], count: int) -> None:
    """Raise a located error unless `permutation` holds each of 0 .. count - 1 once."""
    if len(permutation) != count:
        raise op.error(f"permutation has {len(permutation)} entries, expected {count}")
    if sorted(permutation) != list(range(count)):
        raise op.error(f"permutation is {list(permutation)[:8]}, expected each of 0 to {count - 1} once")


def float_element(op: Operation, **values: Value[TensorType]) -> ElementType | None:
    """The one element type, f32 or bf16, of all the named operands; None if all are quantized.

    Raises a located error for anything else.
    """
    (first, head), *others = values.items()
    element = head.type.element
    if not is_quantized(head) and element not in (F32, BF16):
        raise op.error(f"{first} has element type {element}, expected f32, bf16 or a quantized type")
    for name, value in others:
        if is_quantized(value) != is_quantized(head) or (not is_quantized(head) and value.type.element != element):
            expected = f"a quantized type as {first} has" if is_quantized(head) else f"{element} as {first} has"
            raise op.error(f"{name} has element type {value.type.element}, expected {expected}")
    return None if is_quantized(head) else element


def require_sum(op: Operation, count: int, data: Value[Any]) -> None:
    """Raise a located error unless any `count` quantized numbers, zero point subtracted, add up to less than 2^31."""
    largest = count * quantized_element(data.type).magnitude
    if largest >= 2**31:
        raise op.error(f"a sum of {count} numbers reaches {largest}, expected below 2^31")


def product_element(op: Operation, bias: Value[Any] | None, **factors: Value[Any]) -> ElementType:
    """The element type of data * weight + bias: f32, bf16, or the accumulator of quantized data.

    bf16 data take bf16 weights and an f32 bias.
    8-bit data take i8 weights, an i32 bias and give i32; 16-bit data take i8 or i16 weights and an i64 bias and give
    i64, of which a machine holds 48 bits. The weight may be quantized instead, of no more bits than the data. Raises a
    located error for anything else; `factors` are the data and the weight under the names of the operands.
    """
    (data_name, data), (weight_name, weight) = factors.items()
    element = data.type.element
    if not isinstance(element, QuantizedType):
        if element != BF16:
            require_element(op, data_name, data, F32)
        require_element(op, weight_name, weight, element)
        if bias is not None:
            require_element(op, "bias", bias, F32)
        return element
    wide = element.storage == I16
    found = weight.type.element
    if isinstance(found, QuantizedType):
        if found.dtype.itemsize > element.dtype.itemsize:
            raise op.error(f"{weight_name} is {weight.type}, expected no wider a type than {element}")
    elif not (wide and found == I16):
        require_element(op, weight_name, weight, I8)
    accumulator: ScalarType = I64 if wide else I32
    if bias is not None:
        require_element(op, "bias", bias, accumulator)
    return accumulator


class ClampedOperation(TensorOperation):
    """An operation whose real result is clamped to [clamp_min, clamp_max]: a fused ReLU or Clip."""

    clamp_min: AttributeField[float | None] = attribute(float, default=None)
    clamp_max: AttributeField[float | None] = attribute(float, default=None)

    @property
    def is_clamped(self) -> bool:
        """True if either bound is set."""
        return self.clamp_min is not None or self.clamp_max is not None

    def verify(self) -> None:
        super().verify()
        low, high = self.clamp_min, self.clamp_max
        if low is not None and high is not None and low > high:
            raise self.error(f"clamp_min is {low}, expected at most clamp_max {high}")
        if self.is_clamped and self.out.type.element != F32 and not is_number(self.out.type.element):
            raise self.error(f"a clamp of an {self.out.type.element} result, expected f32, bf16 or a quantized type")

    @property
    def integer_bounds(self) -> tuple[int, int]:
        """(low, high) of the stored integers (of bf16 the ordinals) under the clamp."""
        return clamp_bounds(number_of(self.out.type), self.clamp_min, self.clamp_max)

    def clamp(self, reals: Array) -> Array:
        """The clamp of a float32 array, which is then rounded if the result is bf16; the array itself if nothing is."""
        if is_brain_float(self.out):
            return finished(reals, *self.integer_bounds)
        if not self.is_clamped:
            return reals
        return np.clip(reals, self.clamp_min, self.clamp_max)

"""Softmax, in float and with integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.fields import attribute, operand, optional_operand
from ..core.operation import Constant, Operation, Value
from ..core.tensor import TensorOperation
from ..core.types import F32, I8, I32, Array, ElementType, TensorType
from ..quant.bfloat16_tables import brain_float_softmax
from ..quant.tables import softmax_entries, softmax_steps, softmax_type
from ..quant.types import QuantizedType, is_brain_float, is_number, quantized_element
from .elements import float_element, is_quantized, require_axis, require_element

SOFTMAX_TYPE = softmax_type(I8)
"""The one result type of a softmax of 8-bit numbers: 0 to 255/256 in 256 steps."""


class SoftmaxOp(TensorOperation):
    """exp(x) / sum(exp(x)) along `axis` (counted from 0).

    Quantized data: `softmax_steps` of integers with a constant `table` of `softmax_table`; the result has the one
    `softmax_type` of the width of the data. bf16 data: `brain_float_softmax` with the f32 `table` of
    `exponential_table`.
    """

    name = "nn.softmax"

    data = operand(TensorType)
    table = optional_operand(TensorType)
    axis = attribute(int)

    def expected_shape(self) -> tuple[int, ...]:
        require_axis(self, self.axis, self.data.type.rank)
        return self.data.type.shape

    def expected_element(self) -> ElementType:
        element = self.data.type.element
        if isinstance(element, QuantizedType):
            return softmax_type(element.storage)
        return float_element(self, data=self.data) or F32

    def verify(self) -> None:
        super().verify()
        require_table(self, self.data, self.table, self.data.type.shape[self.axis])

    def evaluate(self, data: Array, table: Array | None = None) -> Array:
        if is_brain_float(self.data) and table is not None:
            return brain_float_softmax(data, table, self.axis)
        if table is None:
            powers = np.exp(data - data.max(axis=self.axis, keepdims=True))
            return powers / powers.sum(axis=self.axis, keepdims=True)
        return softmax_steps(data, table, self.axis)


MASK_TYPE = QuantizedType(I8, 1.0, 0)
"""What a mask that is computed is stored as: what it hides is the integer 0."""


class MaskedSoftmaxOp(TensorOperation):
    """The softmax over the last axis of what a `mask` does not hide: its elements are 1, or 0 for hidden.

    The mask broadcasts to the data. It is f32 beside f32 data; beside quantized data i8 if it is constant and
    `MASK_TYPE` if not, beside bf16 data constant i8. Hidden elements are 0 in
    the result and count for nothing; where a whole row is hidden it is 0. Integers and bf16 are those of `nn.softmax`.
    """

    name = "nn.masked_softmax"

    data = operand(TensorType)
    mask = operand(TensorType)
    table = optional_operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        data, mask = self.data.type.shape, self.mask.type.shape
        require_axis(self, 0, len(data))
        aligned = (1,) * (len(data) - len(mask)) + mask
        if len(mask) > len(data) or any(n not in (1, size) for n, size in zip(aligned, data, strict=True)):
            raise self.error(f"mask has shape {list(mask)}, expected one that broadcasts to {list(data)}")
        return data

    def expected_element(self) -> ElementType:
        element = self.data.type.element
        computed = MASK_TYPE if isinstance(element, QuantizedType) and not isinstance(self.mask, Constant) else I8
        require_element(self, "mask", self.mask, computed if is_number(element) else F32)
        if isinstance(element, QuantizedType):
            return softmax_type(element.storage)
        return float_element(self, data=self.data) or F32

    def verify(self) -> None:
        super().verify()
        require_table(self, self.data, self.table, self.data.type.shape[-1])

    def evaluate(self, data: Array, mask: Array, table: Array | None = None) -> Array:
        if is_brain_float(self.data) and table is not None:
            return brain_float_softmax(data, table, -1, mask)
        if table is not None:
            return softmax_steps(data, table, -1, mask)
        shown = np.broadcast_to(mask != 0, data.shape)
        highest = np.where(shown, data, -np.inf).max(axis=-1, keepdims=True)
        powers = np.exp(np.where(shown, data - np.where(np.isfinite(highest), highest, 0), -np.inf))
        return powers / np.maximum(powers.sum(axis=-1, keepdims=True), np.float32(1e-30))


def require_table(op: Operation, data: Value[TensorType], table: Value[Any] | None, length: int) -> None:
    """Raise a located error unless quantized or bf16 data has a constant table that suits them, and f32 has none.

    That of quantized data is positive, largest at 0, and so small that no row of `length` sums up to 2^31.
    """
    if is_brain_float(data):
        expected = TensorType((512,), F32)
        if table is None or not isinstance(table, Constant) or table.type != expected:
            found = "absent" if table is None else str(table.type)
            raise op.error(f"table is {found}, expected a constant {expected} beside bf16 data")
        return
    if not is_quantized(data):
        if table is not None:
            raise op.error("data is f32, expected a quantized type beside a table")
        return
    expected = TensorType((softmax_entries(quantized_element(data.type).storage),), I32)
    if table is None or not isinstance(table, Constant) or table.type != expected:
        found = "absent" if table is None else str(table.type)
        raise op.error(f"table is {found}, expected a constant {expected} beside quantized data")
    first, smallest = int(table.array[0]), int(table.array.min())
    if first < 1 or smallest < 0 or int(table.array[:256].max()) > first:
        raise op.error("table is not positive and largest at 0, expected exp(-scale * d)")
    if int(table.array.max()) > 2**22 or length * first >= 2**31:
        raise op.error(f"a sum over {length} elements reaches {length * first}, expected below 2^31")

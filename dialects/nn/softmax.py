"""Softmax, in float and with integers."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute, operand, optional_operand
from ..core.operation import Constant
from ..core.tensor import TensorOperation
from ..core.types import F32, I8, I32, Array, ElementType, TensorType
from ..quant.tables import softmax_entries, softmax_steps, softmax_type
from ..quant.types import QuantizedType, quantized_element
from .elements import is_quantized, require_axis, require_element

SOFTMAX_TYPE = softmax_type(I8)
"""The one result type of a softmax of 8-bit numbers: 0 to 255/256 in 256 steps."""


class SoftmaxOp(TensorOperation):
    """exp(x) / sum(exp(x)) along `axis` (counted from 0).

    Quantized data: `softmax_steps` of integers with a constant `table` of `softmax_table`; the result has the one
    `softmax_type` of the width of the data.
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
        require_element(self, "data", self.data, F32)
        return F32

    def verify(self) -> None:
        super().verify()
        if not is_quantized(self.data):
            if self.table is not None:
                raise self.error("data is f32, expected a quantized type beside a table")
            return
        expected = TensorType((softmax_entries(quantized_element(self.data.type).storage),), I32)
        if self.table is None or not isinstance(self.table, Constant) or self.table.type != expected:
            found = "absent" if self.table is None else str(self.table.type)
            raise self.error(f"table is {found}, expected a constant {expected} beside quantized data")
        first, smallest = int(self.table.array[0]), int(self.table.array.min())
        length = self.data.type.shape[self.axis]
        if first < 1 or smallest < 0 or int(self.table.array[:256].max()) > first:
            raise self.error("table is not positive and largest at 0, expected exp(-scale * d)")
        if int(self.table.array.max()) > 2**22 or length * first >= 2**31:
            raise self.error(f"a sum over {length} elements reaches {length * first}, expected below 2^31")

    def evaluate(self, data: Array, table: Array | None = None) -> Array:
        if table is None:
            powers = np.exp(data - data.max(axis=self.axis, keepdims=True))
            return powers / powers.sum(axis=self.axis, keepdims=True)
        return softmax_steps(data, table, self.axis)

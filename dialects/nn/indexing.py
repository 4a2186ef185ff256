"""Indices at run time: the rows of a table that they name, and the place of the largest element."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute, operand
from ..core.operation import Constant
from ..core.tensor import TensorOperation
from ..core.types import F32, Array, ElementType, TensorType
from ..quant.bfloat16 import ordinals
from ..quant.indices import INDEX_TYPE, MOST_ROWS, largest_index, rows_of
from ..quant.types import is_brain_float, is_number
from .elements import float_element, is_quantized, require_element, require_rank


class EmbeddingOp(TensorOperation):
    """The rows [rows, width] of a constant `table` that `indices` name: out[..., :] = table[indices[...]].

    A negative index counts from the end; one beyond the table is taken to its nearest row. f32 indices, rounded to the
    nearest integer, beside an f32 table; `INDEX_TYPE` beside a quantized or bf16 one.
    """

    name = "nn.embedding"

    indices = operand(TensorType)
    table = operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        require_rank(self, "table", self.table, 2, "rows, width")
        rows, width = self.table.type.shape
        if not 1 <= rows <= MOST_ROWS:
            raise self.error(f"table has {rows} rows, expected 1 to {MOST_ROWS}")
        return (*self.indices.type.shape, width)

    def expected_element(self) -> ElementType:
        element = self.table.type.element
        require_element(self, "indices", self.indices, INDEX_TYPE if is_number(element) else F32)
        if not is_number(element):
            require_element(self, "table", self.table, F32)
        return element

    def verify(self) -> None:
        super().verify()
        if not isinstance(self.table, Constant):
            raise self.error("table is computed, expected a constant")

    def evaluate(self, indices: Array, table: Array) -> Array:
        return table[rows_of(np.rint(np.nan_to_num(indices)) if indices.dtype.kind == "f" else indices, len(table))]


class ArgMaxOp(TensorOperation):
    """The index of the largest element along the last axis, which goes: of several the first one, or the `last` one.

    f32 data give the index as f32, quantized and bf16 data (ordered by their ordinals) as `INDEX_TYPE`.
    """

    name = "nn.arg_max"

    data = operand(TensorType)
    last = attribute(bool, default=False)

    def expected_shape(self) -> tuple[int, ...]:
        shape = self.data.type.shape
        if not shape or not 1 <= shape[-1] <= MOST_ROWS:
            raise self.error(f"data has shape {list(shape)}, expected a last axis of 1 to {MOST_ROWS} elements")
        return shape[:-1]

    def expected_element(self) -> ElementType:
        if is_quantized(self.data) or is_brain_float(self.data):
            return INDEX_TYPE
        return float_element(self, data=self.data) or F32

    def evaluate(self, data: Array) -> Array:
        values = ordinals(data) if is_brain_float(self.data) else data
        return largest_index(values, last=self.last).astype(self.out.type.element.dtype)

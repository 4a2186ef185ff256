"""Normalisation over channels: batch normalisation and local response normalisation."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute, operand, optional_operand
from ..core.operation import Constant
from ..core.tensor import TensorOperation
from ..core.types import F32, I32, Array, ElementType, TensorType
from ..quant.arithmetic import round_to_range
from ..quant.bfloat16_tables import LRN_ENTRIES, brain_float_lrn
from ..quant.tables import lrn_gain, lrn_knots, window_sums
from ..quant.types import is_brain_float, quantized_element
from .elements import float_element, is_quantized, require_element


class BatchNormOp(TensorOperation):
    """(data - mean) / sqrt(variance + epsilon) * scale + bias over the last axis; f32, parameters [C]."""

    name = "nn.batch_norm"

    data = operand(TensorType)
    scale = operand(TensorType)
    bias = operand(TensorType)
    mean = operand(TensorType)
    variance = operand(TensorType)
    epsilon = attribute(float, default=1e-5)

    def expected_shape(self) -> tuple[int, ...]:
        shape = self.data.type.shape
        if not shape:
            raise self.error("data has 0 axes, expected at least 1")
        for field, value in zip(self.operand_fields[1:], self.operands[1:], strict=True):
            if value.type.shape != shape[-1:]:
                raise self.error(f"{field.name} has shape {list(value.type.shape)}, expected [{shape[-1]}]")
        return shape

    def expected_element(self) -> ElementType:
        for field, value in zip(self.operand_fields, self.operands, strict=True):
            require_element(self, field.name, value, F32)
        return F32

    def evaluate(self, data: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        factor = scale / np.sqrt(variance + np.float32(self.epsilon))
        return (data - mean) * factor + bias


class LrnOp(TensorOperation):
    """Local response normalisation over the last axis: x / (bias + alpha / size * sum(x^2))^beta.

    The sum is over channels c - floor((size - 1) / 2) to c + ceil((size - 1) / 2) that exist (ONNX LRN). Quantized:
    clip(rint((x - zp_in) * G * 2^-shift) + zp_out), where G = `lrn_gain` of the integer sum of squares, read from
    the constant i32 `table`; table and `shift` come from `lrn_table`. bf16: `brain_float_lrn` with the constant f32
    `table` of `brain_float_lrn_table`.
    """

    name = "nn.lrn"

    data = operand(TensorType)
    table = optional_operand(TensorType)
    size = attribute(int)
    alpha = attribute(float, default=0.0001)
    beta = attribute(float, default=0.75)
    bias = attribute(float, default=1.0)
    shift = attribute(int, default=0)

    def expected_shape(self) -> tuple[int, ...]:
        if not self.data.type.shape:
            raise self.error("data has 0 axes, expected at least 1")
        if self.size < 1:
            raise self.error(f"size is {self.size}, expected at least 1")
        return self.data.type.shape

    def expected_element(self) -> ElementType | None:
        return float_element(self, data=self.data)

    def verify(self) -> None:
        super().verify()
        if is_brain_float(self.data):
            expected = TensorType((LRN_ENTRIES,), F32)
            if self.table is None or not isinstance(self.table, Constant) or self.table.type != expected:
                found = "absent" if self.table is None else str(self.table.type)
                raise self.error(f"table is {found}, expected a constant {expected} beside bf16 data")
            return
        if not is_quantized(self.data):
            if self.table is not None:
                raise self.error("data is f32, expected a quantized type beside a table")
            return
        largest = self.size * quantized_element(self.data.type).magnitude ** 2
        if largest >= 2**47:
            raise self.error(f"a sum of {self.size} squares reaches {largest}, expected below 2^47")
        expected = TensorType((len(lrn_knots(largest)),), I32)
        if self.table is None or not isinstance(self.table, Constant) or self.table.type != expected:
            found = "absent" if self.table is None else str(self.table.type)
            raise self.error(f"table is {found}, expected a constant {expected} beside quantized data")
        if not 0 <= self.shift < 64:
            raise self.error(f"shift is {self.shift}, expected 0 to 63")

    def evaluate(self, data: Array, table: Array | None = None) -> Array:
        if is_brain_float(self.data) and table is not None:
            return brain_float_lrn(data, table, self.size)
        if table is None:
            mean_square = window_sums(data * data, self.size) * np.float32(self.alpha / self.size)
            return data / (np.float32(self.bias) + mean_square) ** np.float32(self.beta)
        source, target = quantized_element(self.data.type), quantized_element(self.out.type)
        offset = data.astype(np.int64) - source.zero_point
        gain = lrn_gain(table, window_sums(offset * offset, self.size))
        return round_to_range(
            offset * gain * 2.0**-self.shift, target.zero_point, target.low, target.high, target.dtype
        )

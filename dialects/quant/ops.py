"""Operations between real numbers, quantized integers and 32-bit accumulators."""

from __future__ import annotations

import numpy as np

from ..core.fields import AttributeField, attribute, operand
from ..core.operation import Constant, Elementwise, Pure
from ..core.tensor import TensorOperation
from ..core.types import BF16, F32, I8, I16, I32, I64, Array, ElementType, TensorType
from .arithmetic import fixed_point, half_of, pre_shifted, rescale
from .bfloat16_tables import HEADER_ENTRIES, LARGEST_PAGES, SEGMENT, looked_up_brain_float, page_count
from .tables import looked_up, lookup_entries
from .types import QuantizedType, is_brain_float, is_number, number_of, quantized_element


class QuantizeOp(TensorOperation):
    """Real to quantized, any shape: clip(rint(x / scale) + zero point) in float32; the input holds no NaN.

    With a bf16 result it is the rounding to the nearest number, ties to even.
    """

    name = "quant.quantize"
    traits = frozenset({Pure, Elementwise})

    data = operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        return self.data.type.shape

    def expected_element(self) -> ElementType | None:
        if self.data.type.element != F32:
            raise self.error(f"data has element type {self.data.type.element}, expected f32")
        return BF16 if self.results and is_brain_float(self.out) else None

    def evaluate(self, data: Array) -> Array:
        return number_of(self.out.type).quantize(data)


class DequantizeOp(TensorOperation):
    """Quantized to real, any shape: (q - zero point) * scale in float32; bf16 numbers stay what they are."""

    name = "quant.dequantize"
    traits = frozenset({Pure, Elementwise})

    data = operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        return self.data.type.shape

    def expected_element(self) -> ElementType:
        if not is_number(self.data.type.element):
            raise self.error(f"data has element type {self.data.type.element}, expected a quantized type or bf16")
        return F32

    def evaluate(self, data: Array) -> Array:
        return number_of(self.data.type).dequantize(data)


class ScaleOp(TensorOperation):
    """Integers without a zero point to real: data * scale in float32; what quantized weights and biases stand for.

    `data` is i8, i16 or i32, any shape; `scale` f32 of shape [1], or [C] for one factor per index of `axis`.
    """

    name = "quant.scale"

    data = operand(TensorType)
    scale = operand(TensorType)
    axis = attribute(int, default=0)

    def expected_shape(self) -> tuple[int, ...]:
        shape, scale = self.data.type.shape, self.scale.type
        if not 0 <= self.axis < max(len(shape), 1):
            raise self.error(f"axis is {self.axis}, expected 0 to {max(len(shape) - 1, 0)}")
        length = shape[self.axis] if shape else 1
        if scale.element != F32 or scale.shape not in ((1,), (length,)):
            raise self.error(f"scale is {scale}, expected tensor<1xf32> or tensor<{length}xf32>")
        return shape

    def expected_element(self) -> ElementType:
        if self.data.type.element not in (I8, I16, I32):
            raise self.error(f"data has element type {self.data.type.element}, expected i8, i16 or i32")
        return F32

    def evaluate(self, data: Array, scale: Array) -> Array:
        factor = scale if len(scale) == 1 else scale.reshape(-1, *(1,) * (data.ndim - 1 - self.axis))
        return data.astype(np.float32) * (factor if data.ndim else factor[0])


class RequantizeOp(TensorOperation):
    """Integers at one scale to another: clip(rint((x - zp_in) * M * 2^-s) + zp_out, low, high), (M, s) ~= scale.

    `data` is an i32 or i64 accumulator (zp_in = 0) or quantized. `scale` is a constant f32 tensor of shape [1], or [C]
    for one factor per channel of the last axis. `low` and `high` default to the range of the result type. With
    `pre_shift` p (i64 only), x becomes floor((x + 2^(p-1)) * 2^-p) first and (M, s) ~= scale * 2^p; |x| < 2^(31 + p).
    """

    name = "quant.requantize"

    data = operand(TensorType)
    scale = operand(TensorType)
    low: AttributeField[int | None] = attribute(int, default=None)
    high: AttributeField[int | None] = attribute(int, default=None)
    pre_shift = attribute(int, default=0)

    def expected_shape(self) -> tuple[int, ...]:
        data, scale = self.data.type, self.scale.type
        channels = data.shape[-1] if data.shape else 1
        if scale.element != F32 or scale.shape not in ((1,), (channels,)):
            raise self.error(f"scale is {scale}, expected tensor<1xf32> or tensor<{channels}xf32>")
        return data.shape

    def expected_element(self) -> ElementType | None:
        if not isinstance(self.data.type.element, QuantizedType) and self.data.type.element not in (I32, I64):
            raise self.error(f"data has element type {self.data.type.element}, expected i32, i64 or a quantized type")
        return None

    def verify(self) -> None:
        super().verify()
        if not isinstance(self.scale, Constant):
            raise self.error("scale is computed, expected a constant")
        if not 0 <= self.pre_shift < (17 if self.data.type.element == I64 else 1):
            raise self.error(f"pre_shift is {self.pre_shift} for {self.data.type}, expected 0 (to 16 for i64)")
        try:
            self.multipliers(self.scale.array)
        except ValueError as error:
            raise self.error(str(error)) from None
        target = quantized_element(self.out.type)
        low, high = self.bounds
        if not target.low <= low <= high <= target.high:
            raise self.error(f"bounds are [{low}, {high}], expected a range within [{target.low}, {target.high}]")

    @property
    def bounds(self) -> tuple[int, int]:
        """The integer (low, high) that results are clipped to."""
        target = quantized_element(self.out.type)
        return (target.low if self.low is None else self.low, target.high if self.high is None else self.high)

    def evaluate(self, data: Array, scale: Array) -> Array:
        source, target = self.data.type.element, quantized_element(self.out.type)
        values = data.astype(np.int32) - source.zero_point if isinstance(source, QuantizedType) else data
        if self.pre_shift:
            values = pre_shifted(values + half_of(self.pre_shift), self.pre_shift)
        return rescale(values, *self.multipliers(scale), target.zero_point, *self.bounds, target.dtype)

    def multipliers(self, scale: Array) -> tuple[Array, Array]:
        """(M, s) of every factor, for what the pre-shift leaves of the data."""
        return fixed_point(np.ldexp(scale.astype(np.float64), self.pre_shift))


class LookupOp(TensorOperation):
    """Any function of one number by a constant table of stored result integers: see `looked_up`.

    256 entries for 8-bit data, 513 for 16-bit data with a result of 16 bits. bf16 data give bf16 by an i16 table of
    `brain_float_table`.
    """

    name = "quant.lookup"
    traits = frozenset({Pure, Elementwise})

    data = operand(TensorType)
    table = operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        element = self.data.type.element
        if is_brain_float(self.data):
            entries = self.table.type.size
            if self.table.type.rank != 1 or page_count(entries) is None:
                expected = f"{HEADER_ENTRIES} + {SEGMENT} for each of 1 to {LARGEST_PAGES} pages"
                raise self.error(f"table is {self.table.type}, expected {expected} elements")
            return self.data.type.shape
        expected = lookup_entries(element.storage) if isinstance(element, QuantizedType) else 256
        if self.table.type.shape != (expected,):
            raise self.error(f"table is {self.table.type}, expected {expected} elements")
        return self.data.type.shape

    def expected_element(self) -> ElementType | None:
        element = self.data.type.element
        if not is_number(element):
            raise self.error(f"data has element type {element}, expected a quantized type or bf16")
        return BF16 if element == BF16 else None

    def verify(self) -> None:
        super().verify()
        stored = I16 if is_brain_float(self.out) else quantized_element(self.out.type).storage
        if self.table.type.element != stored:
            raise self.error(f"table holds {self.table.type.element}, result is stored in {stored}")
        if not isinstance(self.table, Constant):
            raise self.error("table is computed, expected a constant")

    def evaluate(self, data: Array, table: Array) -> Array:
        return (looked_up_brain_float if is_brain_float(self.data) else looked_up)(data, table)

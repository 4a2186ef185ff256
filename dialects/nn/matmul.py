"""Matrix multiplication with its fused bias and clamp."""

from __future__ import annotations

import numpy as np

from ..core.fields import AttributeField, attribute, operand, optional_operand
from ..core.operation import Constant
from ..core.types import Array, ElementType, TensorType
from ..quant.bfloat16 import ordered_matmul
from ..quant.types import QuantizedType, is_brain_float
from .elements import ClampedOperation, is_quantized, product_element
from .products import exact_matmul, with_bias


class MatmulOp(ClampedOperation):
    """lhs [..., M, K] times rhs [..., K, N] plus optional bias [N], leading axes broadcast as in numpy.

    f32: clamp(factor * (lhs @ rhs) + b); with `transpose_rhs` rhs ends in [N, K]. bf16 (with an f32 bias) the same in
    the order and with the roundings of `accelc.dialects.quant.bfloat16`. Quantized lhs with integer rhs
    (weights) or quantized rhs (activations) gives the exact accumulator of the operands less their zero points (see
    `product_element`); no clamp and no factor then. `macs` is the number of multiply-accumulates of the original
    model, where a pass has changed the shapes.
    """

    name = "nn.matmul"

    lhs = operand(TensorType)
    rhs = operand(TensorType)
    bias = optional_operand(TensorType)
    factor = attribute(float, default=1.0)
    transpose_rhs = attribute(bool, default=False)
    macs: AttributeField[int | None] = attribute(int, default=None)

    @property
    def macs_total(self) -> int:
        return self.out.type.size * self.lhs.type.shape[-1] if self.macs is None else self.macs

    @property
    def has_weights(self) -> bool:
        """True if a computed left side meets one constant matrix [K, N] without a zero point."""
        rhs = self.rhs
        plain = isinstance(rhs, Constant) and rhs.type.rank == 2 and not is_quantized(rhs) and not self.transpose_rhs
        return plain and not isinstance(self.lhs, Constant)

    def expected_shape(self) -> tuple[int, ...]:
        lhs, rhs = self.lhs.type.shape, self.rhs.type.shape
        if len(lhs) < 2 or len(rhs) < 2:
            raise self.error(f"operands have {len(lhs)} and {len(rhs)} axes, expected at least 2")
        if self.transpose_rhs:
            rhs = (*rhs[:-2], rhs[-1], rhs[-2])
        if lhs[-1] != rhs[-2]:
            raise self.error(f"lhs has {lhs[-1]} columns, rhs expects {rhs[-2]}")
        if self.bias is not None and self.bias.type.shape != (rhs[-1],):
            raise self.error(f"bias has shape {list(self.bias.type.shape)}, expected [{rhs[-1]}]")
        try:
            leading = np.broadcast_shapes(lhs[:-2], rhs[:-2])
        except ValueError:
            message = f"leading axes are {list(lhs[:-2])} and {list(rhs[:-2])}, expected shapes that broadcast"
            raise self.error(message) from None
        return (*leading, lhs[-2], rhs[-1])

    def verify(self) -> None:
        super().verify()
        if is_quantized(self.lhs) and self.factor != 1.0:
            raise self.error(f"factor is {self.factor}, expected 1.0 beside quantized operands")

    def expected_element(self) -> ElementType:
        return product_element(self, self.bias, lhs=self.lhs, rhs=self.rhs)

    def evaluate(self, lhs: Array, rhs: Array, bias: Array | None = None) -> Array:
        left, right = self.lhs.type.element, self.rhs.type.element
        if self.transpose_rhs:
            rhs = rhs.swapaxes(-1, -2)
        if isinstance(left, QuantizedType):
            zero_point = right.zero_point if isinstance(right, QuantizedType) else 0
            total = exact_matmul(lhs, left.zero_point, rhs, zero_point)
            return total if bias is None else with_bias(total, bias)
        product = (ordered_matmul if is_brain_float(self.lhs) else np.matmul)(lhs, rhs)
        if self.factor != 1.0:
            product = product * np.float32(self.factor)
        return self.clamp(product if bias is None else product + bias)

"""Unary functions and PRelu: float only, except PRelu; in integers a unary function is a `quant.lookup`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..core.fields import attribute, operand
from ..core.operation import Constant, Elementwise, Pure
from ..core.tensor import TensorOperation
from ..core.types import F32, Array, ElementType, TensorType
from ..quant.arithmetic import common_fixed_point, round_to_range
from ..quant.bfloat16 import rounded
from ..quant.types import is_brain_float, quantized_element
from .elements import float_element, is_quantized, require_element


class UnaryOperation(TensorOperation):
    """out = formula(data), element by element, f32, any shape.

    `formula` takes a float array and, as keywords, the attributes of the class; `apply` binds those attributes, so
    `lookup_table(op.apply, source, target)` is the integer form.
    """

    traits = frozenset({Pure, Elementwise})
    formula: ClassVar[Callable[..., Array]]

    data = operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        return self.data.type.shape

    def expected_element(self) -> ElementType:
        require_element(self, "data", self.data, F32)
        return F32

    def apply(self, x: Array) -> Array:
        """The function with this operation's attributes, in the precision of `x`."""
        values: dict[str, Any] = {name: self.attribute_or_default(name) for name in self.attribute_fields}
        return type(self).formula(x, **values)

    def evaluate(self, data: Array) -> Array:
        return self.apply(data).astype(np.float32, copy=False)


class ReluOp(UnaryOperation):
    """max(x, 0)."""

    name = "nn.relu"

    @staticmethod
    def formula(x: Array) -> Array:
        """max(x, 0)."""
        return np.maximum(x, 0)


class ClipOp(UnaryOperation):
    """min(max(x, min), max); either bound may be infinite."""

    name = "nn.clip"

    min = attribute(float, default=-math.inf)
    max = attribute(float, default=math.inf)

    @staticmethod
    def formula(x: Array, *, min: float, max: float) -> Array:
        """min(max(x, min), max)."""
        return np.minimum(np.maximum(x, min), max)


class LeakyReluOp(UnaryOperation):
    """The piecewise linear x for x >= 0, alpha * x below."""

    name = "nn.leaky_relu"

    alpha = attribute(float, default=0.01)

    @staticmethod
    def formula(x: Array, *, alpha: float) -> Array:
        """The piecewise linear x for x >= 0, alpha * x below."""
        return np.where(x >= 0, x, x * alpha)


class SigmoidOp(UnaryOperation):
    """1 / (1 + exp(-x)), without overflow for any x."""

    name = "nn.sigmoid"

    @staticmethod
    def formula(x: Array) -> Array:
        """1 / (1 + exp(-x))."""
        decay = np.exp(-np.abs(x))
        return np.where(x >= 0, 1, decay) / (1 + decay)


class HardSigmoidOp(UnaryOperation):
    """clip(alpha * x + beta, 0, 1)."""

    name = "nn.hard_sigmoid"

    alpha = attribute(float, default=0.2)
    beta = attribute(float, default=0.5)

    @staticmethod
    def formula(x: Array, *, alpha: float, beta: float) -> Array:
        """clip(alpha * x + beta, 0, 1)."""
        return np.clip(x * alpha + beta, 0, 1)


class HardSwishOp(UnaryOperation):
    """x * clip(x / 6 + 1 / 2, 0, 1)."""

    name = "nn.hard_swish"

    @staticmethod
    def formula(x: Array) -> Array:
        """The product x * clip(x / 6 + 1 / 2, 0, 1)."""
        return x * np.clip(x / 6 + 0.5, 0, 1)


class TanhOp(UnaryOperation):
    """Hyperbolic tangent."""

    name = "nn.tanh"

    @staticmethod
    def formula(x: Array) -> Array:
        """tanh(x)."""
        return np.tanh(x)


class PReluOp(TensorOperation):
    """x for x >= 0, slope * x below; `slope` f32 broadcasts over the leading axes of `data`.

    Quantized: q = clip(rint((x - zp_in) * M * 2^-s) + zp_out), where M is M_positive or the multiplier of the slope,
    all with one common shift; slopes may be negative. `slope` is then a constant. bf16: x or x * slope in float32.
    """

    name = "nn.prelu"

    data = operand(TensorType)
    slope = operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        data, slope = self.data.type.shape, self.slope.type.shape
        tail = data[max(len(data) - len(slope), 0) :]
        if len(slope) > len(data) or any(s not in (1, d) for s, d in zip(slope, tail, strict=True)):
            raise self.error(f"slope has shape {list(slope)}, expected one that broadcasts to {list(data)}")
        return data

    def expected_element(self) -> ElementType | None:
        require_element(self, "slope", self.slope, F32)
        return float_element(self, data=self.data)

    def verify(self) -> None:
        super().verify()
        if is_quantized(self.data):
            if not isinstance(self.slope, Constant):
                raise self.error("slope is computed, expected a constant for quantized data")
            try:
                self.fixed_point()
            except ValueError as error:
                raise self.error(str(error)) from None

    def fixed_point(self) -> tuple[int, Array, int]:
        """(M_positive, M of each slope in the slope's shape, common shift) of a quantized PRelu."""
        assert isinstance(self.slope, Constant)
        ratio = quantized_element(self.data.type).scale / quantized_element(self.out.type).scale
        slopes = self.slope.array.astype(np.float64)
        multipliers, shift = common_fixed_point(np.append(slopes.reshape(-1) * ratio, ratio))
        return int(multipliers[-1]), multipliers[:-1].reshape(slopes.shape), shift

    def evaluate(self, data: Array, slope: Array) -> Array:
        if is_brain_float(self.data):
            real = data.astype(np.float32)
            with np.errstate(all="ignore"):
                return rounded(np.where(real >= 0, real, real * slope))
        if not is_quantized(self.data):
            return np.where(data >= 0, data, data * slope)
        source, target = quantized_element(self.data.type), quantized_element(self.out.type)
        positive, negative, shift = self.fixed_point()
        offset = data.astype(np.float64) - source.zero_point
        product = offset * np.where(offset >= 0, positive, negative) * 2.0**-shift
        return round_to_range(product, target.zero_point, target.low, target.high, target.dtype)

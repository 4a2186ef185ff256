"""Binary arithmetic with numpy broadcasting, in float and in integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.fields import operand
from ..core.operation import Elementwise, Pure
from ..core.types import Array, ElementType, TensorType
from ..quant.arithmetic import common_fixed_point, fixed_point, rescale, round_to_range
from ..quant.types import is_brain_float, quantized_element
from .elements import ClampedOperation, float_element, is_quantized


class BinaryOperation(ClampedOperation):
    """out = clamp(lhs op rhs): shapes broadcast as in numpy; both operands f32, or bf16, or quantized at any scales.

    bf16 are computed with in float32 and rounded once.
    """

    traits = frozenset({Pure, Elementwise})

    lhs = operand(TensorType)
    rhs = operand(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        try:
            return np.broadcast_shapes(self.lhs.type.shape, self.rhs.type.shape)
        except ValueError:
            shapes = f"{list(self.lhs.type.shape)} and {list(self.rhs.type.shape)}"
            raise self.error(f"operands have shapes {shapes}, expected shapes that broadcast") from None

    def expected_element(self) -> ElementType | None:
        return float_element(self, lhs=self.lhs, rhs=self.rhs)

    def verify(self) -> None:
        super().verify()
        if is_quantized(self.lhs):
            try:
                self.multipliers()
            except ValueError as error:
                raise self.error(f"the scales do not fit: {error}") from None

    @property
    def scales(self) -> tuple[float, float, float]:
        """The scales of lhs, rhs and the result, when quantized."""
        lhs, rhs, out = (quantized_element(v.type) for v in (self.lhs, self.rhs, self.out))
        return lhs.scale, rhs.scale, out.scale

    def multipliers(self) -> tuple[Sequence[int], int]:
        """The integer multipliers and the one shift of the quantized operation; ValueError if none fit."""
        raise TypeError(f"{self.name} has no integer form")

    def evaluate(self, lhs: Array, rhs: Array) -> Array:
        if not is_quantized(self.lhs):
            if is_brain_float(self.lhs):
                with np.errstate(all="ignore"):
                    return self.clamp(self.real(lhs.astype(np.float32), rhs.astype(np.float32)))
            return self.clamp(self.real(lhs, rhs))
        zero_points = [quantized_element(value.type).zero_point for value in (self.lhs, self.rhs)]
        left = np.subtract(lhs, zero_points[0], dtype=np.float64)
        return self.integer(np.asarray(left), np.asarray(np.subtract(rhs, zero_points[1], dtype=np.float64)))

    def real(self, lhs: Array, rhs: Array) -> Array:
        """The float meaning without the clamp."""
        raise TypeError(f"{self.name} has no float form")

    def integer(self, lhs: Array, rhs: Array) -> Array:
        """The stored result from operands less their zero points (integers in float64), which may be overwritten."""
        raise TypeError(f"{self.name} has no integer form")

    def rounded(self, steps: Array) -> Array:
        """Steps of the result scale to stored integers: round half to even, add the zero point, clamp."""
        target = quantized_element(self.out.type)
        return round_to_range(steps, target.zero_point, *self.integer_bounds, target.dtype)


def _weighted_sum(lhs: Array, left: float, rhs: Array, right: float) -> Array:
    """The sum of the products with two factors, in float64; operands of its shape are overwritten."""
    np.multiply(lhs, left, out=lhs)
    np.multiply(rhs, right, out=rhs)
    return np.add(lhs, rhs, out=lhs) if lhs.shape == rhs.shape else np.asarray(lhs + rhs)


class AddOp(BinaryOperation):
    """lhs + rhs; quantized clip(rint((a * Ma + b * Mb) * 2^-s) + zp), a and b less their zero points, common shift."""

    name = "nn.add"

    def multipliers(self) -> tuple[Sequence[int], int]:
        lhs, rhs, out = self.scales
        values, shift = common_fixed_point((lhs / out, rhs / out))
        return values.tolist(), shift

    def real(self, lhs: Array, rhs: Array) -> Array:
        return lhs + rhs

    def integer(self, lhs: Array, rhs: Array) -> Array:
        (left, right), shift = self.multipliers()
        return self.rounded(_weighted_sum(lhs, left * 2.0**-shift, rhs, right * 2.0**-shift))


class SubOp(BinaryOperation):
    """lhs - rhs; quantized clip(rint((a * Ma - b * Mb) * 2^-s) + zp), a and b less their zero points, common shift."""

    name = "nn.sub"

    def multipliers(self) -> tuple[Sequence[int], int]:
        lhs, rhs, out = self.scales
        values, shift = common_fixed_point((lhs / out, rhs / out))
        return values.tolist(), shift

    def real(self, lhs: Array, rhs: Array) -> Array:
        return lhs - rhs

    def integer(self, lhs: Array, rhs: Array) -> Array:
        (left, right), shift = self.multipliers()
        return self.rounded(_weighted_sum(lhs, left * 2.0**-shift, rhs, right * -(2.0**-shift)))


class MulOp(BinaryOperation):
    """lhs * rhs; quantized clip(rint(a * b * M * 2^-s) + zp), a and b less their zero points."""

    name = "nn.mul"

    def multipliers(self) -> tuple[Sequence[int], int]:
        lhs, rhs, out = self.scales
        multiplier, shift = fixed_point(lhs * rhs / out)
        return (int(multiplier),), int(shift)

    def real(self, lhs: Array, rhs: Array) -> Array:
        return lhs * rhs

    def integer(self, lhs: Array, rhs: Array) -> Array:
        (multiplier,), shift = self.multipliers()
        target = quantized_element(self.out.type)
        return rescale(lhs * rhs, multiplier, shift, target.zero_point, *self.integer_bounds, target.dtype)


class DivOp(BinaryOperation):
    """lhs / rhs; quantized clip(rint(a * M * 2^-s / b) + zp): one division of integers, rounded half to even.

    a / 0 saturates towards the sign of a, 0 / 0 is 0. For 8-bit operands the float64 quotient is close enough to the
    exact one that rounding it is rounding the exact one.
    """

    name = "nn.div"

    def multipliers(self) -> tuple[Sequence[int], int]:
        lhs, rhs, out = self.scales
        multiplier, shift = fixed_point(lhs / (rhs * out))
        return (int(multiplier),), int(shift)

    def real(self, lhs: Array, rhs: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return lhs / rhs

    def integer(self, lhs: Array, rhs: Array) -> Array:
        (multiplier,), shift = self.multipliers()
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = lhs * (multiplier * 2.0**-shift) / rhs
        return self.rounded(np.where(np.isnan(quotient), 0.0, quotient))

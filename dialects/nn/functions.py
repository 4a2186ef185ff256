"""Further functions of one number: exponentials, roots, powers, and the smooth activations made of them."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from ..core.fields import attribute
from ..core.types import Array
from .activation import SigmoidOp, UnaryOperation


class ExpOp(UnaryOperation):
    """exp(x)."""

    name = "nn.exp"

    @staticmethod
    def formula(x: Array) -> Array:
        """exp(x)."""
        with np.errstate(over="ignore"):
            return np.exp(x)


class LogOp(UnaryOperation):
    """The natural logarithm; NaN below 0, -inf at 0."""

    name = "nn.log"

    @staticmethod
    def formula(x: Array) -> Array:
        """log(x)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(x)


class SqrtOp(UnaryOperation):
    """The square root; NaN below 0."""

    name = "nn.sqrt"

    @staticmethod
    def formula(x: Array) -> Array:
        """sqrt(x)."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(x)


class ReciprocalOp(UnaryOperation):
    """1 / x."""

    name = "nn.reciprocal"

    @staticmethod
    def formula(x: Array) -> Array:
        """1 / x."""
        with np.errstate(divide="ignore"):
            return 1 / x


class PowOp(UnaryOperation):
    """The power x^exponent; NaN for a negative x and an exponent that is no integer."""

    name = "nn.pow"

    exponent = attribute(float)

    @staticmethod
    def formula(x: Array, *, exponent: float) -> Array:
        """The power x^exponent."""
        with np.errstate(all="ignore"):
            return x * x if exponent == 2.0 else np.power(x, x.dtype.type(exponent))


class AbsOp(UnaryOperation):
    """|x|."""

    name = "nn.abs"

    @staticmethod
    def formula(x: Array) -> Array:
        """|x|."""
        return np.abs(x)


class NegOp(UnaryOperation):
    """-x."""

    name = "nn.neg"

    @staticmethod
    def formula(x: Array) -> Array:
        """-x."""
        return -x


class SignOp(UnaryOperation):
    """-1, 0 or 1."""

    name = "nn.sign"

    @staticmethod
    def formula(x: Array) -> Array:
        """The sign of x."""
        return np.sign(x)


class FloorOp(UnaryOperation):
    """The largest integer that is not above x."""

    name = "nn.floor"

    @staticmethod
    def formula(x: Array) -> Array:
        """floor(x)."""
        return np.floor(x)


class CeilOp(UnaryOperation):
    """The smallest integer that is not below x."""

    name = "nn.ceil"

    @staticmethod
    def formula(x: Array) -> Array:
        """ceil(x)."""
        return np.ceil(x)


class RoundOp(UnaryOperation):
    """The nearest integer, ties to even."""

    name = "nn.round"

    @staticmethod
    def formula(x: Array) -> Array:
        """rint(x)."""
        return np.rint(x)


class IsNanOp(UnaryOperation):
    """1 where x is NaN, else 0: no integer is."""

    name = "nn.is_nan"

    @staticmethod
    def formula(x: Array) -> Array:
        """isnan(x)."""
        return np.isnan(x).astype(x.dtype)


class SinOp(UnaryOperation):
    """The sine of x in radians."""

    name = "nn.sin"

    @staticmethod
    def formula(x: Array) -> Array:
        """sin(x)."""
        return np.sin(x)


class CosOp(UnaryOperation):
    """The cosine of x in radians."""

    name = "nn.cos"

    @staticmethod
    def formula(x: Array) -> Array:
        """cos(x)."""
        return np.cos(x)


class ErfOp(UnaryOperation):
    """The error function 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x."""

    name = "nn.erf"

    @staticmethod
    def formula(x: Array) -> Array:
        """erf(x)."""
        return error_function(x)


class GeluOp(UnaryOperation):
    """x / 2 * (1 + erf(x / sqrt(2))), or with `tanh` x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    Both are from Hendrycks and Gimpel 2016.
    """

    name = "nn.gelu"

    tanh = attribute(bool, default=False)

    @staticmethod
    def formula(x: Array, *, tanh: bool) -> Array:
        """X / 2 * (1 + erf(x / sqrt(2))), or its approximation by tanh."""
        if tanh:
            return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))
        return x / 2 * (1 + error_function(x * math.sqrt(0.5)))


class SiluOp(UnaryOperation):
    """x * sigmoid(alpha * x); with alpha = 1 the function that is called swish or silu."""

    name = "nn.silu"

    alpha = attribute(float, default=1.0)

    @staticmethod
    def formula(x: Array, *, alpha: float) -> Array:
        """The product x * sigmoid(alpha * x)."""
        return x * SigmoidOp.formula(x * alpha)


class SoftplusOp(UnaryOperation):
    """log(1 + exp(x)), without overflow."""

    name = "nn.softplus"

    @staticmethod
    def formula(x: Array) -> Array:
        """log(1 + exp(x))."""
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


class MishOp(UnaryOperation):
    """x * tanh(softplus(x))."""

    name = "nn.mish"

    @staticmethod
    def formula(x: Array) -> Array:
        """The product x * tanh(log(1 + exp(x)))."""
        return x * np.tanh(SoftplusOp.formula(x))


class EluOp(UnaryOperation):
    """x for x > 0, alpha * (exp(x / width) - 1) below; ELU has width 1, CELU width alpha. All is scaled by `scale`."""

    name = "nn.elu"

    alpha = attribute(float, default=1.0)
    width = attribute(float, default=1.0)
    scale = attribute(float, default=1.0)

    @staticmethod
    def formula(x: Array, *, alpha: float, width: float, scale: float) -> Array:
        """Scale * (x for x > 0, alpha * (exp(x / width) - 1) below)."""
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / width))


class SoftsignOp(UnaryOperation):
    """x / (1 + |x|)."""

    name = "nn.softsign"

    @staticmethod
    def formula(x: Array) -> Array:
        """X / (1 + |x|)."""
        return x / (1 + np.abs(x))


_STEP = 1 / 128
"""The distance of the points that `error_function` is expanded around."""
_LIMIT = 6.0
"""erf(6) is 1 in float64."""


@cache
def _expansions() -> Array:
    """Taylor coefficients of erf of order 0 to 4 around the points i * _STEP, float64 [points, 5].

    Its derivatives are 2 / sqrt(pi) * exp(-x^2) times 1, -2x, 4x^2 - 2, -8x^3 + 12x (Hermite polynomials).
    """
    points = np.arange(round(_LIMIT / _STEP) + 1) * _STEP
    slope = 2 / math.sqrt(math.pi) * np.exp(-points * points)
    value = np.array([math.erf(float(x)) for x in points])
    third, fourth = (4 * points**2 - 2) / 6, (-8 * points**3 + 12 * points) / 24
    return np.stack([value, slope, -points * slope, third * slope, fourth * slope], axis=-1)


def error_function(x: Array) -> Array:
    """erf(x) in the type of `x`, by its Taylor series of order 4 around the nearest of 769 points; NaN of NaN.

    The remainder is below (1/256)^5 * max|erf^(5)| / 120 < 3e-13.
    """
    near = np.minimum(np.abs(x.astype(np.float64, copy=False)), _LIMIT)
    index = np.rint(np.where(np.isnan(near), 0.0, near) / _STEP).astype(np.intp)
    distance = near - index * _STEP
    terms = _expansions()[index]
    total = terms[..., 4]
    for order in (3, 2, 1, 0):
        total = total * distance + terms[..., order]
    return np.copysign(total, x).astype(x.dtype, copy=False)


FUNCTIONS: tuple[type[UnaryOperation], ...] = (
    ExpOp,
    LogOp,
    SqrtOp,
    ReciprocalOp,
    PowOp,
    AbsOp,
    NegOp,
    SignOp,
    FloorOp,
    CeilOp,
    RoundOp,
    IsNanOp,
    SinOp,
    CosOp,
    ErfOp,
    GeluOp,
    SiluOp,
    SoftplusOp,
    MishOp,
    EluOp,
    SoftsignOp,
)
"""The operations of this file."""

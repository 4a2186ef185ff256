"""Trigonometric and hyperbolic functions and their inverses, but for sine, cosine and hyperbolic tangent."""

from __future__ import annotations

import numpy as np

from ..core.types import Array
from .activation import UnaryOperation


class TanOp(UnaryOperation):
    """The tangent of x in radians."""

    name = "nn.tan"

    @staticmethod
    def formula(x: Array) -> Array:
        """tan(x)."""
        with np.errstate(all="ignore"):
            return np.tan(x)


class AsinOp(UnaryOperation):
    """The angle in radians whose sine is x; NaN beyond -1 to 1."""

    name = "nn.asin"

    @staticmethod
    def formula(x: Array) -> Array:
        """asin(x)."""
        with np.errstate(all="ignore"):
            return np.arcsin(x)


class AcosOp(UnaryOperation):
    """The angle in radians whose cosine is x; NaN beyond -1 to 1."""

    name = "nn.acos"

    @staticmethod
    def formula(x: Array) -> Array:
        """acos(x)."""
        with np.errstate(all="ignore"):
            return np.arccos(x)


class AtanOp(UnaryOperation):
    """The angle in radians whose tangent is x."""

    name = "nn.atan"

    @staticmethod
    def formula(x: Array) -> Array:
        """atan(x)."""
        with np.errstate(all="ignore"):
            return np.arctan(x)


class SinhOp(UnaryOperation):
    """The hyperbolic sine."""

    name = "nn.sinh"

    @staticmethod
    def formula(x: Array) -> Array:
        """sinh(x)."""
        with np.errstate(all="ignore"):
            return np.sinh(x)


class CoshOp(UnaryOperation):
    """The hyperbolic cosine."""

    name = "nn.cosh"

    @staticmethod
    def formula(x: Array) -> Array:
        """cosh(x)."""
        with np.errstate(all="ignore"):
            return np.cosh(x)


class AsinhOp(UnaryOperation):
    """The number whose hyperbolic sine is x."""

    name = "nn.asinh"

    @staticmethod
    def formula(x: Array) -> Array:
        """asinh(x)."""
        with np.errstate(all="ignore"):
            return np.arcsinh(x)


class AcoshOp(UnaryOperation):
    """The number whose hyperbolic cosine is x; NaN below 1."""

    name = "nn.acosh"

    @staticmethod
    def formula(x: Array) -> Array:
        """acosh(x)."""
        with np.errstate(all="ignore"):
            return np.arccosh(x)


class AtanhOp(UnaryOperation):
    """The number whose hyperbolic tangent is x; NaN beyond -1 to 1, infinite there."""

    name = "nn.atanh"

    @staticmethod
    def formula(x: Array) -> Array:
        """atanh(x)."""
        with np.errstate(all="ignore"):
            return np.arctanh(x)


TRIGONOMETRY: tuple[type[UnaryOperation], ...] = (
    TanOp,
    AsinOp,
    AcosOp,
    AtanOp,
    SinhOp,
    CoshOp,
    AsinhOp,
    AcoshOp,
    AtanhOp,
)
"""The operations of this family."""

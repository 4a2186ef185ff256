"""Comparisons with a number: 1 where it holds, else 0. Truth values are such numbers, from here to the host."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute
from ..core.types import Array
from .activation import UnaryOperation


class Comparison(UnaryOperation):
    """1 where the data stands so to `value`, else 0; a NaN compares as in IEEE 754."""

    value = attribute(float)


class GreaterOp(Comparison):
    """1 for x > value, else 0."""

    name = "nn.greater"

    @staticmethod
    def formula(x: Array, *, value: float) -> Array:
        """The truth of x > value."""
        return (x > value).astype(x.dtype)


class GreaterOrEqualOp(Comparison):
    """1 for x >= value, else 0."""

    name = "nn.greater_or_equal"

    @staticmethod
    def formula(x: Array, *, value: float) -> Array:
        """The truth of x >= value."""
        return (x >= value).astype(x.dtype)


class LessOp(Comparison):
    """1 for x < value, else 0."""

    name = "nn.less"

    @staticmethod
    def formula(x: Array, *, value: float) -> Array:
        """The truth of x < value."""
        return (x < value).astype(x.dtype)


class LessOrEqualOp(Comparison):
    """1 for x <= value, else 0."""

    name = "nn.less_or_equal"

    @staticmethod
    def formula(x: Array, *, value: float) -> Array:
        """The truth of x <= value."""
        return (x <= value).astype(x.dtype)


class EqualOp(Comparison):
    """1 for |x - value| <= within, else 0: whole numbers that are not stored exactly are equal `within` 0.4."""

    name = "nn.equal"

    within = attribute(float, default=0.0)

    @staticmethod
    def formula(x: Array, *, value: float, within: float) -> Array:
        """The truth of |x - value| <= within."""
        return (np.abs(x - value) <= within).astype(x.dtype)


class NotEqualOp(Comparison):
    """0 for |x - value| <= within, else 1."""

    name = "nn.not_equal"

    within = attribute(float, default=0.0)

    @staticmethod
    def formula(x: Array, *, value: float, within: float) -> Array:
        """Not |x - value| <= within."""
        return (~(np.abs(x - value) <= within)).astype(x.dtype)


COMPARISONS: tuple[type[Comparison], ...] = (
    GreaterOp,
    GreaterOrEqualOp,
    LessOp,
    LessOrEqualOp,
    EqualOp,
    NotEqualOp,
)
"""The operations of this family."""

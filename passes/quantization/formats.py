"""Which integers a network computes in: the storage of activations and weights, and the sums of their products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.types import I8, I16, I32, I64, Array, ScalarType
from ...dialects.quant.types import QuantizedType


@dataclass(frozen=True, slots=True)
class Format:
    """The integers of a product: activations times weights into accumulators of `accumulator_bits`."""

    activation: ScalarType
    weight: ScalarType
    accumulator_bits: int

    @property
    def weight_limit(self) -> int:
        """Weights are in [-weight_limit, weight_limit]: symmetric, so that no product needs the smallest integer."""
        return int(np.iinfo(self.weight.dtype).max)

    @property
    def activation_span(self) -> int:
        """|x| + |zero point| is at most this, hence bounds what a weight w adds to a partial sum: span * |w|."""
        return 1 << (8 if self.activation == I8 else 15)

    @property
    def accumulator_limit(self) -> int:
        """The largest sum."""
        return 2 ** (self.accumulator_bits - 1) - 1

    def largest(self, weights: Array, bias: Array) -> Array:
        """The magnitude [C] that no partial sum with stored `weights` [..., C] and `bias` [C] exceeds."""
        magnitudes = np.abs(weights.astype(np.int32))  # the smallest int8 and int16 have no magnitude of their own
        sums = magnitudes.reshape(-1, weights.shape[-1]).sum(axis=0, dtype=np.int64)
        return self.activation_span * sums + np.abs(bias)

    @property
    def bias_dtype(self) -> np.dtype[Any]:
        """What a bias is stored as: the element type of the sums."""
        return (I32 if self.accumulator_bits == 32 else I64).dtype


INT8 = Format(I8, I8, 32)
FORMATS = {"int8": INT8, "int16": Format(I16, I16, 48), "int16x8": Format(I16, I8, 48), "mixed": INT8}
"""By the name of a precision; mixed is int8 but for the layers that are promoted to int16.

8-bit weights halve the time of the array; their rounding is then what costs accuracy.
"""


def format_of(data: QuantizedType, weights: ScalarType) -> Format:
    """The integers of a product of activations of this type and stored weights."""
    return next(format for format in FORMATS.values() if (format.activation, format.weight) == (data.storage, weights))

"""A factor and an offset per channel, x * f + b, in integers: the offset decides which one stands for the factor."""

from __future__ import annotations

import numpy as np

from ...dialects.core.types import Array
from .formats import INT8, Format
from .weights import QuantizedWeights, quantize_weights

SMALLEST_FACTOR = INT8.weight_limit // 2 + 1
"""Factors take half of the weights' range: each bit less costs an offset that is rounded twice as coarsely."""


def quantize_factors(weight: Array, bias: Array, input_scale: float, format: Format = INT8) -> QuantizedWeights:
    """Quantize weights [1, .., 1, C] with one weight a channel, and the bias [C]; see `quantize_weights`.

    Any integer w stands for its factor f exactly, at the scale |f| / w. So w is the one from 64 to 127 for which
    b * w / (input scale * |f|) is nearest to an integer, relative to w. With w = 127 the offset is up to 1/254 of an
    input step times f off, so 14 times less in the mean (measured, uniform offsets). Channels with f = 0, or whose
    offset would not fit, are left to `quantize_weights`; so are 16-bit
    activations, whose offsets are rounded to steps that do not matter.
    """
    plain = quantize_weights(weight, bias, input_scale, format)
    if format != INT8:
        return plain
    assert plain.bias is not None
    factor, offset = weight.reshape(-1).astype(np.float64), bias.astype(np.float64)
    unit = input_scale * np.abs(factor)
    candidates = np.arange(INT8.weight_limit, SMALLEST_FACTOR - 1, -1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exact = candidates * (offset / unit)
        chosen = np.argmin(np.abs(exact - np.rint(exact)) / candidates, axis=0)
    best = candidates[chosen, 0]
    stored = np.rint(np.take_along_axis(exact, chosen[None], axis=0)[0])
    fits = (
        np.abs(stored) + INT8.activation_span * INT8.weight_limit < INT8.accumulator_limit
    )  # False for NaN and infinity
    integers = np.where(fits, np.sign(factor) * best, plain.weight.reshape(-1)).astype(np.int8)
    return QuantizedWeights(
        integers.reshape(weight.shape),
        np.where(fits, stored, plain.bias).astype(np.int32),
        np.where(fits, unit / best, plain.accumulator_scales),
        plain.raised,
    )

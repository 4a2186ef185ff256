"""Weights to int8 with one symmetric scale per output channel, biases to int32, and the floor that keeps both safe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.core.types import Array

WEIGHT_LIMIT = 127
"""Weights are in [-127, 127]: symmetric, so that no product needs the value -128 * -128."""

ACCUMULATOR_LIMIT = 2**31 - 1
ACTIVATION_SPAN = 256
"""|x| + |zero point| of int8 data is at most this, hence bounds what a weight w adds to any partial sum: 256 * |w|."""

ZERO_CHANNEL_BIAS = 2**20
"""The stored bias of a channel without weights: fine enough for any result type."""


@dataclass(frozen=True, slots=True)
class QuantizedWeights:
    """Integers and what they stand for: weight ~= stored * scales, bias ~= stored bias * accumulator_scales.

    `weight` is int8 in the shape given; `bias` int32 [C] or None; `accumulator_scales` = input scale * weight scale is
    float64 [C]; `raised` counts the channels whose scale the bias floor raised.
    """

    weight: Array
    bias: Array | None
    accumulator_scales: Array
    raised: int


def quantize_weights(weight: Array, bias: Array | None, input_scale: float) -> QuantizedWeights:
    """Quantize float weights [..., C] whose last axis is the output channel, and their bias [C].

    The scale of channel c is max |w| / 127, raised where needed so that every partial sum of
    (x - zero point) * w + b stays within int32 for any int8 x, with the zero point folded into the bias or not:
    |b| + 256 * sum |w| < 2^31 (the floor of the numeric contract). Raised weights lose resolution, and are negligible
    beside the bias that raised them. ValueError if a weight or bias is NaN or infinite.
    """
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        raise ValueError("the weights or the bias hold NaN or infinity")
    channels = weight.shape[-1]
    rows = weight.reshape(-1, channels).astype(np.float64)
    offsets = np.zeros(channels) if bias is None else np.abs(bias.astype(np.float64))
    scales = np.abs(rows).max(axis=0, initial=0.0) / WEIGHT_LIMIT
    floor = accumulator_floor(np.abs(rows).sum(axis=0), len(rows), offsets / input_scale)
    raised = int(np.count_nonzero((floor > scales) & (scales > 0.0)))
    empty = scales == 0.0
    scales = np.maximum(scales, floor)
    stand_in = np.where(offsets > 0.0, offsets / (input_scale * ZERO_CHANNEL_BIAS), 1.0)
    scales = np.where(empty, stand_in, scales)
    stored = np.clip(np.rint(rows / scales), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
    accumulator_scales = input_scale * scales
    stored_bias = None if bias is None else np.rint(bias.astype(np.float64) / accumulator_scales).astype(np.int32)
    return QuantizedWeights(stored.reshape(weight.shape), stored_bias, accumulator_scales, raised)


def accumulator_floor(weight_sums: Array, length: int, bias_ratio: Array) -> Array:
    """The smallest weight scale per channel for which |b| + 256 * sum |w| stays below 2^31.

    `weight_sums` = sum of |w| (real), `length` = weights a channel, `bias_ratio` = |bias| / input scale. With scale s
    the integers obey sum |w| <= weight_sums / s + length / 2 and |b| <= bias_ratio / s + 1 / 2.
    """
    room = ACCUMULATOR_LIMIT - 1 - ACTIVATION_SPAN * length / 2
    if room <= 0:
        raise ValueError(f"{length} weights a channel may overflow a 32-bit accumulator whatever their scale")
    return (ACTIVATION_SPAN * weight_sums + bias_ratio) / room

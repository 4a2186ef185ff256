"""Weights to integers with one symmetric scale per output channel, biases, and the floor that keeps both safe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...dialects.core.types import Array
from .formats import INT8, Format

ZERO_CHANNEL_BIAS = 2**20
"""The stored bias of a channel without weights: fine enough for any result type."""

_CHUNK = 1 << 14
"""Weights that are divided at once, so that their float64 quotients stay in the cache."""


@dataclass(frozen=True)
class QuantizedWeights:
    """Integers and what they stand for: weight ~= stored * scales, bias ~= stored bias * accumulator_scales.

    `weight` is stored as the format says in the shape given, `bias` as its sums are ([C] or None); `accumulator_scales`
    = input scale * weight scale is float64 [C]; `raised` counts the channels whose scale the bias floor raised.
    """

    weight: Array
    bias: Array | None
    accumulator_scales: Array
    raised: int
    format: Format = INT8

    @cached_property
    def largest(self) -> int:
        """No sum with the bias exceeds this magnitude."""
        bias = np.zeros(1, np.int64) if self.bias is None else self.bias.astype(np.int64)
        return int(self.format.largest(self.weight, bias).max(initial=0))


def quantize_weights(weight: Array, bias: Array | None, input_scale: float, format: Format = INT8) -> QuantizedWeights:
    """Quantize float weights [..., C] whose last axis is the output channel, and their bias [C].

    The scale of channel c is max |w| / 127 (32767 for int16), raised where needed so that every partial sum of (x -
    zero point) * w + b stays within the accumulator for any x, with the zero point folded into the bias or not: |b| +
    256 * sum |w| < 2^31 for int8 (the floor of the numeric contract). Raised weights lose resolution, and are
    negligible beside the bias that raised them. ValueError if a weight or bias is NaN or infinite.
    """
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        raise ValueError("the weights or the bias hold NaN or infinity")
    channels = weight.shape[-1]
    rows = weight.reshape(-1, channels)
    magnitudes = np.abs(rows)
    offsets = np.zeros(channels) if bias is None else np.abs(bias.astype(np.float64))
    scales = magnitudes.max(axis=0, initial=0.0).astype(np.float64) / format.weight_limit
    sums = magnitudes.sum(axis=0, dtype=np.float64)
    floor = accumulator_floor(sums, len(rows), offsets / input_scale, format)
    raised = int(np.count_nonzero((floor > scales) & (scales > 0.0)))
    empty = scales == 0.0
    scales = np.maximum(scales, floor)
    stand_in = np.where(offsets > 0.0, offsets / (input_scale * ZERO_CHANNEL_BIAS), 1.0)
    scales = np.where(empty, stand_in, scales)
    stored = np.empty(rows.shape, format.weight.dtype)
    step = max(1, _CHUNK // max(1, channels))
    for first in range(0, len(rows), step):
        part = rows[first : first + step] / scales
        stored[first : first + step] = np.clip(np.rint(part, out=part), -format.weight_limit, format.weight_limit)
    accumulator_scales = input_scale * scales
    stored_bias = np.zeros(channels) if bias is None else np.rint(bias.astype(np.float64) / accumulator_scales)
    return QuantizedWeights(
        stored.reshape(weight.shape),
        None if bias is None else stored_bias.astype(format.bias_dtype),
        accumulator_scales,
        raised,
        format,
    )


def accumulator_floor(weight_sums: Array, length: int, bias_ratio: Array, format: Format = INT8) -> Array:
    """The smallest weight scale per channel for which |b| + span * sum |w| stays below the accumulator's limit.

    `weight_sums` = sum of |w| (real), `length` = weights a channel, `bias_ratio` = |bias| / input scale. With scale s
    the integers obey sum |w| <= weight_sums / s + length / 2 and |b| <= bias_ratio / s + 1 / 2.
    """
    room = format.accumulator_limit - 1 - format.activation_span * length / 2
    if room <= 0:
        bits = format.accumulator_bits
        raise ValueError(f"{length} weights a channel may overflow a {bits}-bit accumulator whatever their scale")
    return (format.activation_span * weight_sums + bias_ratio) / room

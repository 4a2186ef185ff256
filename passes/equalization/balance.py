"""The factor of every class of channels: half of the imbalance goes to the activations, half to the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Value
from ...dialects.core.types import Array
from ..quantization.grouping import TypeGroups
from .classes import FIXED, ChannelClasses, channel_factors

HEADROOM = 2.0
"""A channel counts as clear of a clamp if it reached at most 1 / HEADROOM of the bound on the calibration samples, and
its factor keeps it so: inputs that are twice as large still pass unclamped."""

LARGEST_FACTOR = 2.0**16
"""Factors are within [1 / LARGEST_FACTOR, LARGEST_FACTOR]: scaled float weights stay normal numbers."""

ROUNDS = 4
"""How often weights are measured under the factors found so far: each channel's largest weight depends on them."""


def balance(
    classes: ChannelClasses, groups: TypeGroups, lows: Mapping[Value[Any], Array], highs: Mapping[Value[Any], Array]
) -> Array:
    """The factor s of every class, float64 [classes]: activations become x / s, weights that read them w * s.

    `lows` and `highs` are the extremes [channels] of every value over the calibration samples. With a the largest
    magnitude of a channel relative to its tensor (values of one quantized type are one tensor), and w the largest
    weight that reads it relative to the largest weight of the same output, s = sqrt(a / w) makes both sqrt(a w): the
    rule of Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), with measured
    activations in place of the weights before them. A channel that only depthwise convolutions read, whose weights have
    a scale of their own, gets s = a. Where a class has several members, logarithms are averaged.
    """
    activations = _log_activations(classes, groups, lows, highs)
    factors = np.zeros(classes.count)
    low, high = _limits(classes, lows, highs)
    bound = np.log(LARGEST_FACTOR)
    low, high = np.maximum(low, -bound), np.minimum(high, bound)
    for _ in range(ROUNDS):
        weights, read = _log_weights(classes, np.exp(factors))
        factors = np.where(read, (activations - weights) / 2, activations)
        factors = np.clip(factors, low, np.maximum(low, high))
        factors[FIXED] = 0.0
    return np.exp(factors)


def _log_activations(
    classes: ChannelClasses, groups: TypeGroups, lows: Mapping[Value[Any], Array], highs: Mapping[Value[Any], Array]
) -> Array:
    """The mean over the members of a class of log(magnitude of the channel / magnitude of its tensor); 0 if unknown."""
    magnitudes = {value: np.maximum(np.abs(lows[value]), np.abs(highs[value])) for value in lows}
    largest: dict[Value[Any], float] = {}
    for value, array in magnitudes.items():
        root = groups.group(value)
        largest[root] = max(largest.get(root, 0.0), float(array.max(initial=0.0)))
    total, count = np.zeros(classes.count), np.zeros(classes.count)
    for value, array in magnitudes.items():
        # A channel that was never seen alive may be as large as any.
        alive = array > 0.0
        labels = classes.of(value)[alive]
        np.add.at(total, labels, np.log(array[alive] / largest[groups.group(value)]))
        np.add.at(count, labels, 1.0)
    return total / np.maximum(count, 1.0)


def _log_weights(classes: ChannelClasses, factors: Array) -> tuple[Array, Array]:
    """(log of the largest relative weight that reads a class, averaged over readers; which classes are read so)."""
    total, count = np.zeros(classes.count), np.zeros(classes.count)
    for op in classes.layers:
        weight = op.operands[1]
        inputs = weight.type.shape[-2]
        if inputs == 1:
            continue
        labels = classes.of(op.operands[0])
        assert isinstance(weight, Constant)
        magnitudes = np.abs(weight.array) * channel_factors(op, factors[labels])
        taps = magnitudes.reshape(-1, *magnitudes.shape[-2:]).max(axis=0)
        columns = taps.max(axis=0)
        relative = taps / np.where(columns > 0.0, columns, 1.0)
        groups = len(labels) // inputs
        strongest = relative.reshape(inputs, groups, -1).max(axis=-1).T.reshape(-1) / factors[labels]
        alive = strongest > 0.0
        np.add.at(total, labels[alive], np.log(strongest[alive]))
        np.add.at(count, labels[alive], 1.0)
    return total / np.maximum(count, 1.0), count > 0


def _limits(
    classes: ChannelClasses, lows: Mapping[Value[Any], Array], highs: Mapping[Value[Any], Array]
) -> tuple[Array, Array]:
    """The least and the largest logarithm of a factor that keeps every class clear of the clamps it passes.

    A class that a clamp touches, or nearly touches, keeps its scale.
    """
    low, high = np.full(classes.count, -np.inf), np.full(classes.count, np.inf)
    for value, smallest, largest in classes.bounds:
        reach = np.zeros(len(highs[value]))
        for extreme, bound in ((-lows[value], -smallest), (highs[value], largest)):
            if np.isfinite(bound) and bound != 0.0:
                # A bound on the wrong side of 0 cuts every channel.
                reach = np.maximum(reach, HEADROOM * extreme / bound if bound > 0.0 else np.inf)
        labels = classes.of(value)
        np.maximum.at(low, labels, np.log(np.maximum(reach, 1 / LARGEST_FACTOR)))
        touched = labels[reach > 1.0]
        low[touched] = np.maximum(low[touched], 0.0)
        high[touched] = 0.0
    low[high == 0.0] = 0.0
    return low, high

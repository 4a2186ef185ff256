"""The pass `correct-bias`: what integers compute on average becomes what the float network computes on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dialects.core.operation import Constant, Module
from ..dialects.core.types import Array, scalar_type
from ..dialects.quant.types import quantized_element
from .quantization.formats import format_of
from .quantization.lockstep import Layer, Visit, accumulator_scales, requantization
from .quantization.refinement import LayerRefinement

STEPS = 3
"""Of Newton's method for the mean of cut errors behind a clamp, which is piecewise linear in the shift."""

LARGEST_ERROR = 4.0
"""A single error counts as at most so many times the average magnitude: what a range has cut off is far larger than
that and rare, and no shift of all results makes up for it."""

FEWEST_PASSING = 1 / 16
"""A channel counts as let through at least this often: a few results say little about the others."""


@dataclass(frozen=True)
class CorrectBias(LayerRefinement):
    """Move the bias of every integer convolution and product by its average error on the calibration samples.

    From front to back, on executed integers: each layer reads what the corrected layers before it compute, and its
    accumulators are compared with the float network, behind the clamp where one follows. Errors far above the average
    count as smaller ones: what a range cuts off is no reason to shift everything else. After Nagel et al., "Data-Free
    Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2, with measured averages.

    Runs behind insert-quantization in one pipeline. With `check` all corrections are taken back unless the network
    comes closer to the float network on held-back samples. `samples` limits how many others the averages come from.
    Without calibration data nothing happens, unless `noise` is set: then the noise that insert-quantization made up
    counts.
    """

    name: ClassVar[str] = "correct-bias"
    refines: ClassVar[bool] = True

    title: ClassVar[str] = "correcting biases"

    def change(self, module: Module, visit: Visit, fitted: int) -> int:
        return _correct(module, visit)

    def summary(self, channels: int, layers: str) -> str:
        return f"corrected the bias of {layers}"


def _correct(module: Module, visit: Visit) -> int:
    """Replace the bias of one layer: every channel's whose average error is half a step of its accumulator or more."""
    layer = visit.layer
    weight, bias = layer.operands[1], layer.bias
    assert isinstance(weight, Constant) and (bias is None or isinstance(bias, Constant))
    scales = accumulator_scales(layer)
    old = np.zeros(len(scales), np.int64) if bias is None else bias.array.astype(np.int64)
    new = old + np.rint(_average_error(visit, scales) / scales).astype(np.int64)
    # The floor of the numeric contract: no partial sum leaves the accumulator, nor the 32 bits of the multiplier.
    format = format_of(quantized_element(layer.operands[0].type), scalar_type(weight.array.dtype))
    limit = min(format.accumulator_limit, (2**31 - 1) << requantization(layer).pre_shift)
    new = np.where(format.largest(weight.array, new) < limit, new, old)
    if (new == old).all():
        return 0
    name = str(bias.name) if bias is not None else f"{weight.name}.bias"
    layer.set_operands([*layer.operands[:2], module.add_constant(name, new.astype(format.bias_dtype))])
    return int((new != old).sum())


def _average_error(visit: Visit, scales: Array) -> Array:
    """What to add to the real results, float64 [C], so that their mean behind the clamp is that of the float network.

    Means are over samples and positions, of errors cut at `LARGEST_ERROR`: `STEPS` steps of Newton's method from 0, the
    slope being the share of results that the clamp lets through.
    """
    layer: Layer = visit.layer
    constants = [value.array for value in layer.operands[1:] if isinstance(value, Constant)]
    pairs: list[tuple[Array, Array]] = []
    for data, expected in visit.pairs:
        found = layer.evaluate(data, *constants).reshape(-1, len(scales)) * scales.astype(np.float32)
        pairs.append((visit.source.clamp(expected.reshape(-1, len(scales))), found))
    rows = sum(len(found) for _, found in pairs)
    shift = np.zeros(len(scales))
    for _ in range(STEPS):
        error, passing = np.zeros(len(scales)), np.zeros(len(scales))
        for real, found in pairs:
            moved = found + shift.astype(np.float32)
            clamped = visit.source.clamp(moved)
            off = real - clamped
            reach = LARGEST_ERROR * np.abs(off).mean(axis=0)
            error += np.clip(off, -reach, reach).sum(axis=0, dtype=np.float64)
            passing += (clamped == moved).sum(axis=0)
        shift += error / np.maximum(passing, rows * FEWEST_PASSING)
    return shift

"""The pass `correct-bias`: what integers compute on average becomes what the float network computes on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dialects.core.operation import Constant, Module
from ..dialects.core.types import Array, scalar_type
from ..dialects.quant.types import quantized_element
from .framework.base import Pass, at_least
from .framework.environment import Environment
from .quantization.formats import format_of
from .quantization.lockstep import Layer, Visit, accumulator_scales, requantization, walk, weighted_layers
from .quantization.refinement import Refinement


@dataclass(frozen=True)
class CorrectBias(Pass):
    """Move the bias of every integer convolution and product by its average error on the calibration samples.

    From front to back, on executed integers: each layer reads what the corrected layers before it compute, and its
    accumulators are compared with the float network. Where a clamp follows only results count that it lets through, in
    integers or in float. After Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
    (2019), section 4.2, with measured averages.

    Runs behind insert-quantization in one pipeline. With `check` all corrections are taken back unless the network
    comes closer to the float network on held-back samples. `samples` limits how many others the averages come from.
    Without calibration data nothing happens, unless `noise` is set: then the noise that insert-quantization made up
    counts.
    """

    name: ClassVar[str] = "correct-bias"

    samples: int = at_least(1, 64)
    check: bool = True
    noise: bool = False

    def run(self, module: Module, environment: Environment) -> None:
        refinement = Refinement.begin(self.name, module, environment, noise=self.noise, check=self.check)
        if refinement is None:
            return
        corrected = 0
        with environment.progress("correcting biases", len(weighted_layers(module, environment.baseline))) as advance:
            for visit in walk(module, environment.baseline, refinement.samples(self.samples)):
                corrected += _correct(module, visit)
                advance(1)
        refinement.finish(f"corrected the bias of {corrected} layer{'s' if corrected != 1 else ''}", layers=corrected)


def _correct(module: Module, visit: Visit) -> bool:
    """Replace the bias of one layer; False if the average error is less than half a step of every accumulator."""
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
        return False
    name = str(bias.name) if bias is not None else f"{weight.name}.bias"
    layer.set_operands([*layer.operands[:2], module.add_constant(name, new.astype(format.bias_dtype))])
    return True


def _average_error(visit: Visit, scales: Array) -> Array:
    """The mean over samples and positions of float result - accumulator * scale, float64 [C]."""
    layer: Layer = visit.layer
    constants = [value.array for value in layer.operands[1:] if isinstance(value, Constant)]
    low, high = visit.source.clamp_min, visit.source.clamp_max
    total, count = np.zeros(len(scales)), np.zeros(len(scales))
    for data, expected in visit.pairs:
        real = expected.reshape(-1, len(scales))
        found = layer.evaluate(data, *constants).reshape(-1, len(scales)) * scales.astype(np.float32)
        error = real - found
        if low is not None or high is not None:
            passes = _inside(real, low, high) | _inside(found, low, high)
            error *= passes
            count += passes.sum(axis=0)
        else:
            count += len(real)
        total += error.sum(axis=0, dtype=np.float64)
    return total / np.maximum(count, 1.0)


def _inside(values: Array, low: float | None, high: float | None) -> Array:
    return (values > (-np.inf if low is None else low)) & (values < (np.inf if high is None else high))

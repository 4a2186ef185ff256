"""The pass `round-weights`: weights are rounded so that their errors cancel in the outputs of the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dialects.core.operation import Constant, Module, Operation
from ..dialects.core.types import I8, Array
from ..dialects.nn.convolution import Conv2dOp
from ..dialects.quant.types import quantized_element
from .framework.environment import CalibrationData
from .quantization.formats import format_of
from .quantization.lockstep import Layer, Visit, accumulator_scales, requantization
from .quantization.patches import input_rows
from .quantization.refinement import LayerRefinement, Refinement
from .quantization.rounding import Moments, clip_scales, in_steps, joint_parts, nearest, round_jointly

FEWEST_ROWS = 4096
"""Output positions that a Hessian is estimated from, where there are as many, and half as many judge the result."""

ROWS_PER_WEIGHT = 4
"""And as many positions for every weight of an output: fewer would fit their noise."""

CLEARLY_BETTER = 0.98
"""Another rounding must have at most this share of the squared error on held-back samples to be taken."""


@dataclass(frozen=True)
class RoundWeights(LayerRefinement):
    """Round weights by second-order information, so that the errors of one make up for those of others.

    From front to back, on executed integers: every convolution and product but depthwise ones rounds its weights anew
    (those of 8 bits) for the inputs it really gets, by the nearest plane of their second moments (see `round_jointly`),
    at the scale it has and at the one with the least error (MSE clipping). Each output channel takes what has the least
    squared error on held-back samples, which may be what it had.

    Runs behind insert-quantization in one pipeline. With `check` everything is taken back unless the network comes
    closer to the float network on held-back samples. `samples` limits how many others the moments come from. Without
    calibration data nothing happens, unless `noise` is set: then the noise that insert-quantization made up counts.
    """

    name: ClassVar[str] = "round-weights"
    refines: ClassVar[bool] = True

    title: ClassVar[str] = "rounding weights"

    def seen(self, refinement: Refinement) -> tuple[CalibrationData, int]:
        return refinement.fitted_and_held(self.samples)

    def change(self, module: Module, visit: Visit, fitted: int) -> int:
        return _round(module, visit, fitted)

    def summary(self, channels: int, layers: str) -> str:
        return f"second-order rounding changed {channels} channels in {layers}"


def _round(module: Module, visit: Visit, fitted: int) -> int:
    """Replace weights, bias and scales of one layer; returns how many of its channels have changed."""
    layer, source = visit.layer, visit.source
    weight, real = _array(layer, 1), _array(source, 1)
    if weight.dtype != np.int8 or (layer.is_depthwise if isinstance(layer, Conv2dOp) else weight.ndim > 2):
        return 0  # products of a batch would need moments of their own
    format = format_of(quantized_element(layer.operands[0].type), I8)
    data = np.concatenate([integers for integers, _ in visit.pairs])
    groups, scales = _groups(layer), accumulator_scales(layer)
    step = quantized_element(layer.operands[0].type).scale
    parts = joint_parts(weight[..., 0, 0].size, weight.shape[-2])
    rows = max(FEWEST_ROWS, ROWS_PER_WEIGHT * max(map(len, parts)))
    seen, judged = input_rows(layer, data[:fitted], rows), input_rows(layer, data[fitted:], rows // 2)
    columns, column_scales = _columns(weight, groups).copy(), (scales / step).reshape(groups, -1)
    reals = _columns(real, groups)
    for group in range(groups):
        found = best_rounding(columns[group], column_scales[group], reals[group], seen[group], judged[group], parts)
        columns[group], column_scales[group] = found
    stored = columns.transpose(1, 0, 2).reshape(weight.shape)
    new_scales = column_scales.reshape(-1) * step
    bias = None if source.bias is None else np.rint(_array(source, 2) / new_scales)
    # The floor of the numeric contract: no partial sum leaves the accumulator, nor the 32 bits of the multiplier.
    limit = min(format.accumulator_limit, (2**31 - 1) << requantization(layer).pre_shift)
    fits = format.largest(stored, np.zeros(1) if bias is None else bias) < limit
    changed = fits & (stored != weight).reshape(-1, len(scales)).any(axis=0)
    if not changed.any():
        return 0
    operands = [layer.operands[0], _constant(module, layer, 1, np.where(changed, stored, weight))]
    if bias is not None:
        operands.append(_constant(module, layer, 2, np.where(changed, bias, _array(layer, 2))))
    layer.set_operands(operands)
    narrow = requantization(layer)
    factors = np.where(changed, new_scales / quantized_element(narrow.out.type).scale, _array(narrow, 1))
    narrow.set_operand(1, _constant(module, narrow, 1, factors))
    return int(changed.sum())


def best_rounding(
    stored: Array, scales: Array, reals: Array, seen: Array, judged: Array, parts: Sequence[Array]
) -> tuple[Array, Array]:
    """Integers [K, C] and scales [C] for the weights `reals` of one group.

    `seen` [rows, K] are inputs to fit to, `judged` others that choose for each channel among what is `stored` at
    `scales`, joint rounding at these scales, and nearest and joint rounding at the scales of MSE clipping. Joint is
    what each of `parts` of the K weights is within itself.
    """
    clipped = clip_scales(reals, scales, np.square(seen).mean(axis=0))
    joint, joint_clipped = np.empty_like(reals), np.empty_like(reals)
    for part in parts:
        rows = seen[:, part]
        moments = Moments.of(rows.T @ rows / len(rows))
        joint[part] = round_jointly(in_steps(reals[part], scales), moments)
        joint_clipped[part] = round_jointly(in_steps(reals[part], clipped), moments)
    candidates = [(joint, scales), (nearest(reals / clipped), clipped), (joint_clipped, clipped)]
    best, best_scales = stored.astype(np.float64), scales.copy()
    units = np.ldexp(1.0, np.frexp(scales)[1])  # powers of two: errors are the same, and finite whatever the scales
    least = _squared_error(judged, reals, best * scales, units) * CLEARLY_BETTER
    for integers, tried in candidates:
        error = _squared_error(judged, reals, integers * tried, units)
        better = error < least
        least[better], best_scales[better] = error[better], tried[better]
        best[:, better] = integers[:, better]
    return best, best_scales


def _squared_error(rows: Array, reals: Array, found: Array, units: Array) -> Array:
    """The mean square of the outputs that errors of the weights [K, C] cause, [C], each in its unit."""
    return np.square(rows @ in_steps(reals - found, units).astype(np.float32)).mean(axis=0)


def _columns(weight: Array, groups: int) -> Array:
    """Weights [.., I, O] as float64 [groups, K, O / groups], K as in `input_rows`."""
    outputs = weight.shape[-1]
    return weight.reshape(-1, groups, outputs // groups).transpose(1, 0, 2).astype(np.float64)


def _groups(layer: Layer) -> int:
    return layer.groups if isinstance(layer, Conv2dOp) else 1


def _array(op: Operation, index: int) -> Array:
    constant = op.operands[index]
    assert isinstance(constant, Constant)
    return constant.array


def _constant(module: Module, op: Operation, index: int, array: Array) -> Constant:
    """A constant in the place of operand `index`, with its name and type."""
    old = op.operands[index]
    return module.add_constant(str(old.name), array.astype(_array(op, index).dtype))

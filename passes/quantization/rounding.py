"""Rounding of weights by second-order information: an error made is made up for by the weights not rounded yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.core.types import Array
from .formats import INT8

DAMPING = 0.01
"""Added to the diagonal of a Hessian, in units of its mean: the value of Frantar et al. (2022), section 3.3."""

BLOCK = 64
"""Weights of a column rounded one by one before their errors are passed on in one matrix product."""

LARGEST_JOINT = 1536
"""Weights of an output that are rounded jointly, about: time grows with their third power, memory with their square."""

RATIOS = np.linspace(1.0, 0.75, 11)
"""Scales tried, in units of that which lets the largest weight of a channel just fit."""

CLIPPED_AT_ONCE = 1 << 16
"""Weights whose clipping is searched at once: float32 copies of so many stay in the cache."""

FARTHEST = 2.0**30
"""Steps at which weights are cut: beside so many no rounding matters, and their squares stay finite in float32."""


def in_steps(weights: Array, scales: Array) -> Array:
    """Weights [..., C] in steps of their scales, float64, cut at `FARTHEST`."""
    with np.errstate(over="ignore"):  # what is infinite is cut as well
        return np.clip(weights / scales, -FARTHEST, FARTHEST)


def clip_scales(weights: Array, scales: Array, importance: Array) -> Array:
    """The scale among `RATIOS` * `scales` [C] with the least error of each output channel, float64 [C].

    The error is sum_k importance[k] * (w - scale * clip(rint(w / scale)))^2 for `weights` [K, C], in float32. With the
    mean squares of the inputs as importance it is the error of the outputs if inputs were uncorrelated; with 1 it is
    MSE clipping.
    """
    found = scales.copy()
    weight = importance.astype(np.float32)
    width = max(1, CLIPPED_AT_ONCE // max(len(weights), 1))
    for start in range(0, len(scales), width):
        part = np.s_[start : start + width]
        # In units of the largest scale tried, so that one factor serves all channels of a ratio.
        steps = in_steps(weights[:, part], scales[part]).T.astype(np.float32, order="C")
        best, ratios = np.full(len(steps), np.inf, np.float32), np.ones(len(steps))
        for ratio in RATIOS:
            errors = steps * np.float32(1.0 / ratio)
            np.rint(errors, out=errors)
            np.clip(errors, -INT8.weight_limit, INT8.weight_limit, out=errors)
            errors *= np.float32(ratio)
            errors -= steps
            np.square(errors, out=errors)
            error = errors @ weight
            better = error < best
            best[better], ratios[better] = error[better], ratio
        found[part] = scales[part] * ratios
    return found


def nearest(steps: Array) -> Array:
    """8-bit weights, each rounded by itself."""
    return np.clip(np.rint(steps), -INT8.weight_limit, INT8.weight_limit)


@dataclass(frozen=True)
class Moments:
    """Second moments of inputs, factorized once for every rounding that they weigh.

    With the weights in `order`, H + damping = D R^T R D, R = `factor` unit upper triangular float32 [K, K].
    """

    order: Array
    factor: Array

    @classmethod
    def of(cls, hessian: Array, damping: float = DAMPING) -> Moments:
        """Of a symmetric H [K, K]; `damping`, in units of the mean of its diagonal, is added to the diagonal."""
        order = np.argsort(np.diagonal(hessian), kind="stable")
        ordered = hessian[np.ix_(order, order)].astype(np.float64)
        mean = float(np.diagonal(ordered).mean()) or 1.0
        ordered[np.diag_indices_from(ordered)] += damping * mean
        factor = np.linalg.cholesky(ordered).T
        return cls(order, (factor / np.diagonal(factor)[:, None]).astype(np.float32))


def round_jointly(steps: Array, moments: Moments) -> Array:
    """Integers q [K, C] that make (w - q)^T H (w - q) small for every column w of `steps` [K, C].

    The rounding of Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
    (2022), in the form of Babai's nearest plane: with H = R^T R, R upper triangular, weight i from the last to the
    first is rounded at w_i + sum_{j > i} R_ij / R_ii * (w_j - q_j), where the errors of those behind it are best made
    up for. One Cholesky factor is needed and no inverse. Weights with large H_ii come first, those that can make up for
    much last. Errors of a block are passed on in one product.
    """
    order, factor = moments.order, moments.factor
    wanted = steps[order].astype(np.float32)
    stored, errors = np.empty_like(wanted), np.zeros_like(wanted)
    for stop in range(len(order), 0, -BLOCK):
        start = max(stop - BLOCK, 0)
        block = wanted[start:stop] + factor[start:stop, stop:] @ errors[stop:]
        for row in range(stop - 1, start - 1, -1):
            target = block[row - start] + factor[row, row + 1 : stop] @ errors[row + 1 : stop]
            stored[row] = nearest(target)
            errors[row] = wanted[row] - stored[row]
    result = np.empty_like(stored)
    result[order] = stored
    return result


def joint_parts(taps: int, channels: int) -> list[Array]:
    """The weights [taps * channels] of an output, cut so that at most about `LARGEST_JOINT` are rounded jointly.

    A part holds all taps of some input channels: neighbouring pixels of a channel are more alike than channels.
    """
    places = np.arange(taps * channels).reshape(taps, channels)
    count = min(channels, -(-places.size // LARGEST_JOINT))
    return [part.reshape(-1) for part in np.array_split(places, count, axis=1)]

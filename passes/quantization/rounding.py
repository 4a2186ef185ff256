"""Rounding of weights by second-order information: an error made is made up for by the weights not rounded yet."""

from __future__ import annotations

import numpy as np

from ...dialects.core.types import Array
from .formats import INT8

DAMPING = 0.01
"""Added to the diagonal of a Hessian, in units of its mean: the value of Frantar et al. (2022), section 3.3."""

BLOCK = 64
"""Weights of a column rounded one by one before their errors are passed on in one matrix product."""

RATIOS = np.linspace(1.0, 0.75, 11)
"""Scales tried, in units of that which lets the largest weight of a channel just fit."""


def clip_scales(weights: Array, scales: Array, importance: Array) -> Array:
    """The scale among `RATIOS` * `scales` [C] with the least error of each output channel, float64 [C].

    The error is sum_k importance[k] * (w - scale * clip(rint(w / scale)))^2 for `weights` [K, C]. With the mean
    squares of the inputs as importance it is the error of the outputs if inputs were uncorrelated; with 1 it is MSE
    clipping.
    """
    best, found = np.full(len(scales), np.inf), scales.copy()
    for ratio in RATIOS:
        tried = scales * ratio
        error = importance @ np.square(weights - nearest(weights / tried) * tried)
        better = error < best
        best[better], found[better] = error[better], tried[better]
    return found


def nearest(steps: Array) -> Array:
    """8-bit weights, each rounded by itself."""
    return np.clip(np.rint(steps), -INT8.weight_limit, INT8.weight_limit)


def round_jointly(steps: Array, hessian: Array, damping: float = DAMPING) -> Array:
    """Integers q [K, C] that make (w - q)^T H (w - q) small for every column w of `steps` [K, C]; H [K, K] symmetric.

    The rounding of Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
    (2022), in the form of Babai's nearest plane: with H = R^T R, R upper triangular, weight i from the last to the
    first is rounded at w_i + sum_{j > i} R_ij / R_ii * (w_j - q_j), where the errors of those behind it are best made
    up for. One Cholesky factor is needed and no inverse. Weights with large H_ii come first, those that can make up for
    much last. Errors of a block are passed on in one product.
    """
    order = np.argsort(np.diagonal(hessian), kind="stable")
    ordered = hessian[np.ix_(order, order)].astype(np.float64)
    mean = float(np.diagonal(ordered).mean()) or 1.0
    ordered[np.diag_indices_from(ordered)] += damping * mean
    factor = np.linalg.cholesky(ordered).T
    factor = (factor / np.diagonal(factor)[:, None]).astype(np.float32)
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

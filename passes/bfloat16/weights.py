"""Weights of products to bfloat16, so that the rounding errors of a sum cancel."""

from __future__ import annotations

import numpy as np

from ...dialects.core.types import Array
from ...dialects.quant.bfloat16 import from_ordinals, ordinals, rounded


def balanced(weight: Array) -> Array:
    """Float32 weights [kh, kw, in, out] or [in, out] as bfloat16, each one of the two numbers next to it.

    What a sum reads is not centred around 0 as a rule (behind a ReLU nothing is negative), and neighbouring pixels are
    alike: then the errors of all weights add up where each goes to the nearest number. So the weights of an output are
    taken one after the other and the error of those before is passed on to the next: a weight goes to that neighbour
    which makes up for it best. The taps of an input channel stand together, the largest first, whose errors are the
    largest; a channel with one tap is no more than a weight among all. Weights that are bfloat16 numbers stay. No data
    are needed: it is error diffusion, as of images with few grey levels (Floyd and Steinberg, 1976).
    """
    outputs = weight.shape[-1]
    taps = int(np.prod(weight.shape[:-2]))
    rows = np.moveaxis(weight.reshape(taps, -1, outputs), (0, 2), (2, 0)).astype(np.float64)
    rows = rows.reshape(outputs, 1, -1) if taps == 1 else rows
    order = np.argsort(-np.abs(rows), axis=-1, kind="stable")
    sums = np.take_along_axis(rows, order, -1).reshape(outputs, -1)
    nearest = rounded(sums.astype(np.float32))
    away = np.sign(sums - nearest.astype(np.float64)).astype(np.int16)
    others = from_ordinals(ordinals(nearest) + away)
    chosen, error = np.empty_like(nearest), np.zeros(outputs)
    for index, wanted in enumerate(sums.T):
        target = wanted + error
        near, other = (side[:, index].astype(np.float64) for side in (nearest, others))
        keep = np.abs(target - near) <= np.abs(target - other)
        chosen[:, index] = np.where(keep, nearest[:, index], others[:, index])
        error = target - np.where(keep, near, other)
    result = np.empty(rows.shape, nearest.dtype)
    np.put_along_axis(result, order, chosen.reshape(rows.shape), -1)
    result = result.reshape(outputs, -1, taps)
    return np.ascontiguousarray(np.moveaxis(result, (2, 0), (0, 2)).reshape(weight.shape))

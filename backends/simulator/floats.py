"""Products of bfloat16 on the fast path: sums in the order of the numeric contract, for all pixels at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ...dialects.core.types import Array
from ...dialects.quant.bfloat16 import BLOCK_COLUMNS, add_products, finished, gated_product, with_bias
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.records import unpack_factors
from ...dialects.tile.residual import RequantizeAddOp
from ...dialects.tile.vector import RequantizeOp
from .analysis import Weights
from .memory import Scratch
from .plain import Step, sequence
from .windows import PaddedInput

UNFOLDED = 1 << 21
"""Elements of the unfolded input at a time: 8 MiB."""


def ordered_product(op: MatmulOp, weights: Weights | None, sram: Array, result: Array, scratch: Scratch) -> Step:
    """Bind a matmul of floats to `result` float32 [samples, groups, rows, out_c].

    Weights that are an activation are read from SRAM for each sample.
    """
    if op.diagonal:
        assert weights is not None
        return _diagonal_product(op, weights.matrix[0], sram, result, scratch)
    depth, (span, apart) = op.taps * op.in_c, op.channel_span
    sums = max(1, min(BLOCK_COLUMNS, UNFOLDED // depth))
    height = max(1, min(op.out_h, sums // op.out_w))
    together = max(1, sums // (op.out_h * op.out_w)) if weights is not None else 1
    steps: list[Step] = []
    for first in range(0, len(sram), together):
        chosen = slice(first, min(first + together, len(sram)))
        padded = PaddedInput(op, sram[chosen], span, 0, scratch, np.float32)
        windows = padded.windows(op, op.groups, apart, op.in_c)
        steps.append(padded.fill)
        for group in range(op.groups):
            for top in range(0, op.out_h, height):
                window = windows[:, group, top : top + height]
                rows = slice(top * op.out_w, top * op.out_w + window.shape[1] * op.out_w)
                read = partial(_matrix, op, weights, sram[first], group)
                steps.append(_group_product(op, window, read, result[chosen, group, rows], scratch))
    return sequence(steps)


def _matrix(op: MatmulOp, weights: Weights | None, sram: Array, group: int) -> Array:
    """The weights [depth, out_c] of a group: constant, or what one sample's SRAM holds now."""
    return weights.matrix[group] if weights is not None else op.dense_weights(sram)[group].astype(np.float32)


def _group_product(op: MatmulOp, window: Array, weights: Callable[[], Array], target: Array, scratch: Scratch) -> Step:
    """Bind target[s, row, n] (+)= window[s, h, w, taps and channels] * weights [depth, n]."""
    shape = (*window.shape[3:], *window.shape[:3])
    unfolded = scratch.take("unfolded", shape)
    data = unfolded.reshape(op.taps * op.in_c, -1)
    total = scratch.take("ordered sums", (op.out_c, data.shape[1]))

    def run() -> None:
        np.copyto(unfolded, window.transpose(3, 4, 5, 0, 1, 2))
        if op.accumulate:
            np.copyto(total.T.reshape(target.shape), target)
        else:
            total.fill(0.0)
        add_products(total, data, weights())
        np.copyto(target, total.T.reshape(target.shape))

    return run


def _diagonal_product(op: MatmulOp, factors: Array, sram: Array, result: Array, scratch: Scratch) -> Step:
    """Bind a depthwise product, tap by tap."""
    image = result.reshape(len(sram), op.out_h, op.out_w, op.out_c)
    padded = PaddedInput(op, sram, op.out_c, 0, scratch, np.float32)
    taps = padded.taps(op, op.out_c)

    def run() -> None:
        padded.fill()
        if not op.accumulate:
            image.fill(0.0)
        with np.errstate(all="ignore"):
            for tap, factor in zip(taps, factors, strict=True):
                np.add(image, gated_product(tap, factor), out=image)

    return run


def drain_step(op: RequantizeOp, parameters: Array, sums: Array, sram: Array) -> Step:
    """Bind the rounding of float32 sums [samples, groups, h, w, c] by known records, and the residual of a sum."""
    shape = (op.groups, 1, 1, op.out_c)
    bias, factor = (each.reshape(shape) for each in unpack_factors(parameters, 0, op.groups * op.out_c))
    out = op.grouped_output_view(sram)
    residual = op.residual_view(sram) if isinstance(op, RequantizeAddOp) else None

    def run() -> None:
        numbers = with_bias(sums, factor, bias, op.low, op.high)
        if residual is not None and isinstance(op, RequantizeAddOp):
            with np.errstate(all="ignore"):
                total = numbers.astype(np.float32) + residual.astype(np.float32)
            numbers = finished(total, op.sum_low, op.sum_high)
        out[...] = numbers

    return run

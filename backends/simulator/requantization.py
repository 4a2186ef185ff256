"""Requantization of the fast path: sums times known multipliers, rounded once, with or without a residual behind it."""

from __future__ import annotations

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.pooling import DepthwiseOp
from ...dialects.tile.records import unpack_requantization
from ...dialects.tile.residual import RequantizeAddOp
from ...dialects.tile.vector import RequantizeOp
from .elementwise import sum_step
from .kernels import residual_kernel
from .memory import Scratch
from .plain import Step, sequence
from .rounding import full_rank, rounding_step

Wide = tuple[Array, int]


def requantization(
    op: RequantizeOp | DepthwiseOp,
    parameters: Array,
    total: Array,
    out: Array,
    shape: tuple[int, ...],
    scratch: Scratch,
) -> Step:
    """Bind the rounding of sums by known records, one for each element of `shape`, which broadcasts against them."""
    factor, offset, wide = _scales(op, parameters, shape)
    return rounding_step(total, out, factor, offset, (op.zero_point, op.low, op.high), scratch, wide)


def residual_requantization(
    op: RequantizeAddOp, parameters: Array, image: Array, sram: Array, out: Array, scratch: Scratch
) -> Step:
    """Bind a requantization of `image` [samples, 1, h, w, c] and the sum of its result with the residual."""
    scale = 2.0**-op.sum_shift
    first, second = op.own_multiplier * scale, op.residual_multiplier * scale
    addend = -(op.zero_point * first + op.residual_zero * second)
    clip, last = (op.zero_point, op.low, op.high), (op.sum_zero, op.sum_low, op.sum_high)
    residual = op.residual_view(sram)
    factor, offset, wide = _scales(op, parameters, (1, 1, 1, op.out_c))
    if scratch.compiled and wide is None:
        scales, starts = full_rank(factor, image.ndim), full_rank(offset, image.ndim)
        kernel = residual_kernel(image, out, scales, starts, clip, residual, (first, second, addend, last))
        if kernel is not None:
            return kernel
    own = scratch.take("requantized", out.shape, np.int8)
    requantize = rounding_step(image, own, factor, offset, clip, scratch, wide)
    return sequence([requantize, sum_step((own, first), (residual, second), addend, out, last, scratch)])


def _scales(
    op: RequantizeOp | DepthwiseOp, parameters: Array, shape: tuple[int, ...]
) -> tuple[Array, Array, Wide | None]:
    """(factor, offset, bias and pre-shift of wide sums) for `Rounding`.

    Sums of 8-bit products times a multiplier are exact as they are, and so is the bias times it; wider ones pass the
    pre-shift first.
    """
    size = op.record_bytes
    bias, multiplier, shift = unpack_requantization(parameters, 0, parameters.size // size, size)
    factor: Array = np.ldexp(multiplier.astype(np.float64), -shift.astype(np.int32)).reshape(shape)
    bias = bias.reshape(shape)
    return (factor, factor * bias, None) if size == 8 else (factor, np.zeros(shape), (bias, op.pre_shift))

"""Pooling of the fast path: windows reduced along columns, then along rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.pooling import AveragePoolOp, DepthwiseOp, MaxPoolOp, VectorWindowOp
from ...dialects.tile.records import unpack_multipliers
from .analysis import EXACT_FLOAT32, largest_input
from .memory import Scratch
from .plain import Step, sequence
from .requantization import requantization
from .rounding import rounding_step
from .taps import tap_product
from .windows import PaddedInput

_PADDED = 1 << 18
"""Elements of padded input at a time."""


def max_pool_step(op: MaxPoolOp, sram: Array, scratch: Scratch) -> Step:
    """Bind a maximum over windows, in the element type."""
    steps: list[Step] = []
    out, element = op.output_view(sram), op.element_of("input")
    for chosen in _sample_groups(op, len(sram)):
        padded = PaddedInput(op, sram[chosen], op.channels, element.low, scratch, element.dtype, copy=False)
        steps += [padded.fill, _separable(op, padded.array, out[chosen], np.maximum, scratch, element.dtype)]
    return sequence(steps)


def average_pool_step(op: AveragePoolOp, multipliers: Array, sram: Array, scratch: Scratch) -> Step:
    """Bind a mean over windows with known multipliers: exact sums, one rounding."""
    elements = op.kernel_h * op.kernel_w
    dtype = np.float32 if elements * largest_input(op) <= EXACT_FLOAT32 else np.float64
    multiplier, shift = unpack_multipliers(multipliers, 0, elements + 1)
    factor = np.ldexp(multiplier.astype(np.float64), -shift.astype(np.int32))[op.counts()][..., None]
    clip = (op.zero_point, op.low, op.high)
    steps: list[Step] = []
    out = op.output_view(sram)
    for chosen in _sample_groups(op, len(sram)):
        padded = PaddedInput(op, sram[chosen], op.channels, op.input_zero, scratch, dtype)
        total = scratch.take("pooled", out[chosen].shape, dtype)
        steps += [padded.fill, _separable(op, padded.array, total, np.add, scratch, dtype)]
        steps.append(rounding_step(total, out[chosen], factor, -factor * (elements * op.input_zero), clip, scratch))
    return sequence(steps)


def depthwise_step(op: DepthwiseOp, weights: Array, parameters: Array, sram: Array, scratch: Scratch) -> Step:
    """Bind a depthwise convolution with known weights and parameters."""
    taps = weights.view(op.element_of("weights").dtype).reshape(-1, op.channels).astype(np.float32)
    bound = largest_input(op) * float(np.abs(taps).sum(axis=0, dtype=np.float64).max())
    out = op.output_view(sram)
    total = scratch.take("depthwise", out.shape, np.float32 if bound <= EXACT_FLOAT32 else np.float64)
    product = tap_product(op, taps, sram, total, scratch, padding=op.input_zero)
    return sequence([product, requantization(op, parameters, total, out, (op.channels,), scratch)])


def _sample_groups(op: VectorWindowOp, samples: int) -> list[slice]:
    need_h, need_w = op.padded_size
    together = max(1, _PADDED // (need_h * need_w * op.channels))
    return [slice(first, min(first + together, samples)) for first in range(0, samples, together)]


def _separable(op: VectorWindowOp, padded: Array, out: Array, reduce: np.ufunc, scratch: Scratch, dtype: Any) -> Step:
    """Out = the windows of `padded` [samples, h, w, c] reduced, first along each row and then along columns."""
    samples, height, _, channels = padded.shape
    width = (op.out_w - 1) * op.stride_w + 1
    columns = [padded[:, :, j * op.dilation_w :][:, :, : width : op.stride_w] for j in range(op.kernel_w)]
    across = scratch.take("pooled rows", (samples, height, op.out_w, channels), dtype)
    tall = (op.out_h - 1) * op.stride_h + 1
    rows = [across[:, i * op.dilation_h :][:, : tall : op.stride_h] for i in range(op.kernel_h)]

    def run() -> None:
        np.copyto(across, columns[0])
        for column in columns[1:]:
            reduce(across, column, out=across)
        np.copyto(out, rows[0])
        for row in rows[1:]:
            reduce(out, row, out=out)

    return run

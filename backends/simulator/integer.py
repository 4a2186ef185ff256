"""8-bit matrix products of the fast path in integers, by the kernels of the extra `fast`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.integer_kernels import bound_product
from ...dialects.tile.array import MatmulOp
from .memory import Scratch
from .plain import Step, sequence
from .windows import unfold_step, windows_of_chunks

UNFOLDED = 1 << 20
"""Elements of the unfolded matrix at a time: 1 MiB, which stays in the second cache level."""


def integer_product(op: MatmulOp, packed: Sequence[Any], sram: Array, result: Array, scratch: Scratch) -> Step:
    """Bind a matmul of int8 data with constant int8 weights to `result` int32 [samples, groups, rows, out_c].

    Every sum must fit int32. Pixels that lie at one distance in SRAM are multiplied where they are; other windows are
    unfolded first.
    """
    span, apart = op.channel_span
    rows = _pixel_rows(op, sram, span)
    if rows is not None:
        groups = [rows[..., group * apart : group * apart + op.in_c] for group in range(op.groups)]
        return sequence(_products(groups, packed, result, scratch, accumulate=op.accumulate))
    depth = op.taps * op.in_c
    row = op.groups * op.out_w * depth
    together = max(1, UNFOLDED // (row * op.out_h))
    height = max(1, min(op.out_h, UNFOLDED // row))
    steps: list[Step] = []
    for chosen, filling, windows in windows_of_chunks(op, sram, together, scratch):
        steps += filling
        for top in range(0, op.out_h, height):
            window = windows[:, :, top : top + height]
            count = window.shape[2] * op.out_w
            unfolded = scratch.take("unfolded", (*window.shape[:2], count, depth), np.int8)
            steps.append(unfold_step(window, unfolded, scratch))
            target = result[chosen, :, top * op.out_w : top * op.out_w + count]
            groups = [unfolded[:, group] for group in range(op.groups)]
            steps += _products(groups, packed, target, scratch, accumulate=op.accumulate)
    return sequence(steps)


def _pixel_rows(op: MatmulOp, sram: Array, span: int) -> Array | None:
    """The pixels that a 1x1 product reads, a view [samples, rows, span] of SRAM; None if no one stride reaches all."""
    if op.taps > 1 or op.padded_size != op.input_size:
        return None
    pixels = op.input_view(sram, span)[:, :: op.stride_h, :: op.stride_w]
    sample, row, pixel, channel = pixels.strides
    if op.out_w == 1:
        pixel = row
    elif op.out_h > 1 and row != op.out_w * pixel:
        return None
    return np.lib.stride_tricks.as_strided(pixels, (len(sram), op.rows, span), (sample, pixel, channel))


def _products(
    groups: Sequence[Array], packed: Sequence[Any], result: Array, scratch: Scratch, *, accumulate: bool
) -> list[Step]:
    """Bind result[s, g] (+)= groups[g][s] @ weights of g, in as few calls of a kernel as the layout allows."""
    steps: list[Step] = []
    for group, (rows, weights) in enumerate(zip(groups, packed, strict=True)):
        out = result[:, group]
        samples, count, depth = rows.shape
        if out.flags.c_contiguous and (samples == 1 or rows.strides[0] == count * rows.strides[1]):
            flat = np.lib.stride_tricks.as_strided(rows, (samples * count, depth), rows.strides[1:])
            steps.append(_product(flat, weights, out.reshape(-1, out.shape[-1]), scratch, accumulate=accumulate))
        else:
            pairs = zip(rows, out, strict=True)
            steps += [_product(a, weights, b, scratch, accumulate=accumulate) for a, b in pairs]
    return steps


def _product(rows: Array, weights: Any, out: Array, scratch: Scratch, *, accumulate: bool) -> Step:
    """Bind out (+)= rows @ weights; the tensors of the kernels are views of the arrays."""
    sums = scratch.take("sums", out.shape, np.int32) if accumulate else out
    multiply = bound_product(rows, weights, sums)

    def run() -> None:
        multiply()
        if accumulate:
            np.add(out, sums, out=out)

    return run

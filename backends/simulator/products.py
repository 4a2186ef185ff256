"""Matrix products of the fast path: windows unfolded into a scratch matrix, multiplied by BLAS, exact throughout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.array import MatmulOp
from .analysis import EXACT_FLOAT32, LARGEST_INPUT, Weights, magnitude, product_type
from .memory import Scratch
from .plain import Step, sequence
from .windows import PaddedInput, unfold_step

UNFOLDED = 1 << 19
"""Elements of the unfolded matrix at a time: 2 MiB of float32."""


def dense_product(op: MatmulOp, weights: Weights | None, sram: Array, result: Array, scratch: Scratch) -> Step:
    """Bind a matmul to `result` [samples, groups, rows, out_c] (float32 or float64).

    Constant weights are one float32 matrix for all samples; without them they are read from SRAM for each sample.
    float32 products are split along the reduction where a whole one would not be exact; 16-bit data take float64. Of
    floats the sums are inexact: `accelc.backends.simulator.floats` has those of the numeric contract.
    """
    depth, rows, dtype = op.taps * op.in_c, op.rows, product_type(op)
    steps: list[Step] = []
    dynamic: Array | None = None
    if weights is None:
        dynamic = scratch.take("weights", (len(sram), op.groups, depth, op.out_c), dtype)
        steps.append(_weight_reader(op, sram, dynamic))
    spans = reduction_spans(op, weights)
    unfolded = op.groups * rows * depth
    together = max(1, UNFOLDED // unfolded) if dynamic is None else 1
    per_row = op.groups * op.out_w * depth
    height = op.out_h if unfolded <= UNFOLDED else max(1, UNFOLDED // per_row)
    span, apart = op.channel_span
    point = op.taps == 1 and op.padded_size == op.input_size
    for first in range(0, len(sram), together):
        chosen = slice(first, min(first + together, len(sram)))
        stored = op.element_of("input").dtype if scratch.compiled else dtype  # then unfolding converts
        padded = PaddedInput(
            op, sram[chosen], span, op.zero_point, scratch, stored, copy=not (point or scratch.compiled)
        )
        windows = padded.windows(op, op.groups, apart, op.in_c)
        if padded.borders or padded.copies:
            steps.append(padded.fill)
        matrix = weights.matrix if weights is not None else dynamic[first] if dynamic is not None else None
        assert matrix is not None
        for top in range(0, op.out_h, height):
            window = windows[:, :, top : top + height]
            count = window.shape[2] * op.out_w
            unfold = scratch.take("unfolded", (*window.shape[:2], count, depth), dtype)
            target = result[chosen, :, top * op.out_w : top * op.out_w + count]
            steps.append(_multiply(op, window, unfold, matrix, target, spans, scratch))
    return sequence(steps)


def reduction_spans(op: MatmulOp, weights: Weights | None) -> list[tuple[int, int]]:
    """Pieces of the reduction that the type of the product computes exactly whatever the input."""
    depth = op.taps * op.in_c
    if product_type(op) != np.float32 or op.element_of("input").is_float:
        return [(0, depth)]
    if weights is None:
        largest = magnitude(op, "input", op.input_zero) * magnitude(op, "weights", op.weights_zero)
        step = max(1, EXACT_FLOAT32 // largest)
        return [(start, min(start + step, depth)) for start in range(0, depth, step)]
    if weights.bound <= EXACT_FLOAT32:
        return [(0, depth)]
    limit = EXACT_FLOAT32 // LARGEST_INPUT
    running = np.cumsum(np.abs(weights.matrix), axis=1, dtype=np.float64)
    spans: list[tuple[int, int]] = []
    start, taken = 0, np.zeros((op.groups, 1, op.out_c))
    while start < depth:
        within = (running - taken <= limit).all(axis=(0, 2))
        end = max(start + 1, int(np.flatnonzero(within)[-1]) + 1)
        spans.append((start, end))
        start, taken = end, running[:, end - 1 : end]
    return spans


def _weight_reader(op: MatmulOp, sram: Array, target: Array) -> Step:
    def read() -> None:
        np.copyto(target, op.dense_weights(sram))
        if op.weights_zero:
            np.subtract(target, op.weights_zero, out=target)

    return read


def _multiply(
    op: MatmulOp,
    window: Array,
    unfold: Array,
    matrix: Array,
    target: Array,
    spans: Sequence[tuple[int, int]],
    scratch: Scratch,
) -> Step:
    gather = unfold_step(window, unfold, scratch)
    left, right, out = unfold, matrix, target
    if op.groups == 1:
        flat = (-1, unfold.shape[-1])
        left, right = unfold.reshape(flat), matrix[0]
        if target.flags.c_contiguous:
            out = target.reshape(-1, op.out_c)
        elif len(target) == 1:
            out = target[0, 0]
        else:
            left = unfold
    if len(spans) == 1 and out.dtype == unfold.dtype and not op.accumulate:

        def write() -> None:
            gather()
            if op.input_zero:
                np.subtract(unfold, op.input_zero, out=unfold)
            np.matmul(left, right, out=out)

        return write
    partial = scratch.take("partial", out.shape, unfold.dtype)
    pieces = [(left[..., a:b], right[..., a:b, :]) for a, b in spans]

    def add() -> None:
        gather()
        if op.input_zero:
            np.subtract(unfold, op.input_zero, out=unfold)
        for number, (rows, columns) in enumerate(pieces):
            np.matmul(rows, columns, out=partial)
            if number or op.accumulate:
                np.add(out, partial, out=out)
            else:
                np.copyto(out, partial)

    return add

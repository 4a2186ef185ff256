"""8-bit matrix products by the machine code of vnni.py: integers, exact, of data that are read where they lie."""

from __future__ import annotations

import math
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.array import MatmulOp
from .analysis import Weights
from .kernels import flat, has_kernels, offset_pairs, offsets
from .memory import Scratch
from .plain import Step, sequence
from .windows import unfold_step, windows_of_chunks

SHORTEST_RUN = 4
"""Bytes that the machine code multiplies at once; shorter runs are gathered first."""

BLOCK = 1 << 19
"""Bytes of padded input, or of gathered windows, at a time: they stay in the second cache level."""


@cache
def _vnni() -> Any:
    return import_module(".vnni", __package__)


@cache
def has_direct_products() -> bool:
    """True if there is such machine code for this processor; asking loads Numba, where it is installed."""
    return has_kernels() and _vnni().has_vnni()


def direct_product(op: MatmulOp, weights: Weights, sram: Array, result: Array, scratch: Scratch) -> Step:
    """Bind a matmul of int8 data with constant int8 weights to `result` int32 [samples, groups, rows, out_c].

    Every sum must fit int32, and a reduction must have at least SHORTEST_RUN products.
    """
    need_h, need_w = op.padded_size
    together = max(1, BLOCK // (need_h * need_w * op.channel_span[0]))
    steps: list[Step] = []
    for chosen, filling, windows in windows_of_chunks(op, sram, together, scratch):
        steps += filling
        if _run_axes(windows) is None:
            steps += _gathered(op, weights, windows, result[chosen], scratch)
        else:
            steps.append(_products(op, weights, windows, result[chosen]))
    return sequence(steps)


def _gathered(op: MatmulOp, weights: Weights, windows: Array, result: Array, scratch: Scratch) -> list[Step]:
    """Products of windows whose runs are too short."""
    samples, groups = windows.shape[:2]
    depth = op.taps * op.in_c
    height = max(1, min(op.out_h, BLOCK // (samples * groups * op.out_w * depth)))
    steps: list[Step] = []
    for top in range(0, op.out_h, height):
        window = windows[:, :, top : top + height]
        matrix = scratch.take("unfolded", (*window.shape[:4], 1, 1, depth), np.int8)
        steps.append(unfold_step(window, matrix, scratch))
        rows = slice(top * op.out_w, top * op.out_w + window.shape[2] * op.out_w)
        steps.append(_products(op, weights, matrix, result[:, :, rows]))
    return steps


def _products(op: MatmulOp, weights: Weights, windows: Array, result: Array) -> Step:
    """Bind result[s, g, row] (+)= windows[s, g, h, w, taps and channels] times the weights of the group."""
    axes = _run_axes(windows)
    assert axes is not None
    run = math.prod(windows.shape[axes:])
    samples, groups, height, width = windows.shape[:4]
    image = result.reshape(samples, groups, height, width, op.out_c)
    taps = offsets(windows.shape[4:axes], windows.strides[4:axes])
    steps: list[Step] = []
    form = math.prod(windows.shape[4:axes]), run, op.out_c
    packed = weights.kept(form, lambda matrix: _vnni().packed(matrix.reshape(form)))
    for group, (tiles, starts) in enumerate(packed):
        source, target = windows[:, group], image[:, group]
        arrays = flat(source), offset_pairs(source, target), taps, run, tiles, starts, op.out_c, flat(target)
        steps.append(partial(_vnni().multiply, *arrays, op.accumulate))
    return sequence(steps)


def _run_axes(windows: Array) -> int | None:
    """The first of the last axes [kernel_h, kernel_w, channels] that lie in one run; None if it is too short."""
    run = 1
    for axis in (6, 5, 4):
        if windows.shape[axis] > 1 and windows.strides[axis] != run:
            return axis + 1 if run >= SHORTEST_RUN else None
        run *= windows.shape[axis]
    return 4 if run >= SHORTEST_RUN else None

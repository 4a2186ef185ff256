"""Depthwise products of the fast path: one multiplication of whole arrays for every window position."""

from __future__ import annotations

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.window import WindowOp
from .kernels import taps_kernel
from .memory import Scratch
from .plain import Step, sequence
from .rounding import NARROW, is_mergeable, merged, repeated
from .windows import PaddedInput

_PADDED = 1 << 18
"""Elements of padded input converted at a time."""
_BLOCK = 1 << 15
"""Elements of the result computed at a time."""
FEWEST_CHANNELS = 8
"""Below, vectors along the channels are mostly empty, and numpy's along the rows are not."""


def tap_product(
    op: WindowOp, weights: Array, sram: Array, image: Array, scratch: Scratch, *, padding: int, accumulate: bool = False
) -> Step:
    """Bind image[s, y, x, c] (+)= sum over taps of window[tap] * weights[tap, c], in the element type of `image`.

    `weights` is float32 [taps, channels]; every partial sum must be exact in the element type.
    """
    if scratch.compiled:
        kernel = _compiled_taps(op, weights, sram, image, scratch, padding=padding, accumulate=accumulate)
        if kernel is not None:
            return kernel
    channels = image.shape[-1]
    need_h, need_w = op.padded_size
    together = max(1, _PADDED // (need_h * need_w * channels))
    height = max(1, _BLOCK // (op.out_w * channels))
    factors = [tap.astype(image.dtype) for tap in weights]
    steps: list[Step] = []
    for first in range(0, len(sram), together):
        chosen = slice(first, min(first + together, len(sram)))
        padded = PaddedInput(op, sram[chosen], channels, padding, scratch, np.float32)
        steps.append(padded.fill)
        views, target, scale = padded.taps(op, channels), image[chosen], factors
        if channels < NARROW and is_mergeable(views[0]) and is_mergeable(target):
            views, target = [merged(view) for view in views], merged(target)
            scale = [repeated(factor[None], op.out_w, channels).reshape(-1) for factor in factors]
        for sample in range(len(views[0])):
            for top in range(0, op.out_h, height):
                rows = slice(top, top + height)
                pieces = [view[sample, rows] for view in views]
                steps.append(_block(pieces, scale, target[sample, rows], scratch, accumulate=accumulate))
    return sequence(steps)


def _compiled_taps(
    op: WindowOp, weights: Array, sram: Array, image: Array, scratch: Scratch, *, padding: int, accumulate: bool
) -> Step | None:
    channels, dtype = image.shape[-1], op.element_of("input").dtype
    if dtype.kind != "i" or channels < FEWEST_CHANNELS:
        return None
    need_h, need_w = op.padded_size
    together = max(1, _PADDED // (need_h * need_w * channels))
    steps: list[Step] = []
    for first in range(0, len(sram), together):
        chosen = slice(first, min(first + together, len(sram)))
        padded = PaddedInput(op, sram[chosen], channels, padding, scratch, dtype, copy=False)
        if padded.borders or padded.copies:
            steps.append(padded.fill)
        windows = padded.windows(op, 1, 0, channels)[:, 0]
        steps.append(taps_kernel(windows, weights.astype(image.dtype), image[chosen], accumulate=accumulate))
    return sequence(steps)


def _block(views: list[Array], factors: list[Array], out: Array, scratch: Scratch, *, accumulate: bool) -> Step:
    partial = scratch.take("partial", out.shape, out.dtype)
    pairs = list(zip(views, factors, strict=True))
    written, added = ([], pairs) if accumulate else (pairs[:1], pairs[1:])

    def run() -> None:
        for view, factor in written:
            np.multiply(view, factor, out=out)
        for view, factor in added:
            np.multiply(view, factor, out=partial)
            np.add(out, partial, out=out)

    return run

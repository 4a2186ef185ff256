"""Sliding windows over NHWC images: extents, padding, patches for convolution, reductions for pooling."""

from __future__ import annotations

import numpy as np

from ..core.types import Array


def output_extent(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """How many windows fit along one axis; below 1 if none does. Sizes and steps in pixels."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def window_counts(
    size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], counted: tuple[int, int]
) -> Array:
    """For each window along one axis the number of its taps that lie in [-counted[0], size + counted[1])."""
    windows = output_extent(size, kernel, stride, dilation, *pads)
    positions = np.arange(windows)[:, None] * stride - pads[0] + np.arange(kernel) * dilation
    return np.sum((positions >= -counted[0]) & (positions < size + counted[1]), axis=1)


def pad_image(data: Array, pads: tuple[int, ...], value: float, dtype: np.dtype[np.generic]) -> Array:
    """Data NHWC as `dtype` with rows and columns of `value` around it; pads are top, left, bottom, right."""
    if not any(pads):
        return np.ascontiguousarray(data, dtype=dtype)
    top, left, bottom, right = pads
    batch, height, width, channels = data.shape
    padded = np.full((batch, height + top + bottom, width + left + right, channels), value, dtype=dtype)
    padded[:, top : top + height, left : left + width] = data
    return padded


def windows(image: Array, kernel: tuple[int, int], strides: tuple[int, ...], dilations: tuple[int, ...]) -> Array:
    """A view [N, OH, OW, KH, KW, C] of all windows of an NHWC image that is already padded."""
    batch, height, width, channels = image.shape
    rows = output_extent(height, kernel[0], strides[0], dilations[0], 0, 0)
    columns = output_extent(width, kernel[1], strides[1], dilations[1], 0, 0)
    n, h, w, c = image.strides
    return np.lib.stride_tricks.as_strided(
        image,
        (batch, rows, columns, *kernel, channels),
        (n, h * strides[0], w * strides[1], h * dilations[0], w * dilations[1], c),
        writeable=False,
    )


def reduce_windows(
    image: Array, reduce: np.ufunc, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> Array:
    """[N, OH, OW, C]: `reduce` (np.add, np.maximum) over every window of a padded NHWC image, one axis after the other.

    The work is one whole-array operation per kernel row plus one per kernel column; one reduction if the kernel
    covers the axis.
    """
    for axis in (1, 2):
        size, taps, stride, dilation = image.shape[axis], kernel[axis - 1], strides[axis - 1], dilations[axis - 1]
        if taps == size:
            image = reduce.reduce(image, axis=axis, keepdims=True, dtype=image.dtype)
            continue
        span = stride * (output_extent(size, taps, stride, dilation, 0, 0) - 1) + 1
        before = (slice(None),) * axis
        total = image[(*before, slice(0, span, stride))].copy()
        for tap in range(dilation, dilation * taps, dilation):
            reduce(total, image[(*before, slice(tap, tap + span, stride))], out=total)
        image = total
    return image

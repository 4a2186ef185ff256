"""Convolution and matrix products at BLAS speed: in float32, and exactly over integers.

A float GEMM over integers is exact in any order of summation while the sum of |x * w| stays within the mantissa:
2^24 in float32, 2^53 in float64. The bound is checked on the weights, and the cheaper type that is exact is used.
"""

from __future__ import annotations

import numpy as np

from ..core.types import Array
from .windows import output_extent, pad_image, windows

PATCH_BYTES = 8 << 20
"""Patches are gathered for as many output rows at once as fit this many bytes."""

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def convolve(
    data: Array,
    weight: Array,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
    pad_value: float = 0.0,
) -> Array:
    """Data NHWC * weight HWIO -> NHWC in the (float) type of `weight`."""
    image = pad_image(data, pads, pad_value, weight.dtype)
    if groups > 1 and weight.shape[2] == 1:
        return _depthwise(image, weight, strides, dilations)
    return _patches_times_weight(image, weight, strides, dilations, groups)


def exact_convolve(
    data: Array,
    zero_point: int,
    weight: Array,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> Array:
    """sum((data - zero_point) * weight) as int32, exact; padding contributes 0. Integers NHWC and HWIO."""
    sums = weight.sum(axis=(0, 1, 2), dtype=np.int64)
    kind = _exact_type(data, np.abs(weight.astype(np.int32)).sum(axis=(0, 1, 2), dtype=np.int64))
    product = convolve(data, weight.astype(kind), strides, pads, dilations, groups, pad_value=zero_point)
    return product.astype(np.int32) - (zero_point * sums).astype(np.int32)


def exact_matmul(lhs: Array, lhs_zero_point: int, rhs: Array, rhs_zero_point: int) -> Array:
    """(lhs - its zero point) @ (rhs - its zero point) as int32, exact. Integers [..., M, K] and [..., K, N]."""
    right = rhs.astype(np.int32) - rhs_zero_point
    kind = _exact_type(lhs, np.abs(right).sum(axis=-2, dtype=np.int64))
    product = np.matmul(lhs.astype(kind), right.astype(kind)).astype(np.int32)
    return product - (lhs_zero_point * right.sum(axis=-2, keepdims=True, dtype=np.int64)).astype(np.int32)


def _exact_type(data: Array, weight_sums: Array) -> np.dtype[np.floating]:
    magnitude = -int(np.iinfo(data.dtype).min) or int(np.iinfo(data.dtype).max)
    return _SINGLE if magnitude * int(weight_sums.max(initial=0)) <= 2**24 else _DOUBLE


def _depthwise(image: Array, weight: Array, strides: tuple[int, ...], dilations: tuple[int, ...]) -> Array:
    kernel_height, kernel_width, _, outputs = weight.shape
    batch, height, width, channels = image.shape
    rows = output_extent(height, kernel_height, strides[0], dilations[0], 0, 0)
    columns = output_extent(width, kernel_width, strides[1], dilations[1], 0, 0)
    row_span, column_span = strides[0] * (rows - 1) + 1, strides[1] * (columns - 1) + 1
    taps = weight.reshape(kernel_height, kernel_width, channels, outputs // channels)
    total = np.zeros((batch, rows, columns, channels, outputs // channels), weight.dtype)
    product = np.empty_like(total)
    for i in range(kernel_height):
        for j in range(kernel_width):
            top, left = i * dilations[0], j * dilations[1]
            pixels = image[:, top : top + row_span : strides[0], left : left + column_span : strides[1], :, None]
            np.multiply(pixels, taps[i, j], out=product)
            total += product
    return total.reshape(batch, rows, columns, outputs)


def _patches_times_weight(
    image: Array, weight: Array, strides: tuple[int, ...], dilations: tuple[int, ...], groups: int
) -> Array:
    kernel_height, kernel_width, inputs, outputs = weight.shape
    length = kernel_height * kernel_width * inputs
    view = windows(image, (kernel_height, kernel_width), strides, dilations)
    batch, rows, columns = view.shape[:3]
    matrix = weight.reshape(kernel_height, kernel_width, inputs, groups, outputs // groups)
    matrix = matrix.transpose(3, 0, 1, 2, 4).reshape(groups, length, outputs // groups)
    out = np.empty((batch, rows, columns, groups, outputs // groups), weight.dtype)
    row_step = max(1, PATCH_BYTES // (columns * length * groups * weight.itemsize))
    sample_step = max(1, row_step // rows)
    for sample in range(0, batch, sample_step):
        for row in range(0, rows, row_step):
            block = view[sample : sample + sample_step, row : row + row_step]
            _store_product(block, matrix, out[sample : sample + sample_step, row : row + row_step])
    return out.reshape(batch, rows, columns, outputs)


def _store_product(block: Array, matrix: Array, out: Array) -> None:
    """Out [n, h, w, G, O] = patches of `block` [n, h, w, KH, KW, C] times `matrix` [G, K, O]."""
    groups, length, outputs = matrix.shape
    if groups == 1:
        np.matmul(block.reshape(-1, length), matrix[0], out=out.reshape(-1, outputs))
        return
    n, h, w, kernel_height, kernel_width, channels = block.shape
    split = np.lib.stride_tricks.as_strided(
        block,
        (n, h, w, kernel_height, kernel_width, groups, channels // groups),
        (*block.strides[:5], block.strides[5] * (channels // groups), block.strides[5]),
        writeable=False,
    )
    patches = split.transpose(5, 0, 1, 2, 3, 4, 6).reshape(groups, n * h * w, length)
    out[...] = np.matmul(patches, matrix).transpose(1, 0, 2).reshape(n, h, w, groups, outputs)

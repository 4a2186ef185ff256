"""Convolution and matrix products at BLAS speed: in float32, and exactly over integers.

A float GEMM over integers is exact in any order of summation while the sum of |x * w| stays within the mantissa, 2^24
in float32 and 2^53 in float64. So an integer reduction is cut into spans that are short enough for float32 whatever x
is, given the weights w, and the spans are added as int32; wider integers take float64. Products of int8 numbers are
left to integer kernels where there are some.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..core.types import Array
from .integer_kernels import KERNEL_DEPTH, LONGEST_DEPTH, has_integer_kernels, multiply, packed_weights
from .windows import output_extent, pad_image, windows

PATCH_BYTES = 1 << 20
"""Patches are gathered for as many output rows at once as fit this many bytes."""

DEPTHWISE_BYTES = 1 << 18
"""A depthwise convolution runs on as many output rows at once as fit this many bytes, to stay in the cache."""

SHORTEST_SPAN = 64
"""If exact float32 spans were shorter than this, float64 is faster."""


def convolve(
    data: Array,
    weight: Array,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> Array:
    """Data NHWC * weight HWIO -> NHWC, all float32."""
    image = pad_image(data, pads, 0.0, weight.dtype)
    whole = [slice(0, weight.shape[0] * weight.shape[1] * weight.shape[2])]
    return _convolve_image(image, weight, strides, dilations, groups, whole, weight.dtype)


def exact_convolve(
    data: Array,
    zero_point: int,
    weight: Array,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> Array:
    """sum((data - zero_point) * weight), exact; padding contributes 0. Integers NHWC and HWIO.

    The sums are int32, or int64 for 16-bit data.
    """
    if groups == 1 and _has_kernel(data, weight.reshape(-1, weight.shape[-1])):
        return _kernel_convolve(data, zero_point, weight, strides, pads, dilations)
    kind, spans = _exact_spans(_magnitude(data, zero_point), weight.reshape(-1, weight.shape[-1]), 0)
    image = pad_image(data, pads, zero_point, kind)
    if zero_point:
        image = np.subtract(image, kind.type(zero_point), out=image)
    return _convolve_image(image, weight.astype(kind), strides, dilations, groups, spans, _sum_type(data))


def exact_matmul(lhs: Array, lhs_zero_point: int, rhs: Array, rhs_zero_point: int) -> Array:
    """(lhs - its zero point) @ (rhs - its zero point), exact; int32, or int64 for a 16-bit lhs.

    Integers [..., M, K] and [..., K, N].
    """
    if rhs.ndim == 2 and not rhs_zero_point and _has_kernel(lhs, rhs):
        out = np.empty((*lhs.shape[:-1], rhs.shape[1]), np.int32)
        multiply(lhs.reshape(-1, len(rhs)), packed_weights(rhs), out.reshape(-1, rhs.shape[1]))
        return out - lhs_zero_point * rhs.sum(axis=0, dtype=np.int32) if lhs_zero_point else out
    kind, spans = _exact_spans(_magnitude(lhs, lhs_zero_point), rhs, rhs_zero_point)
    left = lhs.astype(kind) - kind.type(lhs_zero_point)
    wide = _sum_type(lhs)
    total = np.zeros((), wide)
    for cut in spans:
        right = rhs[..., cut, :].astype(kind)
        if rhs_zero_point:
            right -= kind.type(rhs_zero_point)
        total = total + np.matmul(left[..., cut], right).astype(wide)
    return total


def with_bias(sums: Array, bias: Array) -> Array:
    """Sums of products plus integers [C]; the sums are overwritten where they are wide enough."""
    return np.add(sums, bias, out=sums) if np.can_cast(bias.dtype, sums.dtype) else sums + bias


def _sum_type(stored: Array) -> np.dtype[Any]:
    return np.dtype(np.int32 if stored.dtype.itemsize == 1 else np.int64)


def _magnitude(stored: Array, zero_point: int) -> int:
    limits = np.iinfo(stored.dtype)
    return max(int(limits.max) - zero_point, zero_point - int(limits.min))


def _exact_spans(largest: int, weights: Array, zero_point: int) -> tuple[np.dtype[np.floating], list[slice]]:
    """The float type, and the cuts of the reduction within each of which it adds up products exactly.

    Of data of at most the magnitude `largest` with weights [..., K, N].
    """
    length, bound = weights.shape[-2], _magnitude(weights, zero_point)
    if largest * bound * SHORTEST_SPAN > 2**24:
        return np.dtype(np.float64), list(_spans(length, 2**53 // (largest * bound)))
    spans = list(_spans(length, 2**24 // (largest * bound)))
    if len(spans) > 1 and weights.ndim == 2 and not zero_point:
        return np.dtype(np.float32), _joined(spans, weights, 2**24 // largest)
    return np.dtype(np.float32), spans


def _joined(spans: list[slice], weights: Array, limit: int) -> list[slice]:
    """Neighbouring spans of the reduction of `weights` [K, N] as one where no column of |w| adds up to over `limit`."""
    found: list[slice] = []
    total: Array | None = None
    for span in spans:
        part = np.abs(weights[span].astype(np.int32)).sum(axis=0)
        if total is not None and (total + part).max(initial=0) <= limit:
            found[-1], total = slice(found[-1].start, span.stop), total + part
        else:
            found, total = [*found, span], part
    return found


def _spans(length: int, span: int) -> Iterator[slice]:
    """Equal cuts of `length`, none longer than `span`."""
    count = max(1, -(-length // span))
    step = max(1, -(-length // count))
    return (slice(start, start + step) for start in range(0, max(length, 1), step))


def _has_kernel(data: Array, weights: Array) -> bool:
    """True if kernels multiply int8 data with weights [K, N] in integers, faster than BLAS."""
    narrow = data.dtype == weights.dtype == np.int8
    return narrow and KERNEL_DEPTH <= len(weights) <= LONGEST_DEPTH and has_integer_kernels()


def _kernel_convolve(
    data: Array,
    zero_point: int,
    weight: Array,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
) -> Array:
    """`exact_convolve` in integers, without groups: sum(data * weight) - zero_point * sum(weight)."""
    kernel_height, kernel_width, inputs, outputs = weight.shape
    image = pad_image(data, pads, zero_point, data.dtype)
    view = windows(image, (kernel_height, kernel_width), strides, dilations)
    matrix = weight.reshape(kernel_height * kernel_width * inputs, outputs)
    packed, out = packed_weights(matrix), np.empty((*view.shape[:3], outputs), np.int32)
    for place in _places(view, len(matrix) * view.shape[2], PATCH_BYTES):
        multiply(view[place].reshape(-1, len(matrix)), packed, out[place].reshape(-1, outputs))
    if zero_point:
        out -= zero_point * matrix.sum(axis=0, dtype=np.int32)
    return out


def _places(view: Array, row_bytes: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Slices of windows [N, OH, ...]: whole samples or rows of one, of at most `limit` bytes where a row has so few."""
    samples, rows = view.shape[:2]
    row_step = max(1, limit // max(row_bytes, 1))
    sample_step = max(1, row_step // rows)
    for sample in range(0, samples, sample_step):
        for row in range(0, rows, row_step):
            yield slice(sample, sample + sample_step), slice(row, row + row_step)


def _convolve_image(
    image: Array,
    weight: Array,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
    spans: Sequence[slice],
    dtype: np.dtype[np.generic],
) -> Array:
    """A padded image times weight, both of one float type, reduced in `spans`, which are added up as `dtype`."""
    kernel_height, kernel_width, inputs, outputs = weight.shape
    depthwise = groups > 1 and inputs == 1 and len(spans) == 1
    rows = output_extent(image.shape[1], kernel_height, strides[0], dilations[0], 0, 0)
    columns = output_extent(image.shape[2], kernel_width, strides[1], dilations[1], 0, 0)
    out = np.empty((image.shape[0], rows, columns, groups, outputs // groups), dtype)
    view = windows(image, (kernel_height, kernel_width), strides, dilations)
    length = kernel_height * kernel_width * inputs
    row_bytes = columns * groups * weight.itemsize * (outputs // groups if depthwise else length)
    matrix = weight.reshape(kernel_height, kernel_width, inputs, groups, outputs // groups)
    for place in _places(view, row_bytes, DEPTHWISE_BYTES if depthwise else PATCH_BYTES):
        if depthwise:
            _store_taps(view[place], matrix[:, :, 0], out[place])
        else:
            _store_products(view[place], matrix, spans, out[place])
    return out.reshape(image.shape[0], rows, columns, outputs)


def _store_taps(patches: Array, taps: Array, out: Array) -> None:
    """Out [n, h, w, C, O] = the sum over kernel taps of patches [n, h, w, KH, KW, C] * taps [KH, KW, C, O]."""
    total: Array | None = None
    product = np.empty(out.shape, taps.dtype)
    for i in range(taps.shape[0]):
        for j in range(taps.shape[1]):
            pixels = patches[:, :, :, i, j, :, None]
            if total is None:
                total = np.multiply(pixels, taps[i, j])
            else:
                total += np.multiply(pixels, taps[i, j], out=product)
    out[...] = total


def _store_products(patches: Array, weight: Array, spans: Sequence[slice], out: Array) -> None:
    """Out [n, h, w, G, O] = patches [n, h, w, KH, KW, G * I] times weight [KH, KW, I, G, O], a GEMM per span."""
    kernel_height, kernel_width, inputs, groups, outputs = weight.shape
    length, pixels = kernel_height * kernel_width * inputs, patches.shape[0] * patches.shape[1] * patches.shape[2]
    split = np.lib.stride_tricks.as_strided(
        patches,
        (*patches.shape[:5], groups, inputs),
        (*patches.strides[:5], patches.strides[5] * inputs, patches.strides[5]),
        writeable=False,
    )
    rows = split.transpose(5, 0, 1, 2, 3, 4, 6).reshape(groups, pixels, length)
    matrix = weight.transpose(3, 0, 1, 2, 4).reshape(groups, length, outputs)
    target = out.reshape(pixels, groups, outputs).transpose(1, 0, 2)
    for cut in spans:
        if cut.start:
            target += np.matmul(rows[:, :, cut], matrix[:, cut]).astype(out.dtype)
        elif out.dtype == weight.dtype:
            np.matmul(rows[:, :, cut], matrix[:, cut], out=target)
        else:
            target[...] = np.matmul(rows[:, :, cut], matrix[:, cut])

"""The numeric contract of bfloat16: how float32 results become numbers of 16 bits, and in which order sums are taken.

Numbers are stored as bfloat16 and computed with in float32, by additions, multiplications, divisions and square roots
that IEEE 754 rounds correctly (to nearest, ties to even, subnormals kept); one rounding to bfloat16 ends an operation.
The product of two bfloat16 numbers is exact in float32 while it is a normal number, so that a fused multiply-add gives
the same bits as a product and a sum.

Order. A sum of products starts from +0, or from what the accumulator holds, and takes one product after the other, in
the order (kernel row, kernel column, input channel); every addition rounds. That is the order of a systolic column,
whose partial sum enters the first lane from the accumulator and passes the lanes from the first to the last, so it
costs no time and the mapping changes no bit. A factor of 0 on the side of the weights gates its multiplier: the product
is +0 whatever the other factor, infinity and NaN included. A partial sum is never -0, so such a product, a lane without
an input and a pixel of padding change nothing, wherever they stand.

Comparisons follow the ordinals: -infinity < ... < -0 < +0 < ... < infinity < NaN. The largest number of a window and
the bounds of a clamp are found by them; NaN has one pattern, 0x7FC0.
"""

from __future__ import annotations

from typing import Any, cast

import ml_dtypes
import numpy as np

from ..core.types import Array

BFLOAT16: np.dtype[Any] = np.dtype(cast(Any, ml_dtypes.bfloat16))

NAN_PATTERN = 0x7FC0
"""The bits of the only NaN that an operation gives."""

LOWEST_ORDINAL, HIGHEST_ORDINAL = -0x7F81, NAN_PATTERN
"""The ordinals of -infinity and of NaN."""

BLOCK_COLUMNS, BLOCK_SUMS = 1 << 12, 1 << 15
"""Sums that are taken side by side: 128 KiB, which stay in the second cache level with their products."""


def rounded(reals: Array) -> Array:
    """float32 to the nearest bfloat16, ties to even; every NaN becomes the one."""
    with np.errstate(all="ignore"):
        numbers = np.asarray(np.asarray(reals, np.float32).astype(BFLOAT16))
    unordered = np.isnan(reals)
    if unordered.any():
        numbers.view(np.int16)[unordered] = NAN_PATTERN
    return numbers


def ordinals(numbers: Array) -> Array:
    """int16 that order as the numbers do: 0 for +0, -1 for -0, one more for the next larger number."""
    bits = np.ascontiguousarray(numbers).reshape(numbers.shape).view(np.int16)
    return bits ^ ((bits >> 15) & 0x7FFF)


def from_ordinals(integers: Array) -> Array:
    """The bfloat16 numbers with these ordinals."""
    bits = np.asarray(integers, np.int16)
    return np.asarray(bits ^ ((bits >> 15) & 0x7FFF)).view(BFLOAT16)


def finished(reals: Array, low: int = LOWEST_ORDINAL, high: int = HIGHEST_ORDINAL) -> Array:
    """float32 results as bfloat16, clamped to the numbers with the ordinals `low` and `high`.

    Rounding keeps the order, so it is the same to clamp before it.
    """
    numbers = rounded(reals)
    if low <= LOWEST_ORDINAL and high >= HIGHEST_ORDINAL:
        return numbers
    return from_ordinals(np.clip(ordinals(numbers), low, high))


def with_bias(sums: Array, factor: Array, bias: Array, low: int, high: int) -> Array:
    """finished(sums * factor + bias): two float32 operations, one rounding to bfloat16."""
    with np.errstate(all="ignore"):
        return finished(sums * factor + bias, low, high)


def ordered_sum(terms: Array, axis: int) -> Array:
    """The float32 sum along an axis, which is kept with length 1: one term after the other, from +0."""
    with np.errstate(all="ignore"):
        running = np.add.accumulate(terms, axis=axis, dtype=np.float32)
    return running.take([-1], axis=axis) + np.float32(0)


def gated_product(data: Array, weight: Array) -> Array:
    """The float32 product of both, +0 where the weight is 0."""
    with np.errstate(all="ignore"):
        product = np.multiply(data, weight, dtype=np.float32)
    return product if np.isfinite(data).all() else np.where(weight == 0, np.float32(0), product)


def add_products(total: Array, data: Array, weight: Array) -> None:
    """total[n, m] += data[k, m] * weight[k, n] for one k after the other, in place; all float32.

    Every n and m is a sum of its own; many m make long inner loops.
    """
    gated = not np.isfinite(data).all()
    outputs, width = len(total), min(total.shape[1], BLOCK_COLUMNS)
    height = max(1, min(outputs, BLOCK_SUMS // max(width, 1)))
    sums, products = np.empty((2, height, width), np.float32)
    with np.errstate(all="ignore"):
        for left in range(0, total.shape[1], BLOCK_COLUMNS):
            columns = np.ascontiguousarray(data[:, left : left + BLOCK_COLUMNS])
            for top in range(0, outputs, height):
                place = total[top : top + height, left : left + BLOCK_COLUMNS]
                rows, count = place.shape
                own, term = (buffer.reshape(-1)[: rows * count].reshape(rows, count) for buffer in (sums, products))
                np.copyto(own, place)
                for values, factors in zip(columns, weight[:, top : top + height, None], strict=True):
                    np.multiply(values, factors, out=term)
                    if gated:
                        np.copyto(term, 0.0, where=factors == 0)
                    np.add(own, term, out=own)
                np.copyto(place, own)


def ordered_matmul(lhs: Array, rhs: Array) -> Array:
    """The float32 sums of lhs [..., M, K] times rhs [..., K, N], leading axes broadcast; rhs is the side of weights."""
    leading = np.broadcast_shapes(lhs.shape[:-2], rhs.shape[:-2])
    if rhs.ndim == 2:  # one matrix for all rows
        total = np.zeros((rhs.shape[1], lhs.size // max(lhs.shape[-1], 1)), np.float32)
        add_products(total, lhs.astype(np.float32).reshape(-1, lhs.shape[-1]).T, rhs.astype(np.float32))
        return total.T.reshape(*lhs.shape[:-1], rhs.shape[1])
    left = np.broadcast_to(lhs, (*leading, *lhs.shape[-2:])).astype(np.float32)
    right = np.broadcast_to(rhs, (*leading, *rhs.shape[-2:])).astype(np.float32)
    total = np.zeros((*leading, rhs.shape[-1], lhs.shape[-2]), np.float32)
    for index in np.ndindex(*leading):
        add_products(total[index], left[index].T, right[index])
    return total.swapaxes(-1, -2)

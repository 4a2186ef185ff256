"""8-bit matrix products in integers, by NumKong where it is installed (the extra `fast`): exact sums in int32.

Its kernels (https://github.com/ashvardanian/NumKong, `dots_packed`) widen every product of two int8 numbers before they
add it, on every CPU, so the sums are those of float products that are exact. Several times faster than float32 BLAS, as
a vector register holds four times as many operands and windows are unfolded in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..core.types import Array

try:
    import numkong
except ImportError:
    numkong = None

_kernels: Any = numkong

KERNEL_DEPTH = 64
"""Bytes of a vector register, up to which the kernels pad a reduction: shorter ones are faster in float32."""

LONGEST_DEPTH = 1 << 16
"""Up to so many products of int8 numbers any sum fits int32."""


def has_integer_kernels() -> bool:
    """True if NumKong is installed."""
    return _kernels is not None


def packed_weights(matrix: Array) -> Any:
    """Constant weights int8 [depth, columns] in the layout of the kernels."""
    return _kernels.dots_pack(np.ascontiguousarray(matrix.T), dtype="int8")


def bound_product(rows: Array, packed: Any, out: Array) -> Callable[[], object]:
    """What computes out [M, N] = rows [M, depth] @ weights, int32 of int8; rows may lie at any one distance."""
    left, right = _kernels.from_dlpack(rows), _kernels.from_dlpack(out)
    return partial(_kernels.dots_packed, left, packed, out=right)


def multiply(rows: Array, packed: Any, out: Array) -> None:
    """Out [M, N] = rows [M, depth] @ weights, int32 of int8."""
    if rows.size and out.size:
        dense = rows.strides[1] == rows.itemsize and rows.strides[0] >= 0
        # DLPack refuses what is read-only, the kernels rows with gaps.
        bound_product(rows if dense and rows.flags.writeable else np.array(rows, order="C"), packed, out)()

"""The floor under a simulator in numpy: the network's matrix products alone, in float32 BLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from accelc.compiler.report import Product


def blas_alone(products: Iterable[Product]) -> Callable[[], None]:
    """A call that multiplies matrices of every convolution's and matrix product's size, as im2col would have them.

    Gathering windows, requantization and all else is left out, and so are depthwise convolutions, which are no matrix
    products.
    """
    rng = np.random.default_rng(0)
    operands: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for product in products:
        if product.groups > 1 and product.out_channels == 1:
            continue
        depth = product.in_channels * product.kernel[0] * product.kernel[1]
        groups, rows, columns = product.groups, product.rows, product.out_channels
        data = rng.standard_normal((rows, depth), np.float32)
        weights = rng.standard_normal((depth, columns), np.float32)
        operands += [(data, weights, np.empty((rows, columns), np.float32))] * groups

    def run() -> None:
        for data, weights, out in operands:
            np.matmul(data, weights, out=out)

    return run

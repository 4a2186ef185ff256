"""Convolutions and window sums of bfloat16 in the order of the numeric contract: kernel row, column, input channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..core.types import Array
from ..quant.bfloat16 import LOWEST_ORDINAL, add_products, from_ordinals, gated_product, ordinals
from .windows import pad_image, windows


def ordered_convolve(
    data: Array,
    weight: Array,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    groups: int,
) -> Array:
    """The float32 sums of bfloat16 data NHWC * weight HWIO -> NHWC, padding contributing nothing."""
    height, width, inputs, outputs = weight.shape
    image = pad_image(data, pads, 0.0, np.dtype(np.float32))
    view = windows(image, (height, width), strides, dilations)
    taps = weight.astype(np.float32)
    if inputs == 1 and outputs == groups:
        total = np.zeros((*view.shape[:3], outputs), np.float32)
        with np.errstate(all="ignore"):
            for row, column in np.ndindex(height, width):
                total += gated_product(view[..., row, column, :], taps[row, column, 0])
        return total
    own = outputs // groups
    parts: list[Array] = []
    for group in range(groups):
        rows = view[..., group * inputs : (group + 1) * inputs].transpose(3, 4, 5, 0, 1, 2)
        flat = rows.reshape(height * width * inputs, -1)
        total = np.zeros((own, flat.shape[1]), np.float32)
        add_products(total, flat, taps[..., group * own : (group + 1) * own].reshape(-1, own))
        parts.append(total.T.reshape(*view.shape[:3], own))
    return np.concatenate(parts, axis=-1)


def tap_views(
    data: Array, kernel: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...], dilations: tuple[int, ...]
) -> Iterator[Array]:
    """The float32 pixels NHWC that each tap of a window meets, in the order of the taps; padding is +0."""
    view = windows(pad_image(data, pads, 0.0, np.dtype(np.float32)), (kernel[0], kernel[1]), strides, dilations)
    return (view[:, :, :, row, column] for row, column in np.ndindex(*kernel))


def sum_in_order(terms: Iterable[Array]) -> Array:
    """The float32 sum of arrays, one after the other from +0."""
    total = np.float32(0)
    with np.errstate(all="ignore"):
        for term in terms:
            total = total + term
    return np.asarray(total)


def ordered_maximum(
    data: Array, kernel: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...], dilations: tuple[int, ...]
) -> Array:
    """The largest bfloat16 of each window by its ordinal; padding never wins."""
    image = pad_image(ordinals(data), pads, LOWEST_ORDINAL, np.dtype(np.int16))
    return from_ordinals(windows(image, (kernel[0], kernel[1]), strides, dilations).max(axis=(3, 4)))

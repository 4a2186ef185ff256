"""What a convolution or product multiplies its weights with: input numbers of an output position, in rows."""

from __future__ import annotations

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.windows import pad_image, windows
from ...dialects.quant.types import quantized_element
from .lockstep import Layer


def input_rows(layer: Layer, data: Array, limit: int) -> Array:
    """Float32 [groups, rows, K] with rows @ weights == accumulators less the bias, of at most `limit` output positions.

    `data` holds integer inputs; zero points are subtracted and padding is 0. K runs over kernel rows, kernel columns
    and input channels of a group, as weights [.., K, O] are stored. Positions are drawn at random, the same ones every
    time.
    """
    zero_point = quantized_element(layer.operands[0].type).zero_point
    if not isinstance(layer, Conv2dOp):
        flat = data.reshape(-1, data.shape[-1])
        return (flat[_drawn(len(flat), limit)].astype(np.float32) - zero_point)[None]
    kernel_height, kernel_width, inputs, _ = layer.operands[1].type.shape
    image = pad_image(data, layer.pads, zero_point, data.dtype)
    view = windows(image, (kernel_height, kernel_width), layer.strides, layer.dilations)
    positions = np.unravel_index(_drawn(view.shape[0] * view.shape[1] * view.shape[2], limit), view.shape[:3])
    taken = view[positions].astype(np.float32) - zero_point
    split = taken.reshape(-1, kernel_height * kernel_width, layer.groups, inputs)
    return split.transpose(2, 0, 1, 3).reshape(layer.groups, len(taken), -1)


def _drawn(count: int, limit: int) -> Array:
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, limit, replace=False))

"""Conv: one and two spatial axes, groups, dilations, every kind of padding."""

from __future__ import annotations

import numpy as np

from ...dialects.nn.convolution import Conv2dOp
from .lowering import Imported, Known, Lowering, shape_of
from .windows import resolve_window, spatial_rank


def lower_conv(lowering: Lowering) -> Imported:
    """Conv = to_nchw(nn.conv2d(to_nhwc(x), OIHW -> HWIO)); a one-dimensional kernel becomes 1 x W."""
    node = lowering.node
    rank = spatial_rank(lowering)
    weight = lowering.input(1)
    shape = shape_of(weight)
    if len(shape) != rank + 2:
        raise lowering.error(f"weight has shape {list(shape)}, expected rank {rank + 2}")
    declared = node.integers("kernel_shape")
    if declared is not None and declared != shape[2:]:
        raise lowering.error(f"kernel_shape is {list(declared)}, the weight has {list(shape[2:])}")
    groups, channels = node.integer("group", 1), lowering.shape(0)[1]
    if groups < 1 or shape[0] % groups or shape[1] * groups != channels:
        raise lowering.error(
            f"data has {channels} channels, weight {list(shape)} in {groups} groups expects {shape[1] * groups}"
        )
    window = resolve_window(lowering, shape[2:])
    if rank == 1:
        weight = lowering.reshaped(weight, (shape[0], shape[1], 1, shape[2]))
    bias = lowering.optional(2)
    if bias is not None and shape_of(bias) != (shape[0],):
        raise lowering.error(f"bias has shape {list(shape_of(bias))}, expected [{shape[0]}]")
    image = lowering.emit(
        Conv2dOp,
        lowering.channels_last(lowering.input(0)),
        lowering.transposed(weight, (2, 3, 1, 0)),
        None if isinstance(bias, Known) and not np.count_nonzero(bias.array) else bias,
        strides=window.strides,
        pads=window.pads,
        dilations=window.dilations,
        groups=groups,
    )
    return lowering.channels_first(image, rank + 2)

"""Normalisations by statistics of the data: over trailing axes, over groups of channels, over each channel."""

from __future__ import annotations

import math

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.normalization import BatchNormOp
from .lowering import Imported, Known, Lowering, Unsupported


def lower_layer_normalization(lowering: Lowering) -> Imported:
    """LayerNormalization over the axes from `axis` on, flattened; Mean and InvStdDev are not available."""
    if any(lowering.node.outputs[1:]):
        raise Unsupported("the outputs Mean and InvStdDev are not supported")
    return _over_trailing_axes(lowering, centred=True)


def lower_rms_normalization(lowering: Lowering) -> Imported:
    """RMSNormalization over the axes from `axis` on, flattened."""
    return _over_trailing_axes(lowering, centred=False)


def lower_group_normalization(lowering: Lowering) -> Imported:
    """GroupNormalization: nn.layer_norm over each group of channels, then nn.batch_norm for scale and bias."""
    node, shape = lowering.node, lowering.shape(0)
    groups = node.integer("num_groups", 0)
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        raise lowering.error(f"data has shape {list(shape)}, which does not have {groups} groups of channels")
    return _over_groups(lowering, groups, lowering.array(1, "scale"), lowering.array(2, "bias"))


def lower_instance_normalization(lowering: Lowering) -> Imported:
    """InstanceNormalization: as GroupNormalization with every channel a group."""
    shape = lowering.shape(0)
    if len(shape) < 3:
        raise lowering.error(f"data has rank {len(shape)}, expected at least 3")
    return _over_groups(lowering, shape[1], lowering.array(1, "scale"), lowering.array(2, "B"))


def _over_trailing_axes(lowering: Lowering, *, centred: bool) -> Imported:
    node, shape = lowering.node, lowering.shape(0)
    axis = lowering.axis(node.integer("axis", -1), len(shape))
    row = math.prod(shape[axis:])
    gain, offset = lowering.input(1), lowering.optional(2)
    parameters: list[Imported] = []
    for what, value in (("scale", gain), ("bias", offset)):
        if value is None:
            parameters.append(Known("layer_norm.bias", np.zeros(row, np.float32)))
        elif isinstance(value, Known):
            parameters.append(_spread(lowering, what, value, shape[axis:]))
        else:
            parameters.append(lowering.reshaped(value, (row,)))
    data = lowering.reshaped(lowering.input(0), (*shape[:axis], row))
    result = lowering.emit(LayerNormOp, data, *parameters, epsilon=node.number("epsilon", 1e-5), centred=centred)
    return lowering.reshaped(result, shape)


def _spread(lowering: Lowering, what: str, value: Known, shape: tuple[int, ...]) -> Known:
    try:
        return Known(value.name, np.broadcast_to(value.array, shape).reshape(-1))
    except ValueError:
        raise lowering.error(f"{what} has shape {list(value.shape)}, expected {list(shape)}") from None


def _over_groups(lowering: Lowering, groups: int, scale: Array, bias: Array) -> Imported:
    shape = lowering.shape(0)
    channels, row = shape[1], math.prod(shape[1:]) // groups
    for what, array in (("scale", scale), ("bias", bias)):
        if array.shape != (channels,):
            raise lowering.error(f"{what} has shape {list(array.shape)}, expected [{channels}]")
    ones, zeros = Known("scale", np.ones(row, np.float32)), Known("bias", np.zeros(row, np.float32))
    flat = lowering.reshaped(lowering.input(0), (shape[0], groups, row))
    epsilon = lowering.node.number("epsilon", 1e-5)
    normalised = lowering.reshaped(lowering.emit(LayerNormOp, flat, ones, zeros, epsilon=epsilon), shape)
    neutral = (np.zeros(channels, np.float32), np.ones(channels, np.float32))
    image = lowering.emit(
        BatchNormOp,
        lowering.channels_last(normalised),
        *(
            Known(f"group_norm.{n}", a)
            for n, a in zip(("scale", "bias", "mean", "variance"), (scale, bias, *neutral), strict=True)
        ),
        epsilon=0.0,
    )
    return lowering.channels_first(image, len(shape))

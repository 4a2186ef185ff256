"""Normalisations by statistics of the data: over trailing axes, over groups of channels, over each channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.elementwise import AddOp, SubOp
from ...dialects.nn.functions import PowOp, ReciprocalOp, SqrtOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.normalization import BatchNormOp
from ...dialects.nn.reduction import ReduceMeanOp
from .lowering import Imported, Known, Lowering


def lower_layer_normalization(lowering: Lowering) -> Sequence[Imported | None]:
    """LayerNormalization over the axes from `axis` on, flattened; Mean and InvStdDev where something reads them."""
    result = _over_trailing_axes(lowering, centred=True)
    outputs: list[Imported | None] = [result, None, None]
    if any(lowering.node.outputs[1:]):
        outputs[1:] = _statistics(lowering)
    return outputs[: len(lowering.node.outputs)]


def _statistics(lowering: Lowering) -> list[Imported | None]:
    """The mean over the axes, and 1 / sqrt(variance + epsilon)."""
    node, shape = lowering.node, lowering.shape(0)
    axes = tuple(range(lowering.axis(node.integer("axis", -1), len(shape)), len(shape)))
    mean = lowering.emit(ReduceMeanOp, lowering.input(0), axes=axes)
    squares = lowering.emit(PowOp, lowering.emit(SubOp, lowering.input(0), mean), exponent=2.0)
    epsilon = Known("epsilon", np.array(node.number("epsilon", 1e-5), np.float32))
    variance = lowering.emit(AddOp, lowering.emit(ReduceMeanOp, squares, axes=axes), epsilon)
    return [mean, lowering.emit(ReciprocalOp, lowering.emit(SqrtOp, variance))]


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

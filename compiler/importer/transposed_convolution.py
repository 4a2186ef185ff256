"""ConvTranspose: a convolution that yields a block of output pixels for every input pixel, then depth to space.

Along one axis tap k of stride s and dilation d adds input i to place q = s i + k d, of which the pads are cut off. The
outputs with q = s t + r, for r = 0 .. s - 1, are a convolution over t of their own: the taps with k d = s j + r read
input t - j. All s * s of them together are one convolution with s * s times the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.movement import SliceOp
from .lowering import Imported, Known, Lowering, Unsupported, shape_of
from .windows import WINDOW_LIMIT, spatial_rank


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis: input size, kernel, stride, dilation, places cut off in front, output size."""

    size: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    out: int

    @property
    def reach(self) -> int:
        """The largest j of any tap: how many inputs before its own an output reads."""
        return (self.kernel - 1) * self.dilation // self.stride

    @property
    def steps(self) -> int:
        """How many t there are up to the last output."""
        return -(-(self.begin + self.out) // self.stride)


def lower_conv_transpose(lowering: Lowering) -> Imported:
    """See the module docstring; the weight [C, O / groups, kernel] must be constant."""
    node, rank = lowering.node, spatial_rank(lowering)
    weight = lowering.array(1, "W")
    shape = lowering.shape(0)
    groups, channels = node.integer("group", 1), shape[1]
    if weight.ndim != rank + 2 or weight.shape[0] != channels or groups < 1 or channels % groups:
        raise lowering.error(f"weight has shape {list(weight.shape)}, data {channels} channels in {groups} groups")
    axes = _axes(lowering, rank, weight.shape[2:])
    if rank == 1:
        weight = weight[:, :, None, :]
    outputs = weight.shape[1] * groups
    bias = lowering.array(2, "B") if lowering.has(2) else None
    if bias is not None and bias.shape != (outputs,):
        raise lowering.error(f"bias has shape {list(bias.shape)}, expected [{outputs}]")
    image = lowering.emit(
        Conv2dOp,
        lowering.channels_last(lowering.input(0)),
        Known(_name(lowering, 1), _kernels(weight, groups, axes)),
        None if bias is None else Known(_name(lowering, 2), _biases(bias, groups, axes)),
        pads=(axes[0].reach, axes[1].reach, *(max(axis.steps - axis.size, 0) for axis in axes)),
        groups=groups,
        macs=shape[0] * axes[0].size * axes[1].size * weight.size,
    )
    return lowering.channels_first(_interleaved(lowering, image, groups, axes), rank + 2)


def _axes(lowering: Lowering, rank: int, kernel: tuple[int, ...]) -> tuple[Axis, Axis]:
    node, sizes = lowering.node, lowering.shape(0)[2:]
    declared = node.integers("kernel_shape")
    if declared is not None and declared != kernel:
        raise lowering.error(f"kernel_shape is {list(declared)}, the weight has {list(kernel)}")
    strides, dilations = (node.integers(name) or (1,) * rank for name in ("strides", "dilations"))
    extra, pads = node.integers("output_padding") or (0,) * rank, node.integers("pads") or (0,) * (2 * rank)
    wanted, mode = node.integers("output_shape"), node.text("auto_pad", "NOTSET") or "NOTSET"
    lists = (strides, dilations, extra, *((wanted,) if wanted is not None else ()))
    if any(len(each) != rank for each in lists) or len(pads) != 2 * rank or min(*strides, *dilations) < 1:
        raise lowering.error("strides, dilations, pads, output_padding or output_shape do not fit the spatial axes")
    if max(*strides, *dilations, *kernel, *pads, *extra) > WINDOW_LIMIT or min(*pads, *extra) < 0:
        raise Unsupported(f"kernel, strides or pads are not within 0 to {WINDOW_LIMIT}")
    found: list[Axis] = []
    for axis in range(rank):
        size, stride = sizes[axis], strides[axis]
        full = stride * (size - 1) + extra[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        begin, out = pads[axis], full - pads[axis] - pads[axis + rank]
        if wanted is not None or mode in ("SAME_UPPER", "SAME_LOWER"):
            out = size * stride if wanted is None else wanted[axis]
            total = max(full - out, 0)
            begin = total // 2 if mode != "SAME_LOWER" else total - total // 2
            if wanted is not None and mode == "NOTSET":
                begin = total - total // 2
        elif mode == "VALID":
            begin, out = 0, full
        if out < 1:
            raise lowering.error(f"the output has {out} elements along axis {axis + 2}, expected at least 1")
        found.append(Axis(size, kernel[axis], stride, dilations[axis], begin, out))
    flat = Axis(1, 1, 1, 1, 0, 1)
    return (found[0], found[1]) if rank == 2 else (flat, found[0])


def _kernels(weight: Array, groups: int, axes: tuple[Axis, Axis]) -> Array:
    """[reach + 1, reach + 1, C / groups, (group, phase, phase, channel)] from [C, O / groups, kernel, kernel]."""
    channels, outputs = weight.shape[:2]
    grouped = weight.reshape(groups, channels // groups, outputs, *weight.shape[2:])
    rows, columns = axes
    shape = (rows.reach + 1, columns.reach + 1, channels // groups, groups, rows.stride, columns.stride, outputs)
    made = np.zeros(shape, weight.dtype)
    for i in range(rows.kernel):
        for j in range(columns.kernel):
            above, row = divmod(i * rows.dilation, rows.stride)
            left, column = divmod(j * columns.dilation, columns.stride)
            tap = grouped[..., i, j].transpose(1, 0, 2)  # [C / groups, groups, O / groups]
            made[rows.reach - above, columns.reach - left, :, :, row, column] = tap
    return made.reshape(*shape[:3], -1)


def _biases(bias: Array, groups: int, axes: tuple[Axis, Axis]) -> Array:
    phases = axes[0].stride * axes[1].stride
    return np.repeat(bias.reshape(groups, 1, -1), phases, axis=1).reshape(-1)


def _interleaved(lowering: Lowering, image: Imported, groups: int, axes: tuple[Axis, Axis]) -> Imported:
    """The blocks of pixels that the channels hold, side by side, without the places that the pads cut off."""
    rows, columns = axes
    batch, height, width, channels = shape_of(image)
    kept = channels // (groups * rows.stride * columns.stride)
    if (rows.stride, columns.stride) != (1, 1):
        split = lowering.reshaped(image, (batch, height, width, groups, rows.stride, columns.stride, kept))
        moved = lowering.transposed(split, (0, 1, 4, 2, 5, 3, 6))
        image = lowering.reshaped(moved, (batch, height * rows.stride, width * columns.stride, groups * kept))
    shape = shape_of(image)
    starts, stops = (
        (0, rows.begin, columns.begin, 0),
        (batch, rows.begin + rows.out, columns.begin + columns.out, shape[3]),
    )
    if (starts, stops) == ((0,) * 4, shape):
        return image
    return lowering.emit(SliceOp, image, starts=starts, stops=stops, steps=(1,) * 4)


def _name(lowering: Lowering, index: int) -> str:
    value = lowering.input(index)
    return value.name if isinstance(value, Known) else "weight"

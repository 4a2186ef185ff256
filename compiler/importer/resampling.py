"""Resize and Upsample, and the operators that trade channels for pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import GatherOp
from .lowering import Imported, Known, Lowering, Unsupported, shape_of
from .tensors import ELEMENT_LIMIT

Position = Callable[[Array, float, int, int], Array]

POSITIONS: dict[str, Position] = {
    "half_pixel": lambda x, scale, size, out: (x + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda x, scale, size, out: (x + 0.5) / scale - 0.5 if out > 1 else x * 0.0,
    "asymmetric": lambda x, scale, size, out: x / scale,
    "align_corners": lambda x, scale, size, out: x * ((size - 1) / (out - 1)) if out > 1 else x * 0.0,
    "half_pixel_symmetric": lambda x, scale, size, out: size / 2 * (1 - out / (scale * size)) + (x + 0.5) / scale - 0.5,
}
"""Where an output index lies in the input, by the names of the standard (Resize, coordinate_transformation_mode)."""

ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def lower_resize(lowering: Lowering) -> Imported:
    """Resize by gathers (nearest) or, axis by axis, by products with constant matrices (linear)."""
    node, shape = lowering.node, lowering.shape(0)
    mode = node.text("mode", "nearest")
    coordinates = node.text("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")
    if mode not in ("nearest", "linear"):
        raise Unsupported(f"mode is '{mode}', expected nearest or linear")
    if coordinates not in POSITIONS:
        raise Unsupported(f"coordinate_transformation_mode is '{coordinates}', expected {', '.join(POSITIONS)}")
    if node.integer("antialias", 0) and mode != "nearest":
        raise Unsupported("antialias is 1, expected 0")
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("keep_aspect_ratio_policy is not stretch")
    rounding = node.text("nearest_mode", "round_prefer_floor" if node.opset >= 11 else "floor")
    if rounding not in ROUNDINGS:
        raise lowering.error(f"nearest_mode is '{rounding}', expected one of {', '.join(ROUNDINGS)}")
    sizes, scales = _sizes_and_scales(lowering, shape)
    partial = [
        a for a, (out, scale) in enumerate(zip(sizes, scales, strict=True)) if abs(out - scale * shape[a]) > 1e-3
    ]
    if coordinates == "align_corners" and partial:
        # The standard aligns the corner of a size that is no integer then, and runtimes do not agree.
        raise Unsupported(
            f"aligns corners of {shape[partial[0]]} * {scales[partial[0]]:g} elements, expected an integer"
        )
    places = {
        axis: POSITIONS[coordinates](np.arange(out, dtype=np.float64), scales[axis], shape[axis], out)
        for axis, out in enumerate(sizes)
        if out != shape[axis] or scales[axis] != 1.0
    }
    data = lowering.input(0)
    if mode == "nearest":
        node.integer("exclude_outside", 0)  # weights of what is outside; a nearest element has none
        for axis, place in places.items():
            indices = np.clip(ROUNDINGS[rounding](place), 0, shape[axis] - 1).astype(int)
            data = lowering.emit(GatherOp, data, axis=axis, indices=tuple(indices.tolist()))
        return data
    return _interpolated(lowering, data, places)


def lower_upsample(lowering: Lowering) -> Imported:
    """Upsample, what Resize was called before opset 10: asymmetric positions, rounded down."""
    return lower_resize(lowering)


def lower_depth_to_space(lowering: Lowering) -> Imported:
    """DepthToSpace, column-row-depth or depth-column-row, on channels-last data."""
    size, (batch, channels, height, width) = _blocks(lowering)
    mode = lowering.node.text("mode", "DCR")
    if channels % size**2 or mode not in ("DCR", "CRD"):
        raise lowering.error(f"{channels} channels in mode {mode}, expected a multiple of {size**2} in DCR or CRD")
    kept = channels // size**2
    split = (size, size, kept) if mode == "DCR" else (kept, size, size)
    order = (0, 1, 3, 2, 4, 5) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    image = lowering.reshaped(lowering.channels_last(lowering.input(0)), (batch, height, width, *split))
    moved = lowering.transposed(image, order)
    return lowering.channels_first(lowering.reshaped(moved, (batch, height * size, width * size, kept)), 4)


def lower_space_to_depth(lowering: Lowering) -> Imported:
    """SpaceToDepth on channels-last data."""
    size, (batch, channels, height, width) = _blocks(lowering)
    if height % size or width % size:
        raise lowering.error(f"the image is {height}x{width}, expected multiples of {size}")
    image = lowering.channels_last(lowering.input(0))
    split = lowering.reshaped(image, (batch, height // size, size, width // size, size, channels))
    # Blocks before channels, or (from opset 28 on, if mode says so) behind them.
    order = (0, 1, 3, 5, 2, 4) if lowering.node.text("mode", "DCR") == "CRD" else (0, 1, 3, 2, 4, 5)
    moved = lowering.transposed(split, order)
    result = (batch, height // size, width // size, size**2 * channels)
    return lowering.channels_first(lowering.reshaped(moved, result), 4)


def _blocks(lowering: Lowering) -> tuple[int, tuple[int, int, int, int]]:
    shape, size = lowering.shape(0), lowering.node.integer("blocksize", 0)
    if len(shape) != 4 or size < 1:
        raise lowering.error(f"data has shape {list(shape)}, blocksize is {size}, expected four axes and at least 1")
    batch, channels, height, width = shape
    return size, (batch, channels, height, width)


def _sizes_and_scales(lowering: Lowering, shape: tuple[int, ...]) -> tuple[list[int], list[float]]:
    """Output size and scale of every axis, from sizes or scales (attribute of opset 7, else inputs)."""
    node, rank = lowering.node, len(shape)
    given = node.attributes.get("axes")
    axes = [lowering.axis(int(axis), rank) for axis in given] if isinstance(given, tuple) else list(range(rank))
    scales: Sequence[float] | None = None
    sizes: Sequence[int] | None = None
    index = 2 if node.opset >= 11 else 1
    attribute = node.attributes.get("scales")
    if isinstance(attribute, tuple):
        scales = [float(value) for value in attribute]
    elif lowering.has(index) and lowering.array(index, "scales").size:
        scales = lowering.array(index, "scales").astype(np.float64).reshape(-1).tolist()
    elif lowering.has(3):
        sizes = lowering.integers(3, "sizes")
    found = scales if scales is not None else sizes
    if found is None or len(found) != len(axes) or not all(value > 0 for value in found):
        raise lowering.error(f"scales or sizes are {found}, expected {len(axes)} positive numbers")
    out, factors = list(shape), [1.0] * rank
    for position, axis in enumerate(axes):
        if scales is not None:
            factors[axis] = scales[position]
            out[axis] = math.floor(shape[axis] * factors[axis])
        elif sizes is not None:
            out[axis] = sizes[position]
            factors[axis] = out[axis] / shape[axis]
    if math.prod(out) > ELEMENT_LIMIT or 0 in out:
        raise Unsupported(f"the result has shape {out}, expected 1 to {ELEMENT_LIMIT} elements")
    return out, factors


def _interpolated(lowering: Lowering, data: Imported, places: dict[int, Array]) -> Imported:
    """Matrix times data for every axis: along rows as [N, H, W * C], along pixels as [N, H, W, C]."""
    rank = len(shape_of(data))
    if any(axis < 2 for axis in places) or rank not in (3, 4):
        raise Unsupported(f"interpolates axes {sorted(places)} of {rank}, expected spatial axes of one or two")
    image = lowering.channels_last(data)
    for axis, place in places.items():
        batch, height, width, channels = shape_of(image)
        if rank == 4 and axis == 2:
            matrix = Known("rows", _linear(place, height))
            rows = lowering.emit(MatmulOp, matrix, lowering.reshaped(image, (batch, height, width * channels)))
            image = lowering.reshaped(rows, (batch, len(place), width, channels))
        else:
            image = lowering.emit(MatmulOp, Known("pixels", _linear(place, width)), image)
    return lowering.channels_first(image, rank)


def _linear(place: Array, size: int) -> Array:
    """The matrix [out, size] that interpolates between the two nearest elements; beyond the ends it repeats them."""
    low = np.floor(place)
    share = place - low
    matrix = np.zeros((len(place), size))
    rows = np.arange(len(place))
    np.add.at(matrix, (rows, np.clip(low, 0, size - 1).astype(int)), 1 - share)
    np.add.at(matrix, (rows, np.clip(low + 1, 0, size - 1).astype(int)), share)
    return matrix.astype(np.float32)

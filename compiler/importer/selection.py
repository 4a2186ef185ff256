"""Operators that repeat or choose elements: Expand, Tile, Where."""

from __future__ import annotations

import numpy as np

from ...dialects.nn.elementwise import AddOp, MulOp
from ...dialects.nn.movement import GatherOp
from .lowering import INDEX_LIMIT, Imported, Known, Lowering, Unsupported, shape_of
from .masking import finite_mask


def lower_expand(lowering: Lowering) -> Imported:
    """Expand to a constant shape: every axis of length 1 that grows repeats its entry."""
    shape, wanted = lowering.shape(0), lowering.integers(1, "shape")
    try:
        target = np.broadcast_shapes(shape, wanted)
    except ValueError:
        raise lowering.error(f"shape {list(shape)} does not broadcast to {list(wanted)}") from None
    data = lowering.reshaped(lowering.input(0), (1,) * (len(target) - len(shape)) + shape)
    return _repeated(lowering, data, [big // small for big, small in zip(target, shape_of(data), strict=True)])


def lower_tile(lowering: Lowering) -> Imported:
    """Tile by constant repeats."""
    shape, repeats = lowering.shape(0), lowering.integers(1, "repeats")
    if len(repeats) != len(shape) or min(repeats, default=1) < 0:
        raise lowering.error(f"repeats are {list(repeats)}, expected {len(shape)} numbers of at least 0")
    if 0 in repeats:
        raise Unsupported(f"the result is empty: repeats are {list(repeats)}")
    return _repeated(lowering, lowering.input(0), list(repeats))


def lower_where(lowering: Lowering) -> Imported:
    """Where with a constant condition: x * c + y * (1 - c)."""
    chosen = lowering.array(0, "condition").astype(bool)
    shapes = [shape_of(lowering.input(index)) for index in range(3)]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        words = ", ".join(str(list(shape)) for shape in shapes)
        raise lowering.error(f"shapes {words} do not broadcast to each other") from None
    parts: list[Imported] = []
    for index, name, mask in ((1, "then", chosen), (2, "else", ~chosen)):
        value = finite_mask(lowering.input(index))
        if isinstance(value, Known):
            kept = np.where(mask, value.array, value.array.dtype.type(0))
            parts.append(Known(f"{value.name}.{name}", kept))
        else:
            parts.append(lowering.emit(MulOp, value, Known(f"condition.{name}", mask.astype(np.float32))))
    return lowering.emit(AddOp, *parts)


def _repeated(lowering: Lowering, data: Imported, repeats: list[int]) -> Imported:
    for axis, count in enumerate(repeats):
        size = shape_of(data)[axis]
        if count != 1:
            if count * size > INDEX_LIMIT:
                raise Unsupported(f"repeats axis {axis} of {size} elements {count} times, to more than {INDEX_LIMIT}")
            data = lowering.emit(GatherOp, data, axis=axis, indices=tuple(range(size)) * count)
    return data

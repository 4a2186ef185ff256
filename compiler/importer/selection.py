"""Operators that repeat or choose elements: Expand, Tile, Trilu, Where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.nn.elementwise import AddOp, MulOp
from ...dialects.nn.movement import GatherOp
from .comparisons import opposite
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


def lower_reverse_sequence(lowering: Lowering) -> Imported:
    """ReverseSequence of constant lengths: the first elements of every sequence backward, the others as they are."""
    shape = lowering.shape(0)
    time, batch = lowering.node.integer("time_axis", 0), lowering.node.integer("batch_axis", 1)
    if len(shape) < 2 or {time, batch} != {0, 1}:
        raise lowering.error(f"time_axis is {time}, batch_axis {batch}, expected 0 and 1 of at least two axes")
    lengths = lowering.integers(1, "sequence_lens")
    if len(lengths) != shape[batch] or not all(0 <= length <= shape[time] for length in lengths):
        raise lowering.error(
            f"sequence_lens are {list(lengths)}, expected {shape[batch]} lengths of at most {shape[time]}"
        )
    if len(set(lengths)) == 1:
        order = (*range(lengths[0] - 1, -1, -1), *range(lengths[0], shape[time]))
        return lowering.emit(GatherOp, lowering.input(0), axis=time, indices=order)
    places = np.arange(shape[0] * shape[1]).reshape(shape[:2])
    columns = places if time == 0 else places.T
    for index, length in enumerate(lengths):
        columns[:length, index] = columns[:length, index][::-1].copy()
    rows = lowering.reshaped(lowering.input(0), (shape[0] * shape[1], *shape[2:]))
    gathered = lowering.emit(GatherOp, rows, axis=0, indices=tuple(places.reshape(-1).tolist()))
    return lowering.reshaped(gathered, shape)


def lower_where(lowering: Lowering) -> Imported:
    """Where: x * c + y * (1 - c); a condition that is constant throughout chooses one of them."""
    shapes = [shape_of(lowering.input(index)) for index in range(3)]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        words = ", ".join(str(list(shape)) for shape in shapes)
        raise lowering.error(f"shapes {words} do not broadcast to each other") from None
    condition = lowering.input(0)
    if not isinstance(condition, Known):
        return _chosen(lowering, lowering.value(condition), shape)
    chosen = condition.array.astype(bool)
    for index, is_chosen in ((1, chosen.all()), (2, not chosen.any())):
        if is_chosen and shapes[index] == shape:
            return lowering.input(index)
    parts: list[Imported] = []
    for index, name, mask in ((1, "then", chosen), (2, "else", ~chosen)):
        value = finite_mask(lowering.input(index))
        if isinstance(value, Known):
            kept = np.where(mask, value.array, value.array.dtype.type(0))
            parts.append(Known(f"{value.name}.{name}", kept))
        else:
            parts.append(lowering.emit(MulOp, value, Known(f"condition.{name}", mask.astype(np.float32))))
    return lowering.emit(AddOp, *parts)


def _chosen(lowering: Lowering, condition: Imported, shape: tuple[int, ...]) -> Imported:
    """X * c + y * (1 - c) with a computed truth value; a side of zeros is left out."""
    otherwise = opposite(lowering, condition)
    sides = [(finite_mask(lowering.input(index)), mask) for index, mask in ((1, condition), (2, otherwise))]
    wide = np.broadcast_shapes(shape_of(condition))
    parts = [
        lowering.emit(MulOp, value, mask)
        for value, mask in sides
        if not (isinstance(value, Known) and not value.array.any() and _covers(sides, value, wide, shape))
    ]
    return parts[0] if len(parts) == 1 else lowering.emit(AddOp, *parts)


def _covers(
    sides: Sequence[tuple[Imported, Imported]], left_out: Known, condition: tuple[int, ...], shape: tuple[int, ...]
) -> bool:
    """True if what is left without one side still has the whole shape."""
    others = [shape_of(value) for value, _ in sides if value is not left_out]
    return bool(others) and np.broadcast_shapes(condition, *others) == shape


def lower_trilu(lowering: Lowering) -> Imported:
    """Trilu: the product with a constant triangle of ones."""
    shape = lowering.shape(0)
    if len(shape) < 2:
        raise lowering.error(f"data has rank {len(shape)}, expected at least 2")
    offset, upper = lowering.whole(1, "k", 0), lowering.node.integer("upper", 1)
    rows, columns = shape[-2:]
    offset = min(max(offset, -rows - 1), columns + 1)
    kept = ~np.tri(rows, columns, offset - 1, dtype=bool) if upper else np.tri(rows, columns, offset, dtype=bool)
    return lowering.emit(MulOp, lowering.input(0), Known("triangle", kept.astype(np.float32)))


def _repeated(lowering: Lowering, data: Imported, repeats: list[int]) -> Imported:
    for axis, count in enumerate(repeats):
        size = shape_of(data)[axis]
        if count != 1:
            if count * size > INDEX_LIMIT:
                raise Unsupported(f"repeats axis {axis} of {size} elements {count} times, to more than {INDEX_LIMIT}")
            data = lowering.emit(GatherOp, data, axis=axis, indices=tuple(range(size)) * count)
    return data

"""Operators that move parts of tensors: Concat, Split, Slice, Pad, Gather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.core.types import TensorType
from ...dialects.nn.movement import ConcatOp, GatherOp, PadOp, SliceOp
from ...dialects.quant.types import QuantizedType
from .indexing import lower_embedding
from .lowering import INDEX_LIMIT, Imported, Known, Lowering, Unsupported, shape_of
from .steps import SHIFTS, real_number


def lower_concat(lowering: Lowering) -> Imported:
    """Concat; inputs without elements are dropped."""
    inputs = [lowering.input(index) for index in range(len(lowering.inputs))]
    axis = lowering.axis(lowering.node.integer("axis", 0), len(shape_of(inputs[0])))
    first = shape_of(inputs[0])
    for index, value in enumerate(inputs):
        shape = shape_of(value)
        if len(shape) != len(first) or any(
            n != m for other, (n, m) in enumerate(zip(shape, first, strict=True)) if other != axis
        ):
            raise lowering.error(
                f"input {index} has shape {list(shape)}, which does not join {list(first)} on axis {axis}"
            )
    filled = [value for value in inputs if shape_of(value)[axis]]
    elements = {value.type.element for value in filled if not isinstance(value, Known)}
    if len(elements) == 1 and isinstance(element := elements.pop(), QuantizedType):
        filled = [_as_stored(lowering, value, element) if isinstance(value, Known) else value for value in filled]
    return filled[0] if len(filled) == 1 else lowering.emit(ConcatOp, *filled, axis=axis)


def _as_stored(lowering: Lowering, known: Known, element: QuantizedType) -> Imported:
    """A constant of integers beside tensors of a quantized type, which it shares."""
    storage, shift = SHIFTS.get(known.array.dtype.name, (None, 0))
    if storage != element.storage or known.steps is not None:
        return known
    array = (known.array.astype(np.int64) - shift).astype(element.dtype)
    return lowering.integer_constant(known.name, array, TensorType(known.shape, element))


def lower_split(lowering: Lowering) -> Sequence[Imported | None]:
    """Split into the given sizes (attribute before opset 13, then an input) or into equal parts."""
    node, shape = lowering.node, lowering.shape(0)
    axis = lowering.axis(node.integer("axis", 0), len(shape))
    size, count = shape[axis], len(node.outputs)
    sizes = node.integers("split")
    if sizes is None and lowering.has(1):
        sizes = lowering.integers(1, "split")
    if sizes is None:
        parts = node.integer("num_outputs", count)
        if parts != count:
            raise lowering.error(f"num_outputs is {parts}, the node has {count} outputs")
        if size % count and node.opset < 18:
            raise lowering.error(f"{size} elements of axis {axis} do not split into {count} equal parts")
        part = -(-size // count)
        sizes = (*(part,) * (count - 1), size - part * (count - 1))
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        raise lowering.error(f"sizes {list(sizes)} do not split {size} elements of axis {axis} into {count} outputs")
    starts = np.cumsum((0, *sizes)).tolist()
    outputs: list[Imported | None] = []
    for name, start, part in zip(node.outputs, starts, sizes, strict=False):
        if not name:
            outputs.append(None)
        elif not part:  # nothing to compute, but a Concat may still read it
            outputs.append(Known(name, np.zeros((*shape[:axis], 0, *shape[axis + 1 :]), np.float32)))
        else:
            outputs.append(sliced(lowering, lowering.input(0), {axis: (start, start + part)}))
    return outputs


def lower_slice(lowering: Lowering) -> Imported:
    """Slice with Python's rules; an axis with a negative step is gathered."""
    node, shape = lowering.node, lowering.shape(0)
    if node.opset < 10:
        starts, ends, steps = node.integers("starts") or (), node.integers("ends") or (), None
        axes = lowering.axes(len(lowering.inputs), len(shape))
    else:
        starts, ends = lowering.integers(1, "starts"), lowering.integers(2, "ends")
        steps = lowering.integers(4, "steps") if lowering.has(4) else None
        axes = lowering.axes(3, len(shape))
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) <= len(shape):
        raise lowering.error(
            f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps "
            f"do not fit a tensor of rank {len(shape)}"
        )
    if 0 in steps:
        raise lowering.error("a step is 0")
    forward: dict[int, tuple[int, int, int]] = {}
    backward: dict[int, tuple[int, ...]] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        chosen = range(*slice(start, end, step).indices(shape[axis]))
        if not chosen:
            raise Unsupported(f"the result is empty: {start} to {end} of {shape[axis]} elements of axis {axis}")
        if step > 0:
            forward[axis] = (chosen.start, chosen[-1] + 1, step)
        else:
            backward[axis] = tuple(chosen)
    result = sliced(lowering, lowering.input(0), {axis: (a, b) for axis, (a, b, _) in forward.items()}, forward)
    for axis, indices in backward.items():
        result = lowering.emit(GatherOp, result, axis=axis, indices=indices)
    return result


def lower_pad(lowering: Lowering) -> Imported:
    """Pad: constant as nn.pad, negative amounts as nn.slice, edge, reflect and wrap as a gather of each axis."""
    node, shape = lowering.node, lowering.shape(0)
    mode = node.text("mode", "constant")
    if node.opset < 11:
        amounts, value, axes = node.integers("pads") or (), node.number("value", 0.0), tuple(range(len(shape)))
    else:
        amounts, value = lowering.integers(1, "pads"), lowering.scalar(2, "constant_value", 0.0)
        given = lowering.axes(3, len(shape))
        axes = tuple(range(len(shape))) if given is None else given
        element = None if isinstance(lowering.input(0), Known) else lowering.value(lowering.input(0)).type.element
        if lowering.has(2) and isinstance(element, QuantizedType):
            value = real_number(element, lowering.array(2, "constant_value"))
    if len(amounts) != 2 * len(axes):
        raise lowering.error(f"{len(amounts)} pads, expected {2 * len(axes)}")
    low, high = [0] * len(shape), [0] * len(shape)
    for position, axis in enumerate(axes):
        low[axis], high[axis] = amounts[position], amounts[position + len(axes)]
    kept = {axis: (max(0, -low[axis]), size - max(0, -high[axis])) for axis, size in enumerate(shape)}
    if any(start >= stop for start, stop in kept.values()):
        raise Unsupported(f"the result is empty: pads {list(amounts)} remove all of shape {list(shape)}")
    data = sliced(lowering, lowering.input(0), kept)
    low, high = [max(0, amount) for amount in low], [max(0, amount) for amount in high]
    if not any(low) and not any(high):
        return data
    if max(*low, *high) > INDEX_LIMIT:
        raise Unsupported(f"pads {list(amounts)} are larger than {INDEX_LIMIT}")
    if mode == "constant":
        if not np.isfinite(value):
            raise Unsupported(f"the padding is {value}, expected a finite number")
        return lowering.emit(PadOp, data, low=tuple(low), high=tuple(high), value=value)
    if mode not in ("edge", "reflect", "wrap"):
        raise lowering.error(f"mode is '{mode}', expected constant, edge, reflect or wrap")
    for axis, (before, after) in enumerate(zip(low, high, strict=True)):
        size = shape_of(data)[axis]
        if not before and not after:
            continue
        if mode == "reflect" and max(before, after) >= size:
            raise lowering.error(f"reflects {max(before, after)} elements of axis {axis}, which has {size}")
        indices = np.pad(np.arange(size), (before, after), mode=mode).tolist()
        data = lowering.emit(GatherOp, data, axis=axis, indices=tuple(indices))
    return data


def lower_gather(lowering: Lowering) -> Imported:
    """Gather with constant indices of any rank; consecutive ones are a slice, a scalar drops the axis."""
    data, shape = lowering.input(0), lowering.shape(0)
    axis = lowering.axis(lowering.node.integer("axis", 0), len(shape))
    if not isinstance(lowering.input(1), Known):
        return lower_embedding(lowering, axis)
    given, wanted = lowering.integers(1, "indices"), lowering.shape(1)
    wrong = [index for index in given if not -shape[axis] <= index < shape[axis]]
    if wrong:
        raise lowering.error(f"index {wrong[0]} is out of range for axis {axis} of size {shape[axis]}")
    indices = tuple(index % shape[axis] for index in given)
    if not indices:
        raise Unsupported("the result is empty: no indices")
    if indices == tuple(range(indices[0], indices[0] + len(indices))):
        picked = sliced(lowering, data, {axis: (indices[0], indices[-1] + 1)})
    else:
        picked = lowering.emit(GatherOp, data, axis=axis, indices=indices)
    return lowering.reshaped(picked, (*shape[:axis], *wanted, *shape[axis + 1 :]))


def sliced(
    lowering: Lowering,
    data: Imported,
    bounds: dict[int, tuple[int, int]],
    strided: dict[int, tuple[int, int, int]] | None = None,
) -> Imported:
    """Keep [start, stop) of the axes in `bounds`, every step-th element where `strided` names a step."""
    shape = shape_of(data)
    full = [bounds.get(axis, (0, size)) for axis, size in enumerate(shape)]
    steps = [(strided or {}).get(axis, (0, 0, 1))[2] for axis in range(len(shape))]
    if full == [(0, size) for size in shape] and set(steps) <= {1}:
        return data
    return lowering.emit(
        SliceOp,
        data,
        starts=tuple(start for start, _ in full),
        stops=tuple(stop for _, stop in full),
        steps=tuple(steps),
    )

"""Operators that rename axes or ask for shapes: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Shape, Constant."""

from __future__ import annotations

import math

import numpy as np

from .lowering import Imported, Known, Lowering, Unsupported


def lower_reshape(lowering: Lowering) -> Imported:
    """Reshape: 0 copies an axis (unless allowzero), -1 is what remains."""
    shape, wanted = lowering.shape(0), lowering.integers(1, "shape")
    resolved = list(wanted)
    if not lowering.node.integer("allowzero", 0):
        if any(n == 0 and axis >= len(shape) for axis, n in enumerate(wanted)):
            raise lowering.error(f"shape {list(wanted)} copies an axis that data of shape {list(shape)} does not have")
        resolved = [shape[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    size = math.prod(shape)
    if resolved.count(-1) == 1:
        rest = math.prod(n for n in resolved if n != -1)
        resolved[resolved.index(-1)] = size // rest if rest > 0 and size % rest == 0 else -1
    if min(resolved, default=1) < 0 or math.prod(resolved) != size:
        raise lowering.error(f"{size} elements of shape {list(shape)} cannot take the shape {list(wanted)}")
    return lowering.reshaped(lowering.input(0), resolved)


def lower_flatten(lowering: Lowering) -> Imported:
    """Flatten to two axes before and from `axis`."""
    shape = lowering.shape(0)
    axis = lowering.node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise lowering.error(f"axis {axis} is out of range for a tensor of rank {len(shape)}")
    axis += len(shape) if axis < 0 else 0
    return lowering.reshaped(lowering.input(0), (math.prod(shape[:axis]), math.prod(shape[axis:])))


def lower_squeeze(lowering: Lowering) -> Imported:
    """Drop axes of size 1: the given ones, or all."""
    shape = lowering.shape(0)
    axes = lowering.axes(1, len(shape))
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    wrong = [axis for axis in axes if shape[axis] != 1]
    if wrong:
        raise lowering.error(f"axis {wrong[0]} has size {shape[wrong[0]]}, expected 1")
    return lowering.reshaped(lowering.input(0), [size for axis, size in enumerate(shape) if axis not in axes])


def lower_unsqueeze(lowering: Lowering) -> Imported:
    """Insert axes of size 1 at the given places of the result."""
    shape = lowering.shape(0)
    given = lowering.node.integers("axes")
    count = len(given) if given is not None else len(lowering.integers(1, "axes"))
    axes = lowering.axes(1, len(shape) + count) or ()
    remaining = iter(shape)
    result = [1 if axis in axes else next(remaining) for axis in range(len(shape) + count)]
    return lowering.reshaped(lowering.input(0), result)


def lower_transpose(lowering: Lowering) -> Imported:
    """Transpose; the axes are reversed by default."""
    rank = len(lowering.shape(0))
    permutation = lowering.node.integers("perm") or tuple(reversed(range(rank)))
    if sorted(permutation) != list(range(rank)):
        raise lowering.error(f"perm {list(permutation)} does not order the axes of a tensor of rank {rank}")
    return lowering.transposed(lowering.input(0), permutation)


def lower_shape(lowering: Lowering) -> Imported:
    """The shape, or its part from `start` to `end`, as a constant."""
    node = lowering.node
    shape = lowering.shape(0)
    part = shape[node.integer("start", 0) : node.integer("end", len(shape))]
    return Known(node.outputs[0], np.array(part, np.int64))


def lower_size(lowering: Lowering) -> Imported:
    """The number of elements, as a constant."""
    return Known(lowering.node.outputs[0], np.array(math.prod(lowering.shape(0)), np.int64))


def lower_constant_of_shape(lowering: Lowering) -> Imported:
    """Only reached with a shape that is computed at run time, since constants are folded: always Unsupported."""
    raise Unsupported(f"input 'input' of {lowering.node.op_type} is computed at run time, expected a constant")


def lower_constant(lowering: Lowering) -> Imported:
    """Constant: every kind of value but strings."""
    node = lowering.node
    for kind, dtype in _CONSTANT_KINDS.items():
        value = node.attributes.get(kind)
        if value is None:
            continue
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype)
        return Known(node.outputs[0], array)
    raise Unsupported("the value is a string, expected numbers")


_CONSTANT_KINDS = {
    "value": None,
    "sparse_value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}

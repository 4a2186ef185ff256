"""Operators with indices that are computed: Gather of a table's rows, OneHot, ArgMax and ArgMin."""

from __future__ import annotations

import math

import numpy as np

from ...dialects.nn.functions import NegOp
from ...dialects.nn.indexing import ArgMaxOp, EmbeddingOp
from ...dialects.quant.indices import MOST_ROWS
from .lowering import Imported, Known, Lowering, Unsupported, shape_of


def lower_embedding(lowering: Lowering, axis: int) -> Imported:
    """Gather along `axis` of constant data with computed indices: rows of a table, moved to where they belong."""
    data, indices = lowering.input(0), lowering.input(1)
    if not isinstance(data, Known):
        raise Unsupported("input 'indices' is computed at run time and so is 'data', expected one of them constant")
    shape, wanted = data.shape, shape_of(indices)
    if lowering.kinds[1] is None:
        raise lowering.error("input 'indices' is float32, expected integers")
    if not 1 <= shape[axis] <= MOST_ROWS:
        raise Unsupported(f"axis {axis} has {shape[axis]} elements, at most {MOST_ROWS} are chosen from at run time")
    rest = (*shape[:axis], *shape[axis + 1 :])
    order = (axis, *(other for other in range(len(shape)) if other != axis))
    table = lowering.reshaped(lowering.transposed(data, order), (shape[axis], math.prod(rest)))
    rows = lowering.reshaped(lowering.emit(EmbeddingOp, indices, table), (*wanted, *rest))
    before, middle = len(wanted), len(wanted) + axis
    return lowering.transposed(rows, (*range(before, middle), *range(before), *range(middle, before + len(rest))))


def lower_one_hot(lowering: Lowering) -> Imported:
    """OneHot with constant depth and values: rows of a table with the second value on its diagonal."""
    indices, depth = lowering.input(0), lowering.whole(1, "depth", 0)
    values = lowering.array(2, "values")
    if values.size != 2:
        raise lowering.error(f"input 'values' has shape {list(values.shape)}, expected two elements")
    off, on = (float(value) for value in values.reshape(-1))
    if not 1 <= depth <= LARGEST_DEPTH:
        raise Unsupported(f"the depth is {depth}, expected 1 to {LARGEST_DEPTH}")
    if isinstance(indices, Known) or lowering.kinds[0] is None:
        raise Unsupported("the indices are no integers that are computed")
    table = np.where(np.eye(depth, dtype=bool), np.float32(on), np.float32(off))
    rows = lowering.emit(EmbeddingOp, indices, Known("one_hot", table))
    rank = len(shape_of(rows))
    axis = lowering.axis(lowering.node.integer("axis", -1), rank)
    order = [*range(rank - 1)]
    return lowering.transposed(rows, (*order[:axis], rank - 1, *order[axis:]))


LARGEST_DEPTH = 2048
"""The table of a OneHot has the square of its depth."""


def lower_arg_max(lowering: Lowering) -> Imported:
    """ArgMax along one axis, which is moved to the end."""
    return _searched(lowering, lowering.input(0))


def lower_arg_min(lowering: Lowering) -> Imported:
    """ArgMin = ArgMax of the opposite."""
    return _searched(lowering, lowering.emit(NegOp, lowering.input(0)))


def _searched(lowering: Lowering, data: Imported) -> Imported:
    node, shape = lowering.node, shape_of(data)
    axis = lowering.axis(node.integer("axis", 0), len(shape))
    if shape[axis] > MOST_ROWS:
        raise Unsupported(f"axis {axis} has {shape[axis]} elements, at most {MOST_ROWS} are searched")
    order = (*(other for other in range(len(shape)) if other != axis), axis)
    last = bool(node.integer("select_last_index", 0))
    found = lowering.emit(ArgMaxOp, lowering.transposed(data, order), last=last)
    kept = [1 if other == axis else size for other, size in enumerate(shape)]
    return lowering.reshaped(found, kept) if node.integer("keepdims", 1) else found

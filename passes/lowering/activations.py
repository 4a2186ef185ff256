"""Matrix products whose right side is an activation, or a stack of matrices: one product on the blocks for each matrix.

The right side stays where it was written: tile.matmul loads it into the blocks row by row, or as it stands where the
product wants it transposed. Zero points of both sides are subtracted by the instruction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects.core.operation import Value
from ...dialects.core.types import Array
from ...dialects.nn import MatmulOp
from ...dialects.quant.types import QuantizedType, number_of
from ...dialects.tile import array, vector
from ...dialects.tile.elements import ELEMENTS
from .drain import Drain
from .emission import Emitter, Share, row_strides
from .mapping import Geometry, Mapping
from .mapping_search import MappingSearch
from .views import View, element_name


def emit_activation_product(emitter: Emitter, op: MatmulOp, search: MappingSearch) -> None:
    """One matmul and its requantizations for every matrix of the result; CompileError as `Drain.of`."""
    macs, drain = op.macs_total, Drain.of(op)
    emitter.begin_layer(op, "matmul", drain.operation, macs=macs)
    *leading, rows, columns = op.out.type.shape
    depth = op.lhs.type.shape[-1]
    lefts, rights = (_matrices(emitter.view(value), value.type.shape) for value in (op.lhs, op.rhs))
    geometry = _geometry(op, rows, depth, columns)
    mapping = search.choose(op, geometry, lefts[0].strides[1:3])
    parameters = emitter.load_constant(emitter.name("parameters"), drain.records)
    pairs = _pairs(op, leading)
    share = Share(macs, len(pairs))
    places = [
        (first, _matrices(view, (*op.out.type.shape[:-1], count)))
        for first, count, view in emitter.outputs(drain.output)
    ]
    aligned: dict[int, View] = {}
    for index, (left, right) in enumerate(pairs):
        if left not in aligned:
            aligned[left] = _aligned(emitter, lefts[left])
        accumulator = _multiply(emitter, op, geometry, mapping, aligned[left], rights[right], share.next(1))
        for first, matrices in places:
            _requantize(emitter, op, drain, accumulator, parameters, first, matrices[index])
    emitter.written(drain.output)


def _multiply(
    emitter: Emitter, op: MatmulOp, geometry: Geometry, mapping: Mapping, left: View, right: View, macs: int
) -> Value[Any]:
    columns = emitter.target.array.columns
    rows = -(-geometry.out_c // columns) * geometry.out_h
    accumulator = emitter.allocate("acc", rows, emitter.name("acc"), columns=columns)
    rhs = op.rhs.type.element
    emitter.add(
        array.MatmulOp,
        [left.buffer, right.buffer, accumulator],
        **row_strides("input", left),
        **geometry.attributes(),
        **mapping.attributes(),
        weights_offset=right.offset,
        weights_stride=right.strides[1],
        transposed=op.transpose_rhs,
        tile_columns=columns,
        input_zero=number_of(op.lhs.type).zero_point,
        weights_zero=rhs.zero_point if isinstance(rhs, QuantizedType) else 0,
        useful_macs=macs,
    )
    return accumulator


def _requantize(
    emitter: Emitter,
    product: MatmulOp,
    drain: Drain,
    accumulator: Value[Any],
    parameters: Value[Any],
    first: int,
    place: View,
) -> None:
    _, rows, _, count = place.shape
    element = element_name(product.lhs)
    emitter.add(
        vector.RequantizeOp,
        [accumulator, parameters, place.buffer],
        **row_strides("output", place),
        out_h=rows,
        out_w=1,
        out_c=count,
        accumulator_element=element,
        parameters_offset=ELEMENTS[element].record_bytes * first,
        tile_columns=emitter.target.array.columns,
        group_columns=product.out.type.shape[-1],
        first_column=first,
        **drain.attributes,
    )


def _matrices(view: View, shape: tuple[int, ...]) -> list[View]:
    """The matrices [1, rows, 1, columns] of a stack, in row-major order of its leading axes."""
    if len(shape) == 2:
        return [view]
    samples, stack, rows, columns = view.shape
    strides = (view.strides[0], view.strides[2], view.strides[2], view.strides[3])
    return [
        View(
            view.buffer,
            view.offset + n * view.strides[0] + m * view.strides[1],
            (1, rows, 1, columns),
            strides,
            view.size,
        )
        for n in range(samples)
        for m in range(stack)
    ]


def _pairs(op: MatmulOp, leading: list[int]) -> list[tuple[int, int]]:
    """Which matrix of the left and which of the right side make each matrix of the result."""

    def spread(shape: tuple[int, ...]) -> Array:
        index = np.arange(int(np.prod(shape[:-2]))).reshape(shape[:-2])
        return np.broadcast_to(index, leading).reshape(-1)

    return list(zip(spread(op.lhs.type.shape).tolist(), spread(op.rhs.type.shape).tolist(), strict=True))


def _geometry(op: MatmulOp, rows: int, depth: int, columns: int) -> Geometry:
    ones = dict.fromkeys(
        ("in_w", "out_w", "groups", "kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"), 1
    )
    return Geometry(
        in_h=rows,
        in_c=depth,
        out_h=rows,
        out_c=columns,
        pad_top=0,
        pad_left=0,
        element=element_name(op.lhs),
        weights_element=element_name(op.rhs),
        **ones,
    )


def _aligned(emitter: Emitter, matrix: View) -> View:
    """The left side, copied to line boundaries if the crossbar cannot rotate lanes."""
    if emitter.placement.is_aligned(matrix):
        return matrix
    copy = emitter.temporary(matrix.shape, "aligned", matrix.size, emitter.target.sram.line_bytes)
    emitter.move(matrix, copy)
    return copy

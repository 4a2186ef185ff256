"""Convolutions and matrix products with constant weights on the blocks, followed by requantization."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ...backends.target import Target
from ...dialects.core.operation import Constant, Value
from ...dialects.core.types import Array, scalar_type
from ...dialects.nn import Conv2dOp, MatmulOp
from ...dialects.quant.types import number_of
from ...dialects.tile import array, pooling, vector
from .drain import Drain
from .emission import Emitter, Share, image_shape, row_strides
from .mapping import Geometry, Mapping
from .mapping_search import MappingSearch
from .views import View, element_name, shape4


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product with what becomes of its sums, in one form.

    `weight` is [kernel_h, kernel_w, in_c / groups, out_c].
    """

    op: Conv2dOp | MatmulOp
    drain: Drain
    geometry: Geometry
    weight: Array

    @classmethod
    def of(cls, op: Conv2dOp | MatmulOp) -> Product:
        """Read an nn.conv2d, or an nn.matmul with a constant matrix; CompileError as `Drain.of`."""
        data, weight = op.operands[0], cast(Constant, op.operands[1]).array
        strides, dilations, pads, groups = (1, 1), (1, 1), (0, 0, 0, 0), 1
        if isinstance(op, Conv2dOp):
            strides, dilations, pads, groups = op.strides, op.dilations, op.pads, op.groups
        else:
            weight = weight[None, None]
        in_h, in_w, in_c = image_shape(data)
        out_h, out_w, out_c = image_shape(op.result)
        geometry = Geometry(
            in_h=in_h,
            in_w=in_w,
            in_c=in_c // groups,
            out_h=out_h,
            out_w=out_w,
            out_c=out_c // groups,
            groups=groups,
            kernel_h=weight.shape[0],
            kernel_w=weight.shape[1],
            stride_h=strides[0],
            stride_w=strides[1],
            dilation_h=dilations[0],
            dilation_w=dilations[1],
            pad_top=pads[0],
            pad_left=pads[1],
            element=element_name(data),
            weights_element=str(scalar_type(weight.dtype)),
        ).trimmed()
        return cls(op, Drain.of(op), geometry, weight)

    def records(self, channels: Array) -> Array:
        """The packed parameters of these output channels, int8 bytes."""
        return self.drain.records[channels].reshape(-1)

    @property
    def zero_point(self) -> int:
        """The zero point of the input, which padding takes."""
        return number_of(self.op.operands[0].type).zero_point

    def pieces(self, target: Target) -> list[tuple[int, int, Geometry]]:
        """(first output column, first input pixel, geometry) of pieces whose rows fit the accumulators twice.

        Strips are cut along rows only, so images wider than half of the accumulators are cut into columns here, but for
        sequences, whose pixels become rows.
        """
        geometry = self.geometry
        widest = geometry.out_w if geometry.is_sequence else max(1, target.accumulators.rows // 2)
        count = -(-geometry.out_w // widest)
        width = -(-geometry.out_w // count)
        starts = range(0, geometry.out_w, width)
        return [(start, *geometry.columns(start, min(width, geometry.out_w - start))) for start in starts]

    @property
    def output(self) -> Value[Any]:
        """The tensor that the sums become."""
        return self.drain.output


def emit_product(emitter: Emitter, product: Product, search: MappingSearch) -> None:
    """Choose a mapping and emit the layer: weights, the product for each sample, requantization to each destination."""
    source = emitter.view(product.op.operands[0])
    geometry = product.geometry
    piece, strides = product.pieces(emitter.target)[0][2], source.strides[1:3]
    if piece.is_sequence:
        piece, strides = piece.turned(), (strides[1], strides[0])
    mapping = search.choose(product.op, piece, strides)
    kind = "depthwise" if geometry.is_depthwise else "grouped conv" if geometry.groups > 1 else "conv"
    kind = "matmul" if isinstance(product.op, MatmulOp) else kind
    macs = product.op.macs_total
    emitter.begin_layer(product.op, kind, product.drain.operation, macs=macs)
    if mapping.on_vector_unit:
        _emit_depthwise(emitter, product, source, macs)
    else:
        _emit_on_blocks(emitter, product, mapping, source, macs)
    emitter.written(product.output)


def _emit_on_blocks(emitter: Emitter, product: Product, mapping: Mapping, source: View, macs: int) -> None:
    geometry, columns = mapping.packed(product.geometry), emitter.target.array.columns
    source, group_stride = _aligned_input(emitter, geometry, mapping, source)
    image = _weight_image(product, geometry, mapping, columns)
    weights = emitter.load_constant(emitter.name("weights"), image)
    samples = shape4(product.output.type.shape)[0]
    ranges = _column_ranges(emitter, product, geometry, mapping)
    blocks = [_records(product, geometry, mapping, *r[:4]) for r in ranges]
    parameters = emitter.load_constant(emitter.name("parameters"), np.concatenate(blocks))
    starts = np.cumsum([0, *(len(block) for block in blocks)])
    tiles = -(-geometry.out_c // columns)
    pieces, share = product.pieces(emitter.target), Share(macs, samples * product.geometry.out_w)
    for sample, (start, pixel, part) in itertools.product(range(samples), pieces):
        geometry = mapping.packed(part)
        pixels = geometry.out_h * geometry.out_w
        rows = geometry.groups * tiles * pixels
        accumulator = emitter.allocate("acc", rows, emitter.name("acc"), columns=columns)
        emitter.add(
            array.MatmulOp,
            [source.buffer, weights, accumulator],
            **row_strides("input", source.sample(sample).narrowed(2, pixel, geometry.in_w)),
            **geometry.attributes(),
            **mapping.attributes(),
            input_group_stride=group_stride if geometry.groups > 1 else 0,
            tile_columns=columns,
            zero_point=product.zero_point,
            useful_macs=share.next(geometry.out_w),
        )
        for index, (first_group, groups, first, count, view, stride) in enumerate(ranges):
            emitter.add(
                vector.RequantizeOp,
                [accumulator, parameters, view.buffer],
                **row_strides("output", view.sample(sample).narrowed(2, start, geometry.out_w)),
                out_h=geometry.out_h,
                out_w=geometry.out_w,
                out_c=count,
                accumulator_offset=first_group * tiles * pixels,
                parameters_offset=int(starts[index]),
                tile_columns=columns,
                groups=groups,
                group_columns=geometry.out_c,
                first_column=first,
                output_group_stride=stride * view.size if groups > 1 else 0,
                accumulator_element=geometry.element,
                **product.drain.attributes,
            )


def _emit_depthwise(emitter: Emitter, product: Product, source: View, macs: int) -> None:
    geometry = product.geometry
    samples = shape4(product.output.type.shape)[0]
    taps = geometry.kernel_h * geometry.kernel_w
    places, copies = emitter.computed_outputs(product.output)
    share = Share(macs, samples * sum(count for _, count, _ in places))
    for first, count, view in places:
        channels = slice(first, first + count)
        weight = product.weight.reshape(taps, geometry.groups)[:, channels]
        weights = emitter.load_constant(emitter.name("weights"), weight)
        packed = product.records(np.arange(first, first + count))
        parameters = emitter.load_constant(emitter.name("parameters"), packed)
        for sample in range(samples):
            emitter.add(
                pooling.DepthwiseOp,
                [source.buffer, weights, parameters, view.buffer],
                **row_strides("input", source.channels(first, count).sample(sample)),
                **row_strides("output", view.sample(sample)),
                **geometry.window_attributes(),
                channels=count,
                input_zero=product.zero_point,
                **product.drain.attributes,
                useful_macs=share.next(count),
            )
    emitter.copy(copies)


def _aligned_input(emitter: Emitter, geometry: Geometry, mapping: Mapping, source: View) -> tuple[View, int]:
    """The input and its group stride, copied to line boundaries if the crossbar cannot rotate lanes."""
    line = emitter.target.sram.line_bytes
    size = source.size
    dense = geometry.in_c * size
    straight = geometry.groups == 1 or dense % line == 0
    if emitter.placement.is_aligned(source) and (straight or emitter.target.crossbar.lane_rotation):
        return source, dense
    group_stride = -(-dense // line) * line if geometry.groups > 1 else dense
    n, h, w, _ = source.shape
    copy = emitter.temporary((n, h, w, geometry.groups * group_stride // size), "aligned", size, line)
    for sample in range(n):
        a, b = source.sample(sample), copy.sample(sample)
        sizes = (h, w, geometry.groups, geometry.in_c)
        from_strides = (a.strides[1], a.strides[2], dense, size)
        emitter.strided_move(a, b, sizes, from_strides, (b.strides[1], b.strides[2], group_stride, size))
    return copy, group_stride


def _weight_image(product: Product, geometry: Geometry, mapping: Mapping, columns: int) -> Array:
    """The weights in the order in which the matmul instruction reads them, flat."""
    taps = geometry.kernel_h * geometry.kernel_w
    if mapping.diagonal:
        matrices = product.weight.reshape(1, taps, geometry.out_c)
    else:
        matrices = _packed_weights(product, geometry, mapping)
    groups, depth, width = matrices.shape
    full = width // columns * columns
    tiles = np.moveaxis(matrices[..., :full].reshape(groups, depth, -1, columns), 2, 1)
    parts = [tiles.reshape(groups, -1), matrices[..., full:].reshape(groups, -1)]
    return np.concatenate(parts, axis=1).reshape(-1)


def _packed_weights(product: Product, geometry: Geometry, mapping: Mapping) -> Array:
    """Weight matrices [groups, taps * in_c, out_c]; groups that share a tile stand block-diagonally, zeros between."""
    own, pack = product.geometry, mapping.pack
    taps = own.kernel_h * own.kernel_w
    grouped = product.weight.reshape(taps, own.in_c, geometry.groups, pack, own.out_c)
    packed = np.zeros((geometry.groups, taps, pack, own.in_c, pack, own.out_c), product.weight.dtype)
    index = np.arange(pack)
    packed[:, :, index, :, index, :] = np.moveaxis(grouped, (3, 2), (0, 1))
    return packed.reshape(geometry.groups, taps * geometry.in_c, geometry.out_c)


ColumnRange = tuple[int, int, int, int, View, int]


def _column_ranges(emitter: Emitter, product: Product, geometry: Geometry, mapping: Mapping) -> list[ColumnRange]:
    """(first group, groups, first column in the group, columns, place, group stride) of each requantization."""
    width = geometry.out_c
    ranges: list[ColumnRange] = []
    for first, count, view in emitter.outputs(product.output):
        if (first, count) == (0, width * geometry.groups):
            ranges.append((0, geometry.groups, 0, width, view, width))
            continue
        position = first
        while position < first + count:
            group, column = divmod(position, width)
            length = min(width - column, first + count - position)
            ranges.append((group, 1, column, length, view.channels(position - first, length), 0))
            position += length
    return ranges


def _records(
    product: Product, geometry: Geometry, mapping: Mapping, first_group: int, groups: int, first: int, count: int
) -> Array:
    index = np.arange(first_group, first_group + groups)[:, None] * geometry.out_c + np.arange(first, first + count)
    return product.records(index.reshape(-1))

"""Element-wise instructions of the fast path: transfers, moves, fills, add and multiply, tables."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...dialects.core.types import Array
from ...dialects.quant.tables import looked_up
from ...dialects.tile.instruction import Region
from ...dialects.tile.movement import FillOp
from ...dialects.tile.normalization import ChannelwiseOp
from ...dialects.tile.records import unpack_multipliers
from ...dialects.tile.types import strided_view
from ...dialects.tile.vector import BinaryOp, LookupOp, RescaleOp, UnaryVectorOp
from .kernels import Clip, sum_kernel
from .memory import Scratch
from .plain import Step
from .rounding import Rounding, block_slices, is_mergeable, merged

_BLOCK = 1 << 16


def region_view(region: Region, memory: Array, base: int = 0) -> Array:
    """The elements of a region as a view [..., *shape]; the memory starts at address `base`."""
    return strided_view(memory, region.offset - base, region.shape, region.strides)


def copy_step(source: Array, target: Array) -> Step:
    """Bind a copy of [samples, ...] or, shared by all samples, [...]; overlapping memory reads before it writes."""

    def run() -> None:
        np.copyto(target, source)

    return run


def fill_step(op: FillOp, sram: Array) -> Step:
    """Bind a fill."""
    value, target = op.element_of("output").stored(op.value), op.output_view(sram)

    def run() -> None:
        target.fill(value)

    return run


def binary_step(op: BinaryOp, sram: Array, scratch: Scratch) -> Step:
    """Bind add, sub or mul: exact sums or products in float64, one rounding."""
    left, right = op.input_views(sram, sram)
    out = op.output_view(sram)
    scale = 2.0**-op.shift
    clip = (op.zero_point, op.low, op.high)
    first = op.lhs_multiplier * scale
    if op.kind != "mul":
        second = op.rhs_multiplier * scale * (-1 if op.kind == "sub" else 1)
        offset = -(op.lhs_zero * first + op.rhs_zero * second)
        return sum_step((left, first), (right, second), offset, out, clip, scratch)
    blocks: list[tuple[Array, Array, Array, Array, Rounding]] = []
    for index in block_slices(out.shape):
        total = scratch.take("binary", out[index].shape, np.float64)
        other = scratch.take("binary other", out[index].shape, np.float64)
        rounding = Rounding(total, out[index], first, 0.0, clip, scratch)
        blocks.append((left[index], right[index], total, other, rounding))

    def multiply() -> None:
        for a, b, total, other, rounding in blocks:
            np.copyto(total, a)
            np.subtract(total, op.lhs_zero, out=total)
            np.copyto(other, b)
            np.subtract(other, op.rhs_zero, out=other)
            np.multiply(total, other, out=total)
            rounding()

    return multiply


def sum_step(
    left: tuple[Array, float],
    right: tuple[Array, float],
    offset: float,
    out: Array,
    clip: Clip,
    scratch: Scratch,
) -> Step:
    """Bind out = round(left * factor + right * factor + offset), each side with its factor; exact in float64."""
    (one, first), (two, second) = left, right
    if all(is_mergeable(a) for a in (one, two, out)):
        one, two, out = (merged(a) for a in (one, two, out))
    if scratch.compiled:
        kernel = sum_kernel(one, two, out, (first, second), offset, clip)
        if kernel is not None:
            return kernel
    blocks: list[tuple[Array, Array, Array, Array, Rounding]] = []
    for index in block_slices(out.shape):
        total = scratch.take("binary", out[index].shape, np.float64)
        other = scratch.take("binary other", out[index].shape, np.float64)
        rounding = Rounding(total, out[index], 1.0, offset, clip, scratch)
        blocks.append((one[index], two[index], total, other, rounding))

    def add() -> None:
        for a, b, total, other, rounding in blocks:
            np.copyto(total, a)
            np.multiply(total, first, out=total)
            np.copyto(other, b)
            np.multiply(other, second, out=other)
            np.add(total, other, out=total)
            rounding()

    return add


def lookup_step(op: LookupOp, table: Array, sram: Array) -> Step:
    """Bind a known table: of 256 bytes, or of 513 numbers of 16 bits."""
    if op.element == "i8":
        return _table_step(op, table, sram)
    entries = table.view(op.element_of("table").dtype)
    source, out = op.input_view(sram), op.output_view(sram)
    blocks = [(source[index], out[index]) for index in block_slices(out.shape, _BLOCK)]

    def run() -> None:
        for piece, target in blocks:
            np.copyto(target, looked_up(piece, entries))

    return run


def rescale_step(op: RescaleOp, parameters: Array, sram: Array, scratch: Scratch) -> Step:
    """Bind a rescale with known multipliers: one pair is a table of 256 results, else float64 per channel."""
    pairs = op.out_c if op.per_channel else 1
    multiplier, shift = unpack_multipliers(parameters, 0, 2 * pairs)
    factor: Array = np.ldexp(multiplier.astype(np.float64), -shift.astype(np.int32))
    clip = (op.zero_point, op.low, op.high)
    if not op.per_channel and op.input_element == op.element == "i8":
        values: Array = np.arange(-128, 128).astype(np.float64) - op.input_zero
        table = np.empty(256, np.int8)
        steps: Array = np.where(values >= 0, float(factor[0]), float(factor[1])) * values
        Rounding(steps[None, None], table[None, None], 1.0, 0.0, clip, Scratch())()
        return _table_step(op, table, sram)
    source, out = op.input_view(sram), op.output_view(sram)
    blocks: list[tuple[Array, Array, Array, Array, Rounding]] = []
    for index in block_slices(out.shape):
        values = scratch.take("rescale", out[index].shape, np.float64)
        below = scratch.take("rescale below", out[index].shape, np.float64)
        negative = scratch.take("rescale mask", out[index].shape, np.bool_)
        blocks.append((source[index], values, below, negative, Rounding(values, out[index], 1.0, 0.0, clip, scratch)))

    def run() -> None:
        for piece, values, below, negative, rounding in blocks:
            np.copyto(values, piece)
            np.subtract(values, op.input_zero, out=values)
            np.less(values, 0, out=negative)
            np.multiply(values, factor[1::2], out=below)
            np.multiply(values, factor[0::2], out=values)
            np.copyto(values, below, where=negative)
            rounding()

    return run


def channelwise_step(op: ChannelwiseOp, sram: Array) -> Step:
    """Bind a softmax or a normalisation for all samples at once; they share its table, where it stands in memory."""
    return partial(op.evaluate, *[sram] * len(op.regions()))


def _table_step(op: UnaryVectorOp, table: Array, sram: Array) -> Step:
    """Out = table[in + 128] by bytes.translate, which indexes by the unsigned byte."""
    by_byte = np.roll(table, 128).tobytes()
    source, out = op.input_view(sram), op.output_view(sram)
    blocks = [(source[index], out[index]) for index in block_slices(out.shape, _BLOCK)]

    def run() -> None:
        for piece, target in blocks:
            found = np.frombuffer(piece.tobytes().translate(by_byte), np.int8)
            np.copyto(target, found.reshape(target.shape))

    return run

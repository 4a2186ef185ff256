"""Cycles and MAC slots of the matmul instruction.

The reduction of a group, in the order (kernel row, kernel column, channel), is cut into reduction vectors of at most
`lanes` elements: fold "none" starts a new vector at every tap, "row" at every kernel row, "window" never. `split_k`
consecutive vectors, `split_n` consecutive column tiles and `split_m` consecutive output pixels run side by side on the
blocks. The loops, outermost first: groups, column steps, reduction steps, pixel steps.

A pixel step takes max(cycles of a vector (1 for 8 bits, `ArraySection.step_cycles`), ceil(lines of the widest vector /
lines_per_vector), max over banks of ceil(distinct lines / read_ports)) cycles; padding taps read nothing. Before a
(group, column, reduction) step its weights are loaded: ceil(lines / rate) cycles, where lines is the sum over the tiles
of ceil(bytes / line_bytes) and rate = min(weight_lines_per_cycle, interleave * read_ports), because the weights lie in
one group. Weights that are an activation (weights_stride) come row by row: a tile takes its columns of the rows of a
vector, or, transposed, the vector of the rows of its columns; a row of n bytes is ceil(n / line_bytes) lines, and one
more where it has more than one number and rows need not start at lines (weights_stride is no multiple of line_bytes).
Weights are double-buffered: with stream cycles T and load cycles W of the steps 0..n,

    occupancy = W[0] + sum(max(T[i], W[i+1])) + T[n],    or sum(W) + sum(T) when input and weights share a bank group.
"""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from ...dialects.core.types import Array
from ...dialects.tile.elements import ELEMENTS
from ..target import Target
from .banks import BankMap, bank_map
from .record import Instruction


class MatmulShape(NamedTuple):
    """The fields of a matmul that its cost depends on, named as in `MatmulOp`."""

    in_h: int
    in_w: int
    out_h: int
    out_w: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    input_row_stride: int
    input_pixel_stride: int
    in_c: int
    out_c: int
    groups: int
    input_group_stride: int
    tile_columns: int
    weights_stride: int
    transposed: bool
    diagonal: bool
    fold: str
    split_k: int
    split_n: int
    split_m: int
    element: str
    weights_element: str

    @property
    def data_bytes(self) -> int:
        """Bytes of one number of the input."""
        return ELEMENTS[self.element].size

    @property
    def rows(self) -> int:
        """Output pixels."""
        return self.out_h * self.out_w

    @property
    def column_tiles(self) -> int:
        """Tiles of output channels in a group."""
        return -(-self.out_c // self.tile_columns)

    @property
    def depth(self) -> int:
        """Elements of the reduction of one output (of the whole tile, where diagonal)."""
        return self.kernel_h * self.kernel_w * (1 if self.diagonal else self.in_c)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the instruction, padded channels and zeros of block-diagonal weights included."""
        return self.groups * self.rows * self.depth * self.out_c

    @property
    def input_span(self) -> int:
        """Bytes from the first to the last byte of the input."""
        pixel = (self.groups - 1) * self.input_group_stride + self.in_c * self.data_bytes
        return (self.in_h - 1) * self.input_row_stride + (self.in_w - 1) * self.input_pixel_stride + pixel

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights."""
        return self.groups * self.depth * self.out_c * ELEMENTS[self.weights_element].size

    @property
    def weight_span(self) -> int:
        """Bytes from the first to the last byte of the weights."""
        if not self.weights_stride:
            return self.weight_bytes
        rows, run = (self.out_c, self.in_c) if self.transposed else (self.in_c, self.out_c)
        return (rows - 1) * self.weights_stride + run * ELEMENTS[self.weights_element].size

    @property
    def accumulator_rows(self) -> int:
        """Accumulator rows written."""
        return self.groups * self.column_tiles * self.rows


class ArrayMachine(NamedTuple):
    """The fields of a target that the cost of a matmul depends on."""

    lanes: int
    columns: int
    blocks: int
    weight_lines_per_cycle: int
    lines_per_vector: int
    banks: BankMap
    step_cycles: tuple[tuple[str, str, int], ...]
    """(data, weights, cycles of a vector) for all element types."""

    def cycles_of(self, data: str, weights: str) -> int:
        """Cycles of a block for one vector; 0 if it cannot multiply such numbers."""
        return next(cycles for a, b, cycles in self.step_cycles if (a, b) == (data, weights))


class MatmulCost(NamedTuple):
    """Cycles and MAC slots of a matmul.

    The slots are those of the machine's structure: `macs` of them do a multiply-accumulate of the instruction. The
    others are the causes of the ledger of the same names. `busiest_reads` are the input lines of the busiest bank of
    every group from the input's first one on.
    """

    occupancy: int
    bank_stall_cycles: int
    weight_load_cycles: int
    macs: int
    reduction_padding: int
    column_padding: int
    edge_rows: int
    depthwise_diagonal: int
    wide_numbers: int
    input_lines: int
    weight_lines: int
    busiest_reads: tuple[int, ...]


class Segments(NamedTuple):
    """Reduction vectors as pieces of single taps; all arrays [vectors, pieces], length 0 where there is no piece."""

    kernel_row: Array
    kernel_column: Array
    channel: Array
    length: Array


_NOWHERE = -(2**32)
"""An input row that no window brings back into the input: sizes have 16 bits, strides 8, kernel and dilation 20."""

_shape_of = attrgetter(*MatmulShape._fields)


def matmul_shape(op: Instruction) -> MatmulShape:
    """The shape of a matmul instruction."""
    return MatmulShape._make(_shape_of(op))


def array_machine(target: Target) -> ArrayMachine:
    """What the cost of a matmul needs to know of a target."""
    array = target.array
    return ArrayMachine(
        array.lanes,
        array.columns,
        array.blocks,
        array.weight_lines_per_cycle,
        target.crossbar.lines_per_vector,
        bank_map(target),
        tuple((data, weights, array.step_cycles(data, weights)) for data in ELEMENTS for weights in ELEMENTS),
    )


@lru_cache(maxsize=2**16)
def matmul_cost(shape: MatmulShape, machine: ArrayMachine, input_address: int, shared_group: bool) -> MatmulCost:
    """The cost of a matmul whose input lies at a canonical address (`BankMap.canonical`).

    `shared_group`: input and weights have a bank group in common, so that loading weights stops the stream.
    """
    vectors = reduction_vectors(shape, machine.lanes)
    column_steps = -(-shape.column_tiles // shape.split_n)
    reduction_steps = -(-len(vectors.length) // shape.split_k)
    pixel_steps = -(-shape.rows // shape.split_m)
    stream, lines, busiest = _stream_cycles(shape, machine, vectors, input_address)
    turns = 1 if shape.diagonal else column_steps
    stream = np.broadcast_to(
        stream.reshape(shape.groups, -1, reduction_steps), (shape.groups, column_steps, reduction_steps)
    )
    weight_lines = _weight_lines(shape, machine, vectors)
    rate = min(machine.weight_lines_per_cycle, machine.banks.interleave * machine.banks.read_ports)
    load = np.broadcast_to(-(-weight_lines // rate), stream.shape).ravel()
    steps, slowness = stream.size * pixel_steps, machine.cycles_of(shape.element, shape.weights_element)
    streamed = int(stream.sum())
    exposed = int(load[0] + np.maximum(load[1:] - stream.ravel()[:-1], 0).sum())
    collision = int(load.sum()) - exposed if shared_group else 0
    return MatmulCost(
        occupancy=streamed + exposed + collision,
        bank_stall_cycles=streamed - steps * slowness + collision,
        weight_load_cycles=exposed,
        **_slots(shape, machine, len(vectors.length), steps),
        wide_numbers=steps * (slowness - 1) * machine.blocks * machine.lanes * machine.columns,
        input_lines=lines * turns,
        weight_lines=shape.groups * int(weight_lines.sum()),
        busiest_reads=tuple(count * turns for count in busiest),
    )


def reduction_vectors(shape: MatmulShape, lanes: int) -> Segments:
    """How the reduction of a group is cut into vectors; the taps themselves for a diagonal product."""
    taps = shape.kernel_h * shape.kernel_w
    channels = 1 if shape.diagonal else shape.in_c
    unit = {"none": channels, "row": channels * shape.kernel_w, "window": channels * taps}[shape.fold]
    if shape.diagonal:
        unit = 1
    inside = np.arange(0, unit, lanes)
    start = (np.arange(0, taps * channels, unit)[:, None] + inside).ravel()
    end = start + np.broadcast_to(np.minimum(lanes, unit - inside), (len(start) // len(inside), len(inside))).ravel()
    pieces = int(((end - 1) // channels - start // channels).max()) + 1
    tap = start[:, None] // channels + np.arange(pieces)
    low = np.maximum(start[:, None], tap * channels)
    length = np.maximum(np.minimum(end[:, None], (tap + 1) * channels) - low, 0)
    return Segments(tap // shape.kernel_w, tap % shape.kernel_w, low - tap * channels, length)


def _slots(shape: MatmulShape, machine: ArrayMachine, vectors: int, steps: int) -> dict[str, int]:
    """The slots of one cycle for each of `steps` pixel steps (over all groups, column and reduction steps)."""
    lanes, columns, tiles = machine.lanes, machine.columns, shape.column_tiles
    block = lanes * columns
    grid = shape.split_k * shape.split_n * shape.split_m
    pixels = shape.groups * shape.rows
    column_positions = -(-tiles // shape.split_n) * shape.split_n
    vector_positions = -(-vectors // shape.split_k) * shape.split_k
    missing_vectors = pixels * column_positions * (vector_positions - vectors)
    missing_tiles = pixels * vectors * (column_positions - tiles)
    missing_pixels = steps * grid - pixels * column_positions * vector_positions
    column_padding = pixels * vectors * (tiles * columns - shape.out_c) * lanes
    diagonal, used = 0, shape.depth * shape.out_c
    if shape.diagonal:
        rest = shape.out_c - (tiles - 1) * shape.tile_columns
        used = vectors * ((tiles - 1) * shape.tile_columns**2 + rest**2)
        diagonal = pixels * (used - vectors * shape.out_c)
    return {
        "macs": shape.macs,
        "reduction_padding": pixels * (vectors * lanes * shape.out_c - used) + missing_vectors * block,
        "column_padding": column_padding + missing_tiles * block,
        "edge_rows": (missing_pixels + steps * (machine.blocks - grid)) * block,
        "depthwise_diagonal": diagonal,
    }


def _weight_lines(shape: MatmulShape, machine: ArrayMachine, vectors: Segments) -> Array:
    """Lines of weights of each step: [column steps, reduction steps]."""
    first = np.arange(shape.column_tiles) * shape.tile_columns
    columns = np.minimum(shape.tile_columns, shape.out_c - first)
    size = ELEMENTS[shape.weights_element].size
    if shape.weights_stride:
        own = _row_lines(shape, machine, columns, vectors.length.sum(axis=1), size)
        steps = _padded(own.T, shape.split_k).sum(axis=1)  # [reduction steps, tiles]
        return _padded(steps.T, shape.split_n).sum(axis=1)
    depth = _padded(vectors.length.sum(axis=1), shape.split_k).sum(axis=1)
    lines = -(-columns[:, None] * depth * size // machine.banks.line_bytes)
    return _padded(lines, shape.split_n).sum(axis=1)


def _row_lines(shape: MatmulShape, machine: ArrayMachine, columns: Array, lengths: Array, size: int) -> Array:
    """Lines of the rows that each tile reads of an activation for each vector: [tiles, vectors]."""
    rows, runs = (columns[:, None], lengths[None]) if shape.transposed else (lengths[None], columns[:, None])
    straddle = (runs > 1) * (shape.weights_stride % machine.banks.line_bytes != 0)
    return rows * (-(-runs * size // machine.banks.line_bytes) + straddle)


def _stream_cycles(
    shape: MatmulShape, machine: ArrayMachine, vectors: Segments, address: int
) -> tuple[Array, int, tuple[int, ...]]:
    """Cycles of each step over all its pixels: int [groups * column steps (diagonal only) * reduction steps].

    Also the number of distinct lines read, summed over all pixel steps, and those of the busiest bank of each group.
    """
    banks = machine.banks
    ports = _ports(shape, vectors)
    pixel_row, pixel_column, counts = _pixel_steps(shape, banks, address)
    rows, columns = ports.kernel_row * shape.dilation_h, ports.kernel_column * shape.dilation_w
    # axes: step, pixel step, port, pixel of the step, piece of the vector
    y = pixel_row[:, None, :, None] + np.where(ports.length > 0, rows, _NOWHERE)[:, None, :, None, :]
    x = pixel_column[:, None, :, None] + columns[:, None, :, None, :]
    reads = (y >= 0) & (y < shape.in_h) & (x >= 0) & (x < shape.in_w)
    place = address + pixel_row * shape.input_row_stride + pixel_column * shape.input_pixel_stride
    offset = rows * shape.input_row_stride + columns * shape.input_pixel_stride + ports.channel
    first = place[:, None, :, None] + offset[:, None, :, None, :]
    shift = banks.line_bytes.bit_length() - 1
    last = np.where(reads, (first + (ports.length - 1)[:, None, :, None, :]) >> shift, -1).astype(np.int32)
    first = np.where(reads, first >> shift, 0).astype(np.int32)
    width = int((last - first).max()) + 1
    lines = first[..., None] + np.arange(max(width, 1), dtype=np.int32)
    lines = np.where(lines <= last[..., None], lines, np.int32(-1))
    steps, pixel_steps = lines.shape[:2]
    vector, widest = _distinct(lines.reshape(steps * pixel_steps, pixel_row.shape[1] * rows.shape[1], -1))
    together, distinct = _distinct(vector.reshape(steps * pixel_steps, -1))
    slowness = machine.cycles_of(shape.element, shape.weights_element)
    cycles = np.maximum(slowness, -(-widest.max(axis=-1) // machine.lines_per_vector))
    cycles = np.maximum(cycles, -(-_fullest_bank(together, banks) // banks.read_ports))
    read = together >= 0
    times = np.broadcast_to(np.tile(counts, steps)[:, None], together.shape)
    busiest = banks.busiest(together[read], times[read])
    return cycles.reshape(steps, -1) @ counts, int(distinct.reshape(steps, -1).sum(axis=0) @ counts), busiest


def _ports(shape: MatmulShape, vectors: Segments) -> Segments:
    """What the ports read in each step, [steps, ports, pieces]; `channel` (within a pixel) and `length` are bytes."""
    size = shape.data_bytes
    row, column, channel, length = (_padded(part, shape.split_k) for part in vectors)
    channel, length = channel * size, length * size
    if not shape.diagonal:
        group = np.arange(shape.groups) * shape.input_group_stride
        offset = (group[:, None, None, None] + channel).reshape(-1, *channel.shape[1:])
        copies = (shape.groups, 1, 1)
        return Segments(np.tile(row, copies), np.tile(column, copies), offset, np.tile(length, copies))
    first = np.arange(shape.column_tiles) * shape.tile_columns
    tile_offset = _padded(first * size, shape.split_n)
    tile_length = _padded(np.minimum(shape.tile_columns, shape.out_c - first), shape.split_n)
    steps, ports = len(tile_offset) * len(row), shape.split_n * shape.split_k

    def spread(taps: Array, tiles: Array) -> Array:
        return (taps[None, :, None, :, :] * tiles[:, None, :, None, None]).reshape(steps, ports, 1)

    every = np.ones_like(tile_offset)
    present = spread(length, tile_length)
    return Segments(spread(row, every), spread(column, every), spread(np.ones_like(length), tile_offset), present)


def _pixel_steps(shape: MatmulShape, banks: BankMap, address: int) -> tuple[Array, Array, Array]:
    """The distinct pixel steps: first input row and column of every pixel [steps, split_m], and how often [steps].

    Steps are alike when they start in the same bank at the same byte of a line, and all windows lie inside the input
    and in one row of the output (or are the same there). The row of a pixel that does not exist is `_NOWHERE`.
    """
    index = np.arange(-(-shape.rows // shape.split_m) * shape.split_m).reshape(-1, shape.split_m)
    out_row, out_column = index // shape.out_w, index % shape.out_w
    row = out_row * shape.stride_h - shape.pad_top
    column = out_column * shape.stride_w - shape.pad_left
    start = row[:, 0] * shape.input_row_stride + column[:, 0] * shape.input_pixel_stride
    if banks.fits_one_group(address, shape.input_span):
        start = start % banks.period_bytes
    bottom, right = (shape.kernel_h - 1) * shape.dilation_h, (shape.kernel_w - 1) * shape.dilation_w
    inside_y = ((row >= 0) & (row + bottom < shape.in_h)).all(axis=1)
    inside_x = ((column >= 0) & (column + right < shape.in_w)).all(axis=1) & (out_row[:, 0] == out_row[:, -1])
    key = start * (shape.out_w + 1) + np.where(inside_x, shape.out_w, out_column[:, 0])
    key = key * (shape.out_h + 1) + np.where(inside_y, shape.out_h, out_row[:, 0])
    if shape.rows % shape.split_m:
        row[-1, shape.rows % shape.split_m :] = _NOWHERE
        key[-1] = key.max() + 1
    _, chosen, counts = np.unique(key, return_index=True, return_counts=True)
    return row[chosen], column[chosen], counts


def _padded(array: Array, width: int) -> Array:
    """`array` with its first axis cut into rows of `width`, the last one filled with zeros."""
    missing = -len(array) % width
    filled = np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) if missing else array
    return filled.reshape(-1, width, *array.shape[1:])


def _distinct(lines: Array) -> tuple[Array, Array]:
    """The lines with every repetition on the last axis made -1, and how many are left."""
    if lines.shape[-1] > 1:
        lines = np.sort(lines, axis=-1)
        lines[..., 1:][lines[..., 1:] == lines[..., :-1]] = -1
    return lines, (lines >= 0).sum(axis=-1)


def _fullest_bank(lines: Array, banks: BankMap) -> Array:
    """For every row of line numbers (-1: none) how many lie in the same bank at most."""
    bank = banks.banks(np.maximum(lines, 0))
    width = int(bank.max()) + 2
    bank = np.where(lines < 0, width - 1, bank) + np.arange(len(lines))[:, None] * width
    return np.bincount(bank.ravel(), minlength=len(lines) * width).reshape(-1, width)[:, :-1].max(axis=1)

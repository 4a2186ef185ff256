"""The matmul instruction: a convolution or matrix product on the blocks, weights stationary."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from ..core.fields import attribute, operand
from ..core.types import Array
from ..quant.bfloat16 import add_products, gated_product
from .elements import ELEMENT_NAMES
from .instruction import Region
from .types import BufferType, strided_view
from .window import WindowOp

FOLDS = ("none", "row", "window")


class MatmulOp(WindowOp):
    """acc[g, column tile, row, column] (+)= sum over taps and channels of (x - input_zero) * (w - weights_zero).

    x is the input, or `zero_point` in the padding.

    A row is an output pixel. The reduction of group g runs over (kernel_h, kernel_w, in_c). `weights` holds for each
    group and each tile of `tile_columns` output channels the matrix [kernel_h*kernel_w*in_c, columns of the tile],
    row-major; the last tile is stored without padding. With `diagonal`, channel c of the output reads only channel c
    of the input and a tile holds [kernel_h*kernel_w, columns of the tile]. The input is made of `element`, the weights
    of `weights_element`; sums have the accumulator bits of the input's element and are exact. Of bf16 they are float32,
    taken one product after the other in the order of the reduction, as `accelc.dialects.quant.bfloat16` defines it; a
    product that accumulates goes on from the sum that is there, so a reduction may be cut between any two products, but
    blocks cannot share it (`split_k` is 1).

    With a `weights_stride` the weights are an activation, a matrix that stands in SRAM as other instructions wrote it:
    its rows follow each other at that many bytes. It is [in_c, out_c], or [out_c, in_c] if `transposed`; the window is
    then one tap and there is one group. A straight matrix is loaded as weights are, a row of a tile at a time. Of a
    transposed one a row is a run of lanes, which takes the way of an input vector: the lanes drive all columns, and
    the one column that is enabled keeps them. Both load as many rows as they touch, so that neither of the products of
    an attention moves a byte.

    Activations have zero points, and the sums that they add to a product are known only at run time. The loader of a
    block adds up what passes into each column, and each block has one more column, of ones, which yields the sum of
    every row; sum((x - a) * (w - b)) = sum(x * w) - a * sum(w) - b * sum(x) + length * a * b, where the last three
    terms enter at the accumulators. With both zero points 0, as all constant weights have them (the bias carries the
    zero point of their input), nothing is added.

    How it runs on the blocks: `fold` says how the window fills the lanes (each tap rounded up to whole lanes, a
    window row at a time, or the whole window at once); `split_k`, `split_n` and `split_m` are how many blocks share the
    reduction, the column tiles and the pixels. Accumulators are laid out [group, column tile, row] from
    `accumulator_offset`, `tile_columns` numbers each. `useful_macs` counts the multiply-accumulates of the model;
    `pack` groups of the model share a group of the instruction, so that all but 1/pack of its weights are zeros.
    """

    name = "tile.matmul"
    engine = "array"
    spaces = MappingProxyType({"accumulator": "acc"})

    input = operand(BufferType)
    weights = operand(BufferType)
    accumulator = operand(BufferType)

    in_c = attribute(int, bits=16)
    out_c = attribute(int, bits=16)
    groups = attribute(int, default=1, bits=16)
    weights_element = attribute(str, default="i8", choices=ELEMENT_NAMES, bits=2)
    input_group_stride = attribute(int, default=0, bits=24)
    weights_offset = attribute(int, default=0, bits=32)
    accumulator_offset = attribute(int, default=0, bits=20)
    tile_columns = attribute(int, bits=12)
    zero_point = attribute(int, default=0, bits=-16)
    weights_stride = attribute(int, default=0, bits=24)
    transposed = attribute(bool, default=False, bits=1)
    input_zero = attribute(int, default=0, bits=-16)
    weights_zero = attribute(int, default=0, bits=-16)
    accumulate = attribute(bool, default=False, bits=1)
    diagonal = attribute(bool, default=False, bits=1)
    fold = attribute(str, default="none", choices=FOLDS, bits=2)
    split_k = attribute(int, default=1, bits=8)
    split_n = attribute(int, default=1, bits=8)
    split_m = attribute(int, default=1, bits=8)
    useful_macs = attribute(int, default=0)
    pack = attribute(int, default=1, bits=12)

    @property
    def rows(self) -> int:
        """Output pixels."""
        return self.out_h * self.out_w

    @property
    def column_tiles(self) -> int:
        """Tiles of output channels in a group."""
        return -(-self.out_c // self.tile_columns)

    @property
    def taps(self) -> int:
        """Window positions."""
        return self.kernel_h * self.kernel_w

    @property
    def accumulator_rows(self) -> int:
        """Accumulator rows written."""
        return self.groups * self.column_tiles * self.rows

    @property
    def depth(self) -> int:
        """Weights of one output channel."""
        return self.taps * (1 if self.diagonal else self.in_c)

    @property
    def stored_rows(self) -> tuple[int, int]:
        """Rows and numbers of a row of weights that are an activation."""
        return (self.out_c, self.in_c) if self.transposed else (self.in_c, self.out_c)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights read."""
        return self.groups * self.depth * self.out_c * self.size_of("weights")

    def verify(self) -> None:
        super().verify()
        if self.accumulator.type.space != "acc":
            raise self.error(f"accumulates into {self.accumulator.type.space}, expected acc")
        for name in ("pack", "tile_columns"):
            if not self.attributes.get(name, 1):
                raise self.error(f"{name} is 0, expected at least 1")
        if self.split_k > 1 and self.element_of("input").is_float:
            raise self.error(f"split_k is {self.split_k}, expected 1: sums of floats have one order")
        if self.size_of("weights") > self.size_of("input"):
            found = f"{self.weights_element} with data of {self.element}"
            raise self.error(f"weights are {found}, expected none wider than the data")
        if self.diagonal and (self.in_c != self.out_c or self.groups != 1):
            found = f"{self.in_c} to {self.out_c} channels in {self.groups} groups"
            raise self.error(f"diagonal with {found}, expected as many inputs as outputs and one group")
        if self.transposed and not self.weights_stride:
            raise self.error("weights_stride is 0, expected the stride of the rows of transposed weights")
        if self.weights_stride and (self.taps, self.groups, self.diagonal) != (1, 1, False):
            found = f"{self.taps} taps in {self.groups} {'diagonal ' if self.diagonal else ''}groups"
            raise self.error(f"weights_stride with {found}, expected one tap and one dense group")

    def regions(self) -> tuple[Region, ...]:
        tile, rows = self.tile_columns, self.rows
        full, rest = divmod(self.out_c, tile)
        group, base = self.column_tiles * rows * tile, self.accumulator_offset * tile
        weights = Region("weights", False, self.weights_offset, (self.weight_bytes,), (1,))
        if self.weights_stride:
            strides = (self.weights_stride, self.size_of("weights"))
            weights = self.region("weights", False, self.weights_offset, self.stored_rows, strides)
        found = [self.input_region(self.in_c, self.groups, self.input_group_stride), weights]
        targets: list[Region] = []
        if full:
            shape, strides = (self.groups, full, rows, tile), (group, rows * tile, tile, 1)
            targets.append(Region("accumulator", True, base, shape, strides))
        if rest:
            shape, strides = (self.groups, rows, rest), (group, tile, 1)
            targets.append(Region("accumulator", True, base + full * rows * tile, shape, strides))
        if self.accumulate:
            found += [Region(a.operand, False, a.offset, a.shape, a.strides) for a in targets]
        return (*found, *targets)

    def evaluate(self, input: Array, weights: Array, accumulator: Array) -> None:
        if self.element_of("input").is_float:
            self._add_floats(input, weights, accumulator)
            return
        windows = self.group_windows(input).astype(np.float64) - self.input_zero
        if self.diagonal:
            matrix = self.diagonal_weights(weights).astype(np.float64) - self.weights_zero
            products = np.einsum("gmtc,tc->gmc", windows.reshape(1, self.rows, self.taps, self.out_c), matrix)
        else:
            products = windows @ (self.dense_weights(weights).astype(np.float64) - self.weights_zero)
        tiles = self.accumulator_tiles(accumulator)
        for tile in range(self.column_tiles):
            first = tile * self.tile_columns
            part = products[..., first : first + self.tile_columns]
            target = tiles[:, tile, :, : part.shape[-1]]
            target[...] = target + part.astype(np.int64) if self.accumulate else part

    def _add_floats(self, input: Array, weights: Array, accumulator: Array) -> None:
        """The sums of products of floats, in order, on flat memories."""
        rows = self.group_windows(input).astype(np.float32)
        matrix = self.diagonal_weights(weights)[None] if self.diagonal else self.dense_weights(weights)
        tiles, step = self.accumulator_tiles(self.element_of("input").sums(accumulator)), self.tile_columns
        if not self.accumulate:
            tiles[...] = 0.0
        for group, tile in np.ndindex(self.groups, self.column_tiles):
            factors = matrix[group, :, tile * step : (tile + 1) * step].astype(np.float32)
            total = np.ascontiguousarray(tiles[group, tile, :, : factors.shape[1]].T)
            if self.diagonal:
                data = rows.reshape(self.rows, self.taps, self.out_c)[..., tile * step : (tile + 1) * step]
                with np.errstate(all="ignore"):
                    for tap in range(self.taps):
                        total += gated_product(data[:, tap], factors[tap]).T
            else:
                add_products(total, rows[group].T, factors)
            tiles[group, tile, :, : factors.shape[1]] = total.T

    @property
    def channel_span(self) -> tuple[int, int]:
        """Channels of a pixel from the first to the last that any group reads, and from one group to the next."""
        apart = self.input_group_stride // self.size_of("input")
        return (self.groups - 1) * apart + self.in_c, apart

    def group_windows(self, memory: Array) -> Array:
        """The window matrix [..., groups, rows, taps * in_c] (a copy), padding at `zero_point`."""
        span, apart = self.channel_span
        windows = self.windows(self.padded_input(memory, span, self.zero_point))
        front = windows.shape[:-5]
        if self.groups == 1:
            return windows.reshape(*front, 1, self.rows, self.taps * self.in_c)
        *strides, step = windows.strides
        split = np.lib.stride_tricks.as_strided(
            windows,
            (*windows.shape[:-1], self.groups, self.in_c),
            (*strides, step * apart, step),
            writeable=False,
        )
        moved = np.moveaxis(split, -2, len(front))
        return moved.reshape(*front, self.groups, self.rows, self.taps * self.in_c)

    def dense_weights(self, memory: Array) -> Array:
        """The weight matrices [..., groups, taps * in_c, out_c] (a copy)."""
        if self.weights_stride:
            size = self.size_of("weights")
            strides = (0, size, self.weights_stride) if self.transposed else (0, self.weights_stride, size)
            return self.view("weights", memory, self.weights_offset, (1, self.in_c, self.out_c), strides).copy()
        depth, full = self.taps * self.in_c, self.out_c // self.tile_columns
        rest = self.out_c - full * self.tile_columns
        parts: list[Array] = []
        size = self.size_of("weights")
        group, tile = depth * self.out_c * size, depth * self.tile_columns * size
        if full:
            shape = (self.groups, full, depth, self.tile_columns)
            strides = (group, tile, self.tile_columns * size, size)
            moved = np.moveaxis(self.view("weights", memory, self.weights_offset, shape, strides), -3, -2)
            parts.append(moved.reshape(*memory.shape[:-1], self.groups, depth, full * self.tile_columns))
        if rest:
            offset, shape = self.weights_offset + full * tile, (self.groups, depth, rest)
            parts.append(self.view("weights", memory, offset, shape, (group, rest * size, size)))
        return np.concatenate(parts, axis=-1)

    def diagonal_weights(self, memory: Array) -> Array:
        """The weights of a diagonal product [..., taps, out_c] (a copy)."""
        full = self.out_c // self.tile_columns
        rest = self.out_c - full * self.tile_columns
        parts: list[Array] = []
        size = self.size_of("weights")
        tile = self.taps * self.tile_columns * size
        if full:
            shape, strides = (full, self.taps, self.tile_columns), (tile, self.tile_columns * size, size)
            moved = np.moveaxis(self.view("weights", memory, self.weights_offset, shape, strides), -3, -2)
            parts.append(moved.reshape(*memory.shape[:-1], self.taps, full * self.tile_columns))
        if rest:
            offset, strides = self.weights_offset + full * tile, (rest * size, size)
            parts.append(self.view("weights", memory, offset, (self.taps, rest), strides))
        return np.concatenate(parts, axis=-1)

    def accumulator_tiles(self, memory: Array) -> Array:
        """The accumulators as a writable view [..., groups, column tiles, rows, tile_columns]."""
        shape = (self.groups, self.column_tiles, self.rows, self.tile_columns)
        step = self.rows * self.tile_columns
        strides = (self.column_tiles * step, step, self.tile_columns, 1)
        return strided_view(memory, self.accumulator_offset * self.tile_columns, shape, strides)

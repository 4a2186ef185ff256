"""How a product runs on the blocks: candidates for one layer, priced by the timing model, the cheapest kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...backends.target import Target
from ...backends.timing.duration import instruction_timing, pretend_addresses
from ...backends.timing.matmul import alignment_problem, element_problem
from ...dialects.core.fields import AttributeValue
from ...dialects.core.operation import Operation, Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.elements import ELEMENTS
from ...dialects.tile.pooling import DepthwiseOp
from ...dialects.tile.types import BufferType
from ...dialects.tile.vector import RequantizeOp


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution in instruction terms; in_c and out_c are per group. A matrix product has a 1x1 window."""

    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    groups: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    element: str = "i8"
    weights_element: str = "i8"

    @property
    def data_bytes(self) -> int:
        """Bytes of one number of the input."""
        return ELEMENTS[self.element].size

    @property
    def is_depthwise(self) -> bool:
        """One input and one output channel per group."""
        return self.groups > 1 and self.in_c == self.out_c == 1

    def trimmed(self) -> Geometry:
        """The geometry without rows and pixels of the input behind the last window."""
        rows = (self.out_h - 1) * self.stride_h + (self.kernel_h - 1) * self.dilation_h + 1 - self.pad_top
        pixels = (self.out_w - 1) * self.stride_w + (self.kernel_w - 1) * self.dilation_w + 1 - self.pad_left
        if rows <= 0 or pixels <= 0:
            return replace(self, in_h=1, in_w=1)
        return replace(self, in_h=min(self.in_h, rows), in_w=min(self.in_w, pixels))

    def columns(self, start: int, count: int) -> tuple[int, Geometry]:
        """The first input pixel that output columns [start, start + count) read, and the geometry from there on."""
        first = start * self.stride_w - self.pad_left
        if first >= self.in_w:  # all is padding: the input lies to the right of all windows' padding
            span = (count - 1) * self.stride_w + (self.kernel_w - 1) * self.dilation_w + 1
            return 0, replace(self, in_w=1, out_w=count, pad_left=span)
        pixel = max(first, 0)
        return pixel, replace(self, in_w=self.in_w - pixel, out_w=count, pad_left=pixel - first).trimmed()

    def attributes(self) -> dict[str, AttributeValue]:
        """The geometry as attributes of tile.matmul."""
        return asdict(self)

    def window_attributes(self) -> dict[str, AttributeValue]:
        """The geometry as attributes of tile.depthwise, without the channels and the element of the output."""
        own = {
            name: value for name, value in asdict(self).items() if name not in ("in_c", "out_c", "groups", "element")
        }
        return own | {"input_element": self.element}


@dataclass(frozen=True, slots=True)
class Mapping:
    """One way to run a product; see tile.matmul. `pack` groups share a tile; `on_vector_unit` is for depthwise only."""

    fold: str = "none"
    split_k: int = 1
    split_n: int = 1
    split_m: int = 1
    pack: int = 1
    diagonal: bool = False
    on_vector_unit: bool = False

    def __str__(self) -> str:
        """In the words of the report: folding, diagonal, blocks over reduction (K), columns (N), pixels (M), groups."""
        if self.on_vector_unit:
            return "vector unit"
        parts = [self.fold] if self.fold != "none" else []
        parts += ["diagonal"] if self.diagonal else []
        counts = {"K": self.split_k, "N": self.split_n, "M": self.split_m, "pack": self.pack}
        return " ".join([*parts, *(f"{name}{count}" for name, count in counts.items() if count > 1)]) or "one block"

    def attributes(self) -> dict[str, AttributeValue]:
        """The mapping as attributes of tile.matmul."""
        names = ("fold", "split_k", "split_n", "split_m", "diagonal", "pack")
        return {name: getattr(self, name) for name in names}

    def packed(self, geometry: Geometry) -> Geometry:
        """The geometry once `pack` groups are one group (all channels, when diagonal)."""
        if self.diagonal:
            channels = geometry.groups
            return replace(geometry, groups=1, in_c=channels, out_c=channels)
        return replace(
            geometry,
            groups=geometry.groups // self.pack,
            in_c=geometry.in_c * self.pack,
            out_c=geometry.out_c * self.pack,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen for an operation, and all that was considered: estimated cycles, or why it is not possible."""

    operation: Operation
    candidates: dict[Mapping, float | str]
    chosen: Mapping


@dataclass
class MappingSearch:
    """Chooses mappings for one target; equal layers are searched once.

    `effort` 0 takes the first legal candidate, 1 tries the splits that use all blocks, 2 every split.
    """

    target: Target
    effort: int
    memo: dict[tuple[Geometry, tuple[int, ...]], dict[Mapping, float | str]] = field(default_factory=dict[Any, Any])
    decisions: list[Decision] = field(default_factory=list[Decision])

    def choose(self, op: Operation, geometry: Geometry, input_strides: tuple[int, ...]) -> Mapping:
        """The cheapest mapping; `input_strides` are the row and pixel strides of the input in bytes.

        Raises CompileError at `op` with the reason if no mapping is possible on this machine.
        """
        candidates = self.candidates(geometry, input_strides)
        prices = {mapping: price for mapping, price in candidates.items() if not isinstance(price, str)}
        if not prices:
            raise op.error(f"does not map onto the blocks of the target: {next(iter(candidates.values()))}")
        chosen = min(prices, key=lambda mapping: prices[mapping])
        self.decisions.append(Decision(op, candidates, chosen))
        return chosen

    def candidates(self, geometry: Geometry, input_strides: tuple[int, ...]) -> dict[Mapping, float | str]:
        """Every mapping tried, with its estimated cycles for the whole layer or why it is not possible."""
        key = (geometry, input_strides)
        if key not in self.memo:
            self.memo[key] = found = dict[Mapping, float | str]()
            for candidate in self._candidates(geometry):
                found[candidate] = price = self._price(geometry, candidate, input_strides)
                if self.effort == 0 and not isinstance(price, str):
                    break
        return self.memo[key]

    def _candidates(self, geometry: Geometry) -> Iterator[Mapping]:
        """Straight mappings first, so that effort 0 finds a legal one at once."""
        blocks = self.target.array.blocks
        if geometry.is_depthwise:
            yield from (Mapping(diagonal=True, split_k=k, split_n=n, split_m=m) for k, n, m in self._splits(blocks))
            yield Mapping(on_vector_unit=True)
            return
        folds = ["none"]
        if self.target.crossbar.lane_rotation and geometry.kernel_h * geometry.kernel_w > 1 and self.effort:
            folds += ["row", "window"]
        for pack in self._packs(geometry):
            for fold in folds:
                for k, n, m in self._splits(blocks):
                    yield Mapping(fold=fold, split_k=k, split_n=n, split_m=m, pack=pack)

    def _splits(self, blocks: int) -> Iterator[tuple[int, int, int]]:
        for n in reversed(range(1, blocks + 1)):
            for k in range(1, blocks // n + 1):
                m = blocks // (n * k)
                if self.effort == 2 or n * k * m == blocks:
                    yield k, n, m

    def _packs(self, geometry: Geometry) -> Iterator[int]:
        """Numbers of groups that may share a tile: while both sides still fit into one tile of lanes and columns."""
        yield 1
        for pack in range(2, geometry.groups + 1) if self.effort else ():
            fits = pack * geometry.in_c <= self.target.array.lanes * 2
            if fits and geometry.groups % pack == 0:
                yield pack

    def _price(self, geometry: Geometry, mapping: Mapping, input_strides: tuple[int, ...]) -> float | str:
        """Cycles of the layer: the slower of its array and vector instructions, per strip, times the strips.

        A text says why the mapping is not possible.
        """
        if mapping.on_vector_unit:
            return self._vector_price(geometry, input_strides)
        if problem := element_problem(geometry.element, geometry.weights_element, self.target):
            return problem
        if mapping.split_k > 1 and ELEMENTS[geometry.element].is_float:
            return "blocks that share a reduction would change the order in which floats are added"
        packed = mapping.packed(geometry)
        columns = self.target.array.columns
        tiles = -(-packed.out_c // columns)
        row_stride, pixel_stride = input_strides
        size = packed.data_bytes
        group_stride = packed.in_c * size
        if not self.target.crossbar.lane_rotation:
            line = self.target.sram.line_bytes
            group_stride = -(-group_stride // line) * line if packed.groups > 1 else group_stride
            pixel_stride = -(-max(pixel_stride, packed.groups * group_stride) // line) * line
            row_stride = pixel_stride * packed.in_w
        height, tile_step, groups = strip_shape(self.target, packed, mapping.split_n)
        strip = replace(packed, out_h=height, groups=groups, out_c=min(packed.out_c, tile_step * columns))
        op = MatmulOp(
            _operands(("sram", "sram", "acc")),
            (),
            {
                **strip.attributes(),
                **mapping.attributes(),
                "input_row_stride": row_stride,
                "input_pixel_stride": pixel_stride,
                "input_group_stride": group_stride if packed.groups > 1 else 0,
                "tile_columns": columns,
            }
            | ({"in_c": strip.out_c} if mapping.diagonal else {}),
        )
        addresses = pretend_addresses(op, self.target)
        if mapping.diagonal and columns > self.target.array.lanes:
            return f"a diagonal tile has {columns} columns, a block has {self.target.array.lanes} lanes"
        straight = self.target.crossbar.lane_rotation or columns * size % self.target.sram.line_bytes == 0
        if mapping.diagonal and tiles > 1 and not straight:  # `op` may be the first tile only
            return f"diagonal tiles of {columns} channels do not start at lines, which needs lane rotation"
        if problem := alignment_problem(op, self.target, addresses["input"]):
            return problem
        drain = RequantizeOp(
            _operands(("acc", "sram", "sram")),
            (),
            {
                "out_h": height,
                "out_w": packed.out_w,
                "out_c": strip.out_c,
                "tile_columns": columns,
                "groups": groups,
                "group_columns": strip.out_c,
                "element": packed.element,
                "accumulator_element": packed.element,
                "output_group_stride": strip.out_c * size if groups > 1 else 0,
                "output_row_stride": packed.out_w * packed.groups * packed.out_c * size,
                "output_pixel_stride": packed.groups * packed.out_c * size,
                "zero_point": 0,
            },
        )
        strips = (packed.out_h / height) * (tiles / tile_step) * (packed.groups / groups)
        array = instruction_timing(op, self.target, addresses).occupancy
        vector = instruction_timing(drain, self.target, pretend_addresses(drain, self.target)).occupancy
        return strips * max(array, vector)

    def _vector_price(self, geometry: Geometry, input_strides: tuple[int, ...]) -> float:
        channels = geometry.groups
        op = DepthwiseOp(
            _operands(("sram", "sram", "sram", "sram")),
            (),
            geometry.window_attributes()
            | {
                "element": geometry.element,
                "channels": channels,
                "input_row_stride": input_strides[0],
                "input_pixel_stride": input_strides[1],
                "output_row_stride": geometry.out_w * channels * geometry.data_bytes,
                "output_pixel_stride": channels * geometry.data_bytes,
                "input_zero": 0,
                "zero_point": 0,
            },
        )
        return float(instruction_timing(op, self.target, pretend_addresses(op, self.target)).occupancy)


def balanced(total: int, largest: int) -> int:
    """The smallest piece that needs no more pieces than `largest` does, so that pieces are nearly equal."""
    pieces = -(-total // largest)
    return -(-total // pieces)


def strip_shape(
    target: Target, geometry: Geometry, split_n: int, largest_rows: int | None = None
) -> tuple[int, int, int]:
    """(output rows, column tiles, groups) of one matmul so that two such results fit into the accumulators.

    Column tiles come in multiples of `split_n`; rows are as many as then fit (at least one image row, at most
    `largest_rows`, all strips about equal), then further tiles and groups.
    """
    columns = target.array.columns
    capacity = target.accumulators.rows // 2
    tiles = -(-geometry.out_c // columns)
    step = min(tiles, split_n)
    if geometry.out_w * step > capacity:
        capacity = target.accumulators.rows
        step = max(1, min(step, capacity // geometry.out_w))
    height = max(1, min(geometry.out_h, largest_rows or geometry.out_h, capacity // (geometry.out_w * step)))
    height = balanced(geometry.out_h, height)
    while step + split_n <= tiles and height * geometry.out_w * (step + split_n) <= capacity:
        step += split_n
    if height * geometry.out_w * tiles <= capacity:
        step = tiles
    groups = 1
    if step == tiles:
        groups = max(1, min(geometry.groups, capacity // (height * geometry.out_w * tiles)))
    return height, step, groups


def _operands(spaces: tuple[str, ...]) -> list[Value[Any]]:
    return [Value(BufferType(space, 1)) for space in spaces]

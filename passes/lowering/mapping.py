"""How a product runs on the blocks: candidates for one layer, priced by the timing model, the cheapest kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...backends.target import Target
from ...backends.timing.duration import instruction_timing, pretend_addresses
from ...backends.timing.matmul import alignment_problem
from ...dialects.core.fields import AttributeValue
from ...dialects.core.operation import Value
from ...dialects.tile.array import MatmulOp
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

    @property
    def is_depthwise(self) -> bool:
        """One input and one output channel per group."""
        return self.groups > 1 and self.in_c == self.out_c == 1

    def attributes(self) -> dict[str, AttributeValue]:
        """The geometry as instruction attributes."""
        return asdict(self)


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


@dataclass
class MappingSearch:
    """Chooses mappings for one target; equal layers are searched once.

    `effort` 0 takes the first legal candidate, 1 tries the splits that use all blocks, 2 every split.
    """

    target: Target
    effort: int
    memo: dict[tuple[Geometry, tuple[int, ...]], tuple[Mapping, dict[Mapping, float]]] = field(
        default_factory=dict[Any, Any]
    )

    def choose(self, geometry: Geometry, input_strides: tuple[int, ...]) -> Mapping:
        """The cheapest mapping; `input_strides` are the row and pixel strides of the input in bytes."""
        return self.explain(geometry, input_strides)[0]

    def explain(self, geometry: Geometry, input_strides: tuple[int, ...]) -> tuple[Mapping, dict[Mapping, float]]:
        """The chosen mapping, and every candidate with its estimated cycles for the whole layer."""
        key = (geometry, input_strides)
        if key not in self.memo:
            prices: dict[Mapping, float] = {}
            for candidate in self._candidates(geometry):
                price = self._price(geometry, candidate, input_strides)
                if price is not None:
                    prices[candidate] = price
                    if self.effort == 0:
                        break
            best = min(prices, key=lambda candidate: prices[candidate])
            self.memo[key] = (best, prices)
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

    def _price(self, geometry: Geometry, mapping: Mapping, input_strides: tuple[int, ...]) -> float | None:
        """Cycles of the layer: the slower of its array and vector instructions, per strip, times the strips."""
        if mapping.on_vector_unit:
            return self._vector_price(geometry, input_strides)
        packed = mapping.packed(geometry)
        columns = self.target.array.columns
        tiles = -(-packed.out_c // columns)
        row_stride, pixel_stride = input_strides
        group_stride = packed.in_c
        if not self.target.crossbar.lane_rotation:
            line = self.target.sram.line_bytes
            group_stride = -(-packed.in_c // line) * line if packed.groups > 1 else packed.in_c
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
        if alignment_problem(op, self.target, addresses["input"]):
            return None
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
                "output_group_stride": strip.out_c if groups > 1 else 0,
                "output_row_stride": packed.out_w * packed.groups * packed.out_c,
                "output_pixel_stride": packed.groups * packed.out_c,
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
            {k: v for k, v in geometry.attributes().items() if k not in ("in_c", "out_c", "groups")}
            | {
                "channels": channels,
                "input_row_stride": input_strides[0],
                "input_pixel_stride": input_strides[1],
                "output_row_stride": geometry.out_w * channels,
                "output_pixel_stride": channels,
                "input_zero": 0,
                "zero_point": 0,
            },
        )
        return float(instruction_timing(op, self.target, pretend_addresses(op, self.target)).occupancy)


def strip_shape(target: Target, geometry: Geometry, split_n: int) -> tuple[int, int, int]:
    """(output rows, column tiles, groups) of one matmul so that two such results fit into the accumulators.

    Column tiles come in multiples of `split_n`; rows are as many as then fit (at least one image row), then further
    tiles and groups.
    """
    columns = target.array.columns
    capacity = target.accumulators.rows // 2
    tiles = -(-geometry.out_c // columns)
    step = min(tiles, split_n)
    if geometry.out_w * step > capacity:
        capacity = target.accumulators.rows
        step = max(1, min(step, capacity // geometry.out_w))
    height = max(1, min(geometry.out_h, capacity // (geometry.out_w * step)))
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

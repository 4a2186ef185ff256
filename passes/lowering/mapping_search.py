"""The search for the mapping of a product: every candidate priced by the timing model, the cheapest kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from ...backends.target import CostSection, DmaSection, DramSection, EnergySection, Target
from ...backends.timing.duration import instruction_timing, pretend_addresses
from ...backends.timing.legality import alignment_problem, element_problem
from ...dialects.core.operation import Operation, Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.elements import ELEMENTS
from ...dialects.tile.pooling import DepthwiseOp
from ...dialects.tile.types import BufferType
from ...dialects.tile.vector import RequantizeOp
from .mapping import Geometry, Mapping, strip_shape


class Estimate(NamedTuple):
    """Cycles of a whole layer, and those in which the array is busy: less of these leaves more for layers beside it."""

    cycles: float
    array: float


Prices = dict[Mapping, Estimate | str]
"""Every mapping tried, with its estimate or why it is not possible."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen for an operation, and all that was considered."""

    operation: Operation
    candidates: Prices
    chosen: Mapping


@dataclass
class MappingSearch:
    """Chooses mappings for one target.

    `effort` 0 takes the first legal candidate, 1 tries the splits that use all blocks, 2 every split of them: all
    (k, n, m) with k * n * m <= blocks, for every folding and every number of groups that share a tile.
    """

    target: Target
    effort: int
    decisions: list[Decision] = field(default_factory=list[Decision])

    def choose(self, op: Operation, geometry: Geometry, input_strides: tuple[int, int]) -> Mapping:
        """The cheapest mapping; `input_strides` are the row and pixel strides of the input in bytes.

        Raises CompileError at `op` with the reason if no mapping is possible on this machine.
        """
        result = searched(Question(geometry, input_strides, without_memory(self.target), self.effort))
        if result.chosen is None:
            raise op.error(f"does not map onto the blocks of the target: {next(iter(result.prices.values()))}")
        self.decisions.append(Decision(op, result.prices, result.chosen))
        return result.chosen


class Question(NamedTuple):
    """All that the search depends on; `machine` is a target of which only what it reads is kept."""

    geometry: Geometry
    input_strides: tuple[int, int]
    machine: Target
    effort: int


class Result(NamedTuple):
    """The prices, and the mapping of least cycles, of these the one of least array cycles; None if none is possible."""

    prices: Prices
    chosen: Mapping | None


ROOMY_GROUPS = 8
"""Bank groups of the memory that operands are priced in: more than an instruction has operands."""

ROOMY_LINES = 2**20
"""Lines of a bank of that memory: the most that a target may have."""


@lru_cache(maxsize=64)
def without_memory(target: Target) -> Target:
    """The target with the fields that no mapping depends on set to fixed values, so that equal searches are found.

    What is kept: the array, its rates and the crossbar's limits, the accumulators, the lanes of the vector unit, and of
    the memory how lines lie in the banks and their ports. Each operand is priced as if it had bank groups of its own:
    how large the memory is, and how fast what is behind it, is for the schedule to make the best of.
    """
    banks = ROOMY_GROUPS * target.sram.interleave
    return replace(
        target,
        name="mapping",
        description="",
        frequency_mhz=1.0,
        array=replace(target.array, latency_cycles=0),
        sram=replace(target.sram, banks=banks, bank_lines=ROOMY_LINES),
        crossbar=replace(target.crossbar, reach_banks=banks, port_stride_banks=0),
        vector=replace(target.vector, latency_cycles=0),
        dma=DmaSection(1.0, 0),
        dram=DramSection(1),
        energy=EnergySection(),
        cost=CostSection(),
    )


@lru_cache(maxsize=2**12)
def searched(question: Question) -> Result:
    """The answer, found once for equal questions."""
    search = _Search(question.machine, question.effort)
    prices: Prices = {}
    for candidate in search.candidates(question.geometry):
        prices[candidate] = price = search.price(question.geometry, candidate, question.input_strides)
        if question.effort == 0 and not isinstance(price, str):
            break
    possible = {mapping: price for mapping, price in prices.items() if not isinstance(price, str)}
    return Result(prices, min(possible, key=possible.__getitem__, default=None))


@dataclass(frozen=True)
class _Search:
    """Candidates and their prices on one machine."""

    target: Target
    effort: int

    def candidates(self, geometry: Geometry) -> Iterator[Mapping]:
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
        """Blocks over reduction, columns and pixels: those that use all blocks, or all that there are."""
        for n in reversed(range(1, blocks + 1)):
            for k in range(1, blocks // n + 1):
                most = blocks // (n * k)
                for m in range(most, 0, -1) if self.effort == 2 else (most,):
                    if self.effort == 2 or n * k * m == blocks:
                        yield k, n, m

    def _packs(self, geometry: Geometry) -> Iterator[int]:
        """Numbers of groups that may share a tile: while both sides still fit into one tile of lanes and columns."""
        yield 1
        for pack in range(2, geometry.groups + 1) if self.effort else ():
            fits = pack * geometry.in_c <= self.target.array.lanes * 2
            if fits and geometry.groups % pack == 0:
                yield pack

    def price(self, geometry: Geometry, mapping: Mapping, input_strides: tuple[int, int]) -> Estimate | str:
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
        return Estimate(strips * max(array, vector), strips * array)

    def _vector_price(self, geometry: Geometry, input_strides: tuple[int, int]) -> Estimate:
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
        return Estimate(float(instruction_timing(op, self.target, pretend_addresses(op, self.target)).occupancy), 0.0)


def _operands(spaces: tuple[str, ...]) -> list[Value[Any]]:
    return [Value(BufferType(space, 1)) for space in spaces]

"""Lower bounds on the cycles of a network: what no schedule on the target can beat.

A bound is a function of the facts of a layer and the target, and a field of `Bounds`. The bounds of a network are
computed from all layers at once where work may flow between layers (compute, vector, DRAM), and are sums where it
cannot (tiling: the array runs one instruction at a time). The schedule bound also knows the order of the layers and
the size of the SRAM: `fluid_cycles`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from ..target import Target


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What a layer has to do, whatever its mapping.

    `macs` counts int8 multiply-accumulates; `rows` output pixels, `depth` elements of the reduction and `columns`
    output channels (both per group) describe the product, 0 where there is none. `vector_elements` counts elements
    times passes that only the vector unit can do. `weight_bytes` are weights and parameters; `input_bytes` and
    `output_bytes` are what the layer reads of the network's inputs and writes of its outputs: all that must cross the
    DRAM channel in any schedule.
    """

    name: str
    macs: int = 0
    rows: int = 0
    depth: int = 0
    columns: int = 0
    groups: int = 1
    vector_elements: int = 0
    weight_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0

    @property
    def dram_bytes(self) -> int:
        """Bytes that must cross the DRAM channel."""
        return self.weight_bytes + self.input_bytes + self.output_bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lower bounds in cycles; the largest one counts.

    compute: all MACs with every lane of every block busy. tiling: whole reduction vectors and column tiles on all
    blocks. vector: all vector passes at full rate. dram: weights, network inputs and outputs once at full bandwidth.
    schedule: layers in order, computing as fast as `compute` but never ahead of what must come from DRAM, which comes
    at full bandwidth but never further ahead than the SRAM has room; at least `compute` and `dram`.
    """

    compute: int
    tiling: int
    vector: int
    dram: int
    schedule: int

    @property
    def largest(self) -> int:
        """The bound that counts."""
        return max(self.by_name.values())

    @property
    def by_name(self) -> dict[str, int]:
        """All bounds."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def layer_bounds(layer: LayerFacts, target: Target) -> Bounds:
    """The bounds of one layer on its own."""
    return network_bounds([layer], target)


def network_bounds(layers: Sequence[LayerFacts], target: Target) -> Bounds:
    """The bounds of all layers together; the order of the layers is the order in which they run."""
    compute = -(-sum(layer.macs for layer in layers) // target.macs_per_cycle)
    dram = math.ceil(sum(layer.dram_bytes for layer in layers) / target.dma.bytes_per_cycle)
    work = [(layer.macs / target.macs_per_cycle, layer.weight_bytes + layer.input_bytes) for layer in layers]
    fluid = fluid_cycles(work, target.dma.bytes_per_cycle, target.sram_bytes)
    return Bounds(
        compute=compute,
        tiling=sum(tiling_cycles(layer, target) for layer in layers),
        vector=-(-sum(layer.vector_elements for layer in layers) // target.vector.lanes),
        dram=dram,
        schedule=max(compute, dram, math.ceil(fluid - NEGLIGIBLE)),
    )


NEGLIGIBLE = 1e-6
"""Bytes and cycles below this are rounding errors of the fluid simulation."""


def fluid_cycles(work: Sequence[tuple[float, int]], bandwidth: float, capacity: int) -> float:
    """The cycles of layers that run in order while their bytes flow in: `work` is (cycles, bytes) of every layer.

    Bytes arrive in the order of the layers at `bandwidth` a cycle. A layer that has done a fraction f of its cycles
    has consumed the fraction f of its bytes, and these take no room any more. At any time the bytes consumed are at
    most those that have arrived, and those that have arrived are at most `capacity` ahead. Nothing else takes room or
    time, so that no real schedule of these layers in this order is faster. Rates are constant between events (a layer
    ends, nothing is ahead, no room is left, all has arrived), so the simulation goes from event to event.
    """
    flow = _Flow(bandwidth, capacity, float(sum(size for _, size in work)))
    for cycles, size in work:
        flow.run(cycles, float(size))
    return flow.time


@dataclass
class _Flow:
    """The state between two events: bytes that have not arrived (`left`), and that have but are not consumed."""

    bandwidth: float
    capacity: int
    left: float
    time: float = 0.0
    ahead: float = 0.0

    def run(self, cycles: float, todo: float) -> None:
        """One layer with `todo` bytes."""
        if todo == 0:
            arrived = min(self.bandwidth * cycles, self.capacity - self.ahead, self.left)
            self._advance(cycles, arrived, 0.0)
        demand = todo / cycles if cycles else math.inf
        while todo > NEGLIGIBLE:
            if not cycles and self.ahead > NEGLIGIBLE:
                used = min(self.ahead, todo)
                self._advance(0.0, 0.0, used)
            elif self.ahead <= NEGLIGIBLE and demand >= self.bandwidth:
                used = todo
                self._advance(todo / self.bandwidth, todo, todo)
            else:
                supply = self._supply(demand)
                step = min(todo / demand, self._next_event(supply, demand))
                used = demand * step
                self._advance(step, supply * step, used)
            todo -= used

    def _supply(self, demand: float) -> float:
        if self.left <= NEGLIGIBLE:
            return 0.0
        return self.bandwidth if self.capacity - self.ahead > NEGLIGIBLE else min(self.bandwidth, demand)

    def _next_event(self, supply: float, demand: float) -> float:
        """Cycles until all has arrived, no room is left, or nothing is ahead."""
        arrived = self.left / supply if supply else math.inf
        if supply > demand:
            return min(arrived, (self.capacity - self.ahead) / (supply - demand))
        return min(arrived, self.ahead / (demand - supply)) if supply < demand else arrived

    def _advance(self, cycles: float, arrived: float, used: float) -> None:
        self.time += cycles
        self.left -= arrived
        self.ahead += arrived - used


def tiling_cycles(layer: LayerFacts, target: Target) -> int:
    """The least cycles of a product in whole tiles, over all mappings in which a vector serves one output pixel.

    A pixel needs ceil(depth / lanes) * ceil(columns / width) block-cycles where there is one group. Several groups may
    share a tile (block-diagonal weights), each with lanes and columns of its own: all of them need at least
    ceil(groups * depth * ceil(columns / width) / lanes) and ceil(groups * columns * ceil(depth / lanes) / width).
    With one input and one output channel a group the vector unit may do it instead, a tap of an element at a time.
    """
    if not layer.rows:
        return 0
    array = target.array
    vectors, tiles = -(-layer.depth // array.lanes), -(-layer.columns // array.columns)
    if layer.groups == 1:
        return -(-layer.rows * vectors * tiles // array.blocks)
    by_lanes = -(-layer.groups * layer.depth * tiles // array.lanes)
    by_columns = -(-layer.groups * layer.columns * vectors // array.columns)
    cycles = -(-layer.rows * max(by_lanes, by_columns) // array.blocks)
    if layer.columns > 1:
        return cycles
    return min(cycles, -(-layer.rows * layer.groups * layer.depth // target.vector.lanes))

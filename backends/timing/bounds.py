"""Lower bounds on the cycles of a network: what no schedule on the target can beat.

A bound is a function of the facts of a layer and the target, and a field of `Bounds`. The bounds of a network are
computed from all layers at once where work may flow between layers (compute, vector, DRAM), and are sums where it
cannot (tiling: the array runs one instruction at a time). The schedule bound, which needs the order of the layers and
the size of the SRAM, belongs here as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    compute: int
    tiling: int
    vector: int
    dram: int

    @property
    def largest(self) -> int:
        """The bound that counts."""
        return max(self.compute, self.tiling, self.vector, self.dram)


def layer_bounds(layer: LayerFacts, target: Target) -> Bounds:
    """The bounds of one layer on its own."""
    return network_bounds([layer], target)


def network_bounds(layers: Sequence[LayerFacts], target: Target) -> Bounds:
    """The bounds of all layers together."""
    return Bounds(
        compute=-(-sum(layer.macs for layer in layers) // target.macs_per_cycle),
        tiling=sum(tiling_cycles(layer, target) for layer in layers),
        vector=-(-sum(layer.vector_elements for layer in layers) // target.vector.lanes),
        dram=math.ceil(sum(layer.dram_bytes for layer in layers) / target.dma.bytes_per_cycle),
    )


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

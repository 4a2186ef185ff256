"""The result of timing one instruction, and the causes that array cycles are charged to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...dialects.tile.instruction import InstructionOp

CAUSES = (
    "useful_mac",
    "reduction_padding",
    "column_padding",
    "edge_rows",
    "depthwise_diagonal",
    "wide_numbers",
    "weight_load",
    "fill_drain",
    "bank_stall",
    "dma_wait",
    "token_wait",
    "vector_wait",
    "idle",
)
"""What a MAC slot (one cycle of one lane of one column of one block) can be spent on, in the order of the reports.

useful_mac: a multiply-accumulate of the model. reduction_padding: lanes without an input, channels added by padding,
and blocks without a reduction vector in the last reduction step. column_padding: columns without an output, and blocks
without a column tile in the last column step. edge_rows: blocks without a pixel: in the last pixel step, and blocks
that no split uses. depthwise_diagonal: structural zeros of diagonal and block-diagonal weights. wide_numbers: the
further cycles that a block takes for a vector of more than 8 bits an element. weight_load: streaming waits for weights.
fill_drain: the array's own pipeline empties while others wait for its results. bank_stall: bank conflicts, crossbar
limits, and ports of banks that others use. dma_wait, vector_wait: waiting for these engines. token_wait: the result of
the vector unit is still in its pipeline. idle: nothing to explain it.
"""


STREAMED = ("useful_mac", "reduction_padding", "column_padding", "edge_rows", "depthwise_diagonal")
"""What the MAC slots of the first cycle of every vector are charged to."""


class Twin(Protocol):
    """An object with the name of a tile instruction, as `tile.matmul`, and attributes of the same names."""

    @property
    def name(self) -> str:
        """The operation name."""
        ...


PARTS = 64
"""What the ports of a bank group are divided into; see `InstructionTiming`."""

Instruction = InstructionOp | Twin
"""What has a cost: an instruction, or anything that looks like one."""


@dataclass(frozen=True, slots=True)
class InstructionTiming:
    """The static cost of one instruction; see `duration.instruction_timing`.

    `occupancy` (at least 1): cycles its engine is busy, if others leave it the ports it demands. `latency`: further
    cycles until the effect is visible and tokens are put. `slots`: cause -> MAC slots, array engine only; they sum to
    occupancy x blocks x lanes x columns. `bank_stall_cycles`: cycles of the occupancy that bank conflicts and crossbar
    limits cost.
    `reads` and `writes`: bank group -> the part of its read or write ports, in `PARTS`, that it demands at full speed:
    the lines that the busiest bank of the instruction serves over all it could serve in the occupancy (`ports_held`).
    The demands of a hardware loop are periodic: while the parts of all engines sum up to at most the whole, a buffer of
    a few lines at every engine's port hides who goes first in a cycle (the delay of streams of bounded burstiness,
    Cruz, "A calculus for network delay", 1991). Lines are SRAM line accesses.
    """

    occupancy: int
    latency: int
    slots: Mapping[str, int] = field(default_factory=dict[str, int])
    bank_stall_cycles: int = 0
    reads: Mapping[int, int] = field(default_factory=dict[int, int])
    writes: Mapping[int, int] = field(default_factory=dict[int, int])
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    sram_read_lines: int = 0
    sram_write_lines: int = 0


def ports_held(lines: int, ports: int, occupancy: int) -> int:
    """The part of the ports that `lines` accesses of one bank in `occupancy` cycles take: 1 to `PARTS`."""
    return max(1, min(PARTS, -(-PARTS * lines // (ports * occupancy))))

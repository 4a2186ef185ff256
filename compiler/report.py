"""The report as data: what the program costs, layer by layer, and why; written by `--report-json` as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dialects.core.files import write_atomically


@dataclass(frozen=True, slots=True)
class Machine:
    """The figures of the target that a reader needs to judge the others."""

    name: str
    frequency_mhz: float
    lanes: int
    columns: int
    blocks: int
    vector_lanes: int
    sram_bytes: int
    dram_bytes_per_cycle: float

    @property
    def block_slots(self) -> int:
        """MAC slots of one block in one cycle."""
        return self.lanes * self.columns

    @property
    def slots_per_cycle(self) -> int:
        """MAC slots of all blocks in one cycle."""
        return self.block_slots * self.blocks


@dataclass(frozen=True, slots=True)
class Product:
    """A convolution or matrix product as the model has it: channels of one group, window, output pixels of a run."""

    in_channels: int
    out_channels: int
    groups: int
    kernel: tuple[int, int]
    rows: int


@dataclass(frozen=True, slots=True)
class BlockMapping:
    """How a matmul runs on the blocks; see `tile.matmul`.

    `fold`: none, row or window. `split_*`: how many blocks share the reduction, the column tiles, the pixels.
    """

    fold: str
    split_k: int
    split_n: int
    split_m: int
    diagonal: bool

    def __str__(self) -> str:
        parts = [self.fold] if self.fold != "none" else []
        parts += ["diagonal"] if self.diagonal else []
        named = zip("KNM", (self.split_k, self.split_n, self.split_m), strict=True)
        return " ".join([*parts, *(f"{letter}{count}" for letter, count in named if count > 1)]) or "one block"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: the ONNX nodes it stands for and what it costs.

    `slots` charges every MAC slot of its cycles to a cause. `lanes` is the useful share of the multiply-accumulates
    of the blocks that a matmul streams to (None where there is no matmul). SRAM and DRAM figures are bytes. `bounds`
    are those of the layer on its own, by name as in `Report`.
    """

    name: str
    nodes: tuple[str, ...]
    kind: str
    macs: int
    cycles: int
    slots: Mapping[str, int]
    instructions: int
    sram_bytes: int = 0
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    bank_stall_cycles: int = 0
    lanes: float | None = None
    mapping: BlockMapping | None = None
    product: Product | None = None
    bounds: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def losses(self) -> list[tuple[str, int]]:
        """The causes other than useful work with their slots, largest first."""
        found = [(cause, count) for cause, count in self.slots.items() if cause != "useful_mac" and count]
        return sorted(found, key=lambda item: -item[1])


@dataclass(frozen=True, slots=True)
class Shuffle:
    """A channel shuffle or other permutation: what it would cost as moves, what it costs, and where it went."""

    name: str
    cycles_before: int
    cycles_after: int
    outcome: str
    absorbed_into: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostCall:
    """A call of the host: the operations it runs, what it costs to bring data there and back; its time is not known.

    `dma_cycles` are those for which the transfers keep the DRAM channel busy; they are part of the report's cycles.
    """

    callee: str
    operations: tuple[str, ...]
    bytes_out: int
    bytes_back: int
    dma_cycles: int


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one program. `slots` sums to `cycles` times the MAC slots of a cycle, exactly.

    `bounds` are lower bounds of the cycles that hold for any schedule: `compute_cycles` (every multiply-accumulate at
    full blocks), `tiling_cycles` (whole tiles), `vector_cycles` (all passes of the vector unit), `dram_cycles` (every
    weight, input and output once), `schedule_cycles` (layers in order, weights as far ahead as the SRAM has room).
    """

    model: str
    machine: Machine
    precision: str
    macs: int
    cycles: int
    slots: Mapping[str, int]
    bounds: Mapping[str, int]
    instructions: Mapping[str, int]
    layers: tuple[Layer, ...]
    sram: Mapping[str, int]
    dram_read_bytes: int
    dram_write_bytes: int
    opt_level: int | None = None
    pipeline: str | None = None
    shuffles: tuple[Shuffle, ...] = ()
    host: tuple[HostCall, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    accuracy: Mapping[str, Any] | None = None
    explanations: tuple[Mapping[str, Any], ...] = ()
    agreement: Mapping[str, Any] | None = None
    losses: Mapping[str, Any] | None = None
    energy_pj: float | None = None

    @property
    def seconds(self) -> float:
        """The run time of one inference."""
        return self.cycles / (self.machine.frequency_mhz * 1e6)

    @property
    def utilization(self) -> float:
        """MACs of the model over what the blocks could have done in the same cycles."""
        return self.macs / (self.cycles * self.machine.slots_per_cycle) if self.cycles else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data; ledgers in block-cycles, `ledger_slots` in MAC slots (exact integers)."""
        data: dict[str, Any] = {
            "model": self.model,
            "target": self.machine.name,
            "machine": {
                "frequency_mhz": self.machine.frequency_mhz,
                "lanes": self.machine.lanes,
                "columns": self.machine.columns,
                "blocks": self.machine.blocks,
                "sram_bytes": self.machine.sram_bytes,
                "dram_bytes_per_cycle": self.machine.dram_bytes_per_cycle,
            },
            "precision": self.precision,
            "opt_level": self.opt_level,
            "pipeline": self.pipeline,
            "macs": self.macs,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "utilization": self.utilization,
            "blocks": self.machine.blocks,
            "ledger": self._block_cycles(self.slots),
            "ledger_slots": dict(self.slots),
            "bounds": dict(self.bounds),
            "sram": dict(self.sram),
            "dram_bytes": {"read": self.dram_read_bytes, "write": self.dram_write_bytes},
            "instructions": sum(self.instructions.values()),
            "instructions_by_engine": dict(self.instructions),
            "layers": [self._layer(layer) for layer in self.layers],
            "shuffles": [_shuffle(shuffle) for shuffle in self.shuffles],
            "host": [dataclasses.asdict(call) | {"operations": list(call.operations)} for call in self.host],
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
        }
        if self.accuracy is not None:
            data["accuracy"] = dict(self.accuracy)
        if self.explanations:
            data["explanations"] = [dict(explanation) for explanation in self.explanations]
        if self.agreement is not None:
            data["onnxruntime"] = dict(self.agreement)
        if self.losses is not None:
            data["accuracy_report"] = dict(self.losses)
        return data

    def _layer(self, layer: Layer) -> dict[str, Any]:
        available = layer.cycles * self.machine.slots_per_cycle
        mapping, product = layer.mapping, layer.product
        return {
            "name": layer.name,
            "nodes": list(layer.nodes),
            "kind": layer.kind,
            "macs": layer.macs,
            "cycles": layer.cycles,
            "utilization": layer.macs / available if available else 0.0,
            "lanes": layer.lanes,
            "mapping": None if mapping is None else dataclasses.asdict(mapping),
            "product": None if product is None else dataclasses.asdict(product) | {"kernel": list(product.kernel)},
            "ledger": self._block_cycles(layer.slots),
            "bounds": dict(layer.bounds),
            "losses": [{"cause": cause, "block_cycles": self._block_cycle(count)} for cause, count in layer.losses],
            "sram": {"bytes": layer.sram_bytes, "bank_stall_cycles": layer.bank_stall_cycles},
            "dram_bytes": {"read": layer.dram_read_bytes, "write": layer.dram_write_bytes},
            "instructions": layer.instructions,
        }

    def _block_cycles(self, slots: Mapping[str, int]) -> dict[str, int | float]:
        return {cause: self._block_cycle(count) for cause, count in slots.items()}

    def _block_cycle(self, slots: int) -> int | float:
        whole, rest = divmod(slots, self.machine.block_slots)
        return slots / self.machine.block_slots if rest else whole


def write_report(path: Path, report: Report) -> None:
    """Write the report as JSON, whole or not at all."""
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _shuffle(shuffle: Shuffle) -> dict[str, Any]:
    return {
        "name": shuffle.name,
        "cycles_before": shuffle.cycles_before,
        "cycles_after": shuffle.cycles_after,
        "outcome": shuffle.outcome,
        "absorbed_into": list(shuffle.absorbed_into),
    }

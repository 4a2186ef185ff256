"""Mixed precision: layers move from int8 to int16 in the order of their measured gain for each added cycle.

Every row of the trade-off is a program: compiled, timed, and compared with the float network as it executes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module
from ..passes.framework.base import Pass
from ..passes.framework.environment import Baseline
from ..passes.framework.pass_manager import Instrumentation
from ..passes.quantization.calibration_table import CalibrationTable
from ..passes.quantization.measure import Fidelity, decibels
from ..passes.quantization.mixing import Sensitivity, label_flips, promotion_order
from .driver import QUANTIZING, Compiled, Settings, Source, calibration_data, compile_module, emit, load_source
from .measuring import measure
from .report import Report

MOST_STEPS = 12
"""Sets of promoted layers that are compiled beside int8, at most; more layers move in larger steps."""

DEFAULT_LOSS = 0.1
"""Points of accuracy that may be lost where no goal is given."""


@dataclass(frozen=True)
class Goal:
    """What is chosen: the fewest cycles within a loss (points), or the least error within cycles (times int8's)."""

    max_accuracy_loss: float | None = None
    max_cycles_factor: float | None = None

    def __post_init__(self) -> None:
        loss, factor = self.max_accuracy_loss, self.max_cycles_factor
        if loss is not None and not 0.0 <= loss <= 100.0:
            raise CompileError(f"max_accuracy_loss is {loss}, expected 0 to 100 points")
        if factor is not None and not factor >= 1.0:
            raise CompileError(f"max_cycles_factor is {factor}, expected at least 1")


@dataclass(frozen=True)
class Row:
    """One program of the trade-off: the layers in int16, and what was measured.

    `loss` is the share of the calibration samples, in points, whose largest output is another one than the float
    network's: the accuracy cannot drop by more on them. `error` is that of `Fidelity`, `sqnr_db` the same in decibels.
    `energy_pj` is None where the target does not know it.
    """

    promoted: tuple[str, ...]
    loss: float
    error: float
    cycles: int
    energy_pj: float | None

    @property
    def sqnr_db(self) -> float:
        """The signal-to-noise ratio of the outputs in decibels."""
        return decibels(self.error)


@dataclass(frozen=True)
class TradeOff:
    """The rows that nothing beats in both cycles and error, by cycles; `chosen` is the one that meets the goal."""

    rows: tuple[Row, ...]
    chosen: Row
    imported: Module
    """The model, for `compile_module`."""
    warning: str | None = None


@dataclass
class _Quantized(Instrumentation):
    """Keeps a copy of the module after the last pass that decides about its integers."""

    module: Module | None = None

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        if running.name in QUANTIZING:
            self.module = module.clone()


def explore(source: Source, settings: Settings, goal: Goal) -> TradeOff:
    """Measure the trade-off of a model and choose from it; CompileError as `compile_module`."""
    explorer = _Explorer(source, settings)
    rows = explorer.rows()
    found = frontier(rows)
    chosen, warning = choose(found, goal, base=rows[0].cycles)
    return TradeOff(found, chosen, explorer.imported, warning)


def frontier(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows with less error than every other one of as few or fewer cycles, by cycles."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.cycles, row.error)):
        if not kept or row.error < kept[-1].error:
            kept.append(row)
    return tuple(kept)


def choose(rows: Sequence[Row], goal: Goal, *, base: int) -> tuple[Row, str | None]:
    """The row that meets the goal, and what is to be said where none does; `base` are the cycles of int8."""
    loss, factor = goal.max_accuracy_loss, goal.max_cycles_factor
    if loss is None and factor is None:
        loss = DEFAULT_LOSS
    allowed = [row for row in rows if factor is None or row.cycles <= factor * base]
    if not allowed:
        row = min(rows, key=lambda row: row.cycles)
        return row, f"no program takes {factor} times the {base} cycles of int8 or less; the fastest was chosen"
    best = min(allowed, key=lambda row: row.error)
    if loss is None:
        return best, None
    enough = [row for row in allowed if row.loss <= loss]
    if enough:
        return min(enough, key=lambda row: row.cycles), None
    return best, f"the least loss is {best.loss:.2f} points, expected at most {loss}; the most accurate was chosen"


class _Explorer:
    def __init__(self, source: Source, settings: Settings) -> None:
        self.source, self.imported = source, load_source(source, settings)
        self.settings = replace(settings, calibration=calibration_data(settings.calibration, self.imported))
        self.first = Baseline()
        keeper = _Quantized()
        compiled = self._compiled((), keeper, self.first, None)
        if self.first.module is None or self.first.table is None or self.first.measured is None:
            raise CompileError("mixed precision measures layers on samples, expected a float model and samples")
        self.fidelity = Fidelity(self.first.module, self.first.measured)
        report = measure(emit(compiled))
        self.base = self._measured((), keeper, report)
        self.sensitivity = Sensitivity(self.first)
        self.plain = report

    def rows(self) -> list[Row]:
        """Int8, then more and more layers in int16, the last row all of them."""
        layers = self.sensitivity.layers
        full, report = self._row(tuple(layers))
        gains = self.sensitivity.gains(progress=self.settings.progress)
        order = promotion_order(gains, self._added_cycles(report))
        counts = sorted({round(len(order) * step / MOST_STEPS) for step in range(1, MOST_STEPS)} - {0, len(order)})
        rows = [self.base]
        with self.settings.progress("compiling mixed precisions", len(counts)) as advance:
            for count in counts:
                chosen = set(order[:count])
                rows.append(self._row(tuple(layer for layer in layers if layer in chosen))[0])
                advance(1)
        return [*rows, full]

    def _row(self, promoted: tuple[str, ...]) -> tuple[Row, Report]:
        keeper = _Quantized()
        report = measure(emit(self._compiled(promoted, keeper, Baseline(), self.first.table)))
        return self._measured(promoted, keeper, report), report

    def _compiled(
        self, promoted: tuple[str, ...], keeper: _Quantized, baseline: Baseline, table: CalibrationTable | None
    ) -> Compiled:
        watchers = (*self.settings.instrumentation, keeper)
        settings = replace(self.settings, promoted=promoted, instrumentation=watchers)
        return compile_module(self.source, settings, imported=self.imported, baseline=baseline, table=table)

    def _measured(self, promoted: tuple[str, ...], keeper: _Quantized, report: Report) -> Row:
        reference, samples = self.first.module, self.first.calibration
        assert keeper.module is not None and reference is not None and samples is not None
        loss = 100.0 * label_flips(reference, keeper.module, samples)
        return Row(promoted, loss, self.fidelity.error(keeper.module), report.cycles, report.energy_pj)

    def _added_cycles(self, wide: Report) -> dict[str, float]:
        """Cycles that int16 adds to each layer: those of the layers of the reports that share an ONNX node with it."""
        found: dict[str, float] = {}
        for layer, operations in self.sensitivity.network.layers.items():
            nodes = {node for op in operations for node in op.location.nodes}
            found[layer] = float(_cycles(wide, nodes) - _cycles(self.plain, nodes))
        return found


def _cycles(report: Report, nodes: set[str]) -> int:
    return sum(layer.cycles for layer in report.layers if not nodes.isdisjoint(layer.nodes))

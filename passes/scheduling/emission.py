"""Emits the pieces of all units in an order in which the four engines overlap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from typing import Any, NamedTuple

from ...dialects.core.operation import Operation, Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.memory import LoadOp
from ...dialects.tile.pooling import DepthwiseOp
from ..lowering.emission import Share
from .buffers import Buffers, Step
from .cuts import Cut
from .interleaving import Interleaver, quickest_order
from .layers import Unit
from .pieces import Piece, Touch, series_of
from .products import ProductSteps
from .residency import Residency
from .reuse import read_instead, repeated_loads
from .tracks import Track

REUSE_SHARE = 2
"""Constants are kept for later readers while all that is live takes at most this fraction (1/2) of the SRAM."""


Signature = tuple[tuple[Cut, ...], tuple[int, ...], frozenset[Value[Any]]]
"""How every unit is cut, the unit of every piece in order, and what is spilled."""


@dataclass
class StripEmitter:
    """Builds the scheduled operations; buffers of the lowered program are replaced by buffers that fit."""

    plan: Residency
    known: Interleaver | None = None
    """The order of the pieces, if it was found before."""
    operations: list[Operation] = field(default_factory=list[Operation])
    owners: list[Track] = field(default_factory=list[Track])
    """The unit that each operation belongs to."""
    effort: int = 0
    """The instructions of all schedules that were emitted until this one was found."""
    buffers: Buffers = field(init=False)
    order: Interleaver = field(init=False)

    def __post_init__(self) -> None:
        self.buffers = Buffers(self.plan)
        units = [(i, unit) for i, unit in enumerate(self.plan.program.units) if not self._stays(unit)]
        self.order = self.known or quickest_order(
            self.plan, [self._track(index, unit, self.plan.cuts[index]) for index, unit in units]
        )

    def _stays(self, unit: Unit) -> bool:
        """True for the load of an input that is read where the host has put it: it is not run."""
        return isinstance(unit.main, LoadOp) and self.buffers.spills.keep_input(unit.main)

    @property
    def cycles(self) -> float:
        """About how long all instructions take: the array and the vector unit by estimate, or the DRAM channel."""
        return max(self.order.end, self.transfer)

    @property
    def busy(self) -> float:
        """How long the busiest of the engines works at least, however the units are cut."""
        return max(self.order.busy, self.plan.least_traffic / self.plan.target.dma.bytes_per_cycle)

    @property
    def least_cycles(self) -> float:
        """How long the busiest of the engines works if units are cut like this."""
        return max(self.order.busy, self.transfer)

    @cached_property
    def traffic(self) -> int:
        """About how many bytes all units move over the DRAM channel."""
        return sum(self.plan.traffic_of(index) for index in range(len(self.plan.program.units)))

    @property
    def transfer(self) -> float:
        """How long the DRAM channel takes for them."""
        return self.traffic / self.plan.target.dma.bytes_per_cycle

    @property
    def was_limited(self) -> bool:
        """True if units would run beside others earlier in a larger memory."""
        return self.order.was_limited

    @property
    def is_unlimited(self) -> bool:
        """True if all tensors stay in SRAM and everything fits there at once."""
        plan = self.plan
        fits = plan.program.bytes_at_once <= plan.target.sram_bytes
        return fits and not (self.was_limited or plan.spilled or plan.fusions)

    @cached_property
    def signature(self) -> Signature:
        """What schedules have in common that run the same pieces in the same order."""
        plan = self.plan
        return tuple(plan.cuts), tuple(track.index for track, _ in self.order.order), frozenset(plan.spilled)

    def emit(self) -> list[Operation]:
        """All instructions in order."""
        products: dict[Track, ProductSteps] = {}
        accounts: dict[Track, Share] = {}
        rows = self.plan.target.accumulators.rows
        pipeline = Pipeline(self.operations, self.owners, rows, self.plan.double_buffered)
        for track, piece in self.order.order:
            if isinstance(track.unit.main, MatmulOp):
                if track not in products:
                    products[track] = ProductSteps(self.buffers, track.unit, track.cut)
                steps = products[track]
                made = steps.strip(piece.operations(track.unit)) if track.cut.can_interleave else steps.steps()
            else:
                macs = track.unit.main.useful_macs if isinstance(track.unit.main, DepthwiseOp) else 0
                made = [self._step(track.unit, piece, accounts.setdefault(track, Share(macs, track.unit.rows)))]
            for step in made:
                pipeline.add(track, step, piece.touches)
        pipeline.flush()
        self._reuse()
        return self.operations

    def _reuse(self) -> None:
        """Keep constants that are read again: all of them if there is room for all at once, else in their share."""
        plan = self.plan
        size = plan.target.sram_bytes
        room = size if plan.program.bytes_at_once <= size else size // REUSE_SHARE
        buffers = repeated_loads(self.operations, room)
        if buffers:
            needed = list(read_instead(self.operations, buffers))
            self.operations = list(compress(self.operations, needed))
            self.owners = list(compress(self.owners, needed))

    def _track(self, index: int, unit: Unit, cut: Cut) -> Track:
        """The pieces of a unit; a product that does not keep its weights while its strips pass is one piece."""
        plan, fusion, rows = self.plan, self.plan.fusion_of(index), cut.rows
        if not cut.can_interleave:
            rows = unit.rows
        elif fusion is None and plan.double_buffered and (cut.chunks is None or cut.chunks.is_whole(unit.main)):
            rows = plan.piece_rows(unit, cut.rows)
            cut = replace(cut, rows=rows)
        return Track(index, unit, cut, series_of(plan.program, plan.target, unit, rows), fusion)

    def _step(self, unit: Unit, piece: Piece, macs: Share) -> Step:
        (op,) = piece.operations(unit)
        if isinstance(op, DepthwiseOp):
            op.useful_macs = macs.next(op.out_h)
        strips = self.buffers.strips(unit, [op])
        step = Step(self.buffers.constants(unit) + strips.loads, stores=strips.stores)
        own = self.buffers.bound([op], strips)
        match op.engine:
            case "load":
                step.loads += own
            case "store":
                step.stores[:0] = own
            case _:
                step.vector += own
        return step


class Waiting(NamedTuple):
    """A step of which a part is still to come."""

    owner: Track
    step: Step
    touches: list[Touch]


@dataclass
class Pipeline:
    """Appends steps so that the array of one overlaps the vector unit and the stores of earlier ones.

    Program order says what must not change, and how long buffers live: the vector part of a step comes behind the array
    part of the next one, and its stores behind the vector part of that, so that these have buffers of their own. Where
    the next step reads or overwrites what is still to come, or both do not fit into `rows` accumulator rows, that comes
    first. Without `overlap` every step ends before the next begins.
    """

    operations: list[Operation]
    owners: list[Track]
    rows: int
    overlap: bool
    computed: Waiting | None = None
    """The step whose vector part and stores are still to come."""
    written: Waiting | None = None
    """The step whose stores are still to come."""

    def add(self, owner: Track, step: Step, touches: list[Touch]) -> None:
        """Append a step; steps of one `owner` never depend on each other."""
        if not self.overlap:
            self._append(owner, step.loads + step.array + step.vector + step.stores)
            return
        crowded = self.computed is not None and self.computed.step.rows + step.rows > self.rows
        if crowded or self._conflicts(self.computed, owner, touches):
            self._finish_computed()
        if self._conflicts(self.written, owner, touches):
            self._finish_written()
        self._append(owner, step.loads + step.array)
        if step.array:
            self._finish_computed()
            self.computed = Waiting(owner, step, touches)
        else:
            self._append(owner, step.vector)
            self._finish_written()
            self.written = Waiting(owner, step, touches)

    def flush(self) -> None:
        """Append all that is still to come."""
        self._finish_computed()
        self._finish_written()

    def _append(self, owner: Track, operations: list[Operation]) -> None:
        self.operations += operations
        self.owners += [owner] * len(operations)

    def _conflicts(self, waiting: Waiting | None, owner: Track, touches: list[Touch]) -> bool:
        if waiting is None or waiting.owner is owner:
            return False
        return any(mine.conflicts(theirs) for mine in touches for theirs in waiting.touches)

    def _finish_computed(self) -> None:
        if self.computed is not None:
            self._append(self.computed.owner, self.computed.step.vector)
            self._finish_written()
            self.written, self.computed = self.computed, None

    def _finish_written(self) -> None:
        if self.written is not None:
            self._append(self.written.owner, self.written.step.stores)
            self.written = None

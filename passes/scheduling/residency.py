"""Which tensors stay in SRAM, which live in DRAM and pass through in strips, and how every unit is cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...backends.target import Target
from ...dialects.core.operation import Value
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.memory import LoadOp, TransferOp
from .chunks import chunking, held_layout, strip_bytes
from .cuts import Cut, Cutter
from .fusion import MOST_UNITS, Fusion, Roll, fuse
from .layers import Program, Unit
from .pieces import GRAINS, Grain, piece_rows, product_cycles

WEIGHT_SHARE = 8
"""A chunk of weights takes at most this fraction (1/8) of the SRAM, so that two of them leave room for activations;
a quarter of that where nothing is double-buffered."""

WEIGHT_CHUNKS = 4
"""Where rows are too few to be cut, weights come in at least so many chunks: the array starts on the first, ..."""

LATE = 4
"""The same where weights would come in one chunk that takes more than 1 / LATE of the product's cycles to load, ..."""

LEAST_CHUNK = 16384
"""... unless chunks had fewer bytes than this, or than the columns that the blocks work on at a time."""

FEW_ROWS = 2
"""Chains in pieces of so many rows are preferred: instructions of single rows are many and short."""

STRIP_SHARE = 3
"""Strips of spilled tensors, two of each for double buffering, take at most this fraction (1/3) of the budget."""


@dataclass
class Reserve:
    """Bytes to keep free by unit, as its buffers were found to need them: always, or while others run beside it."""

    always: dict[int, int] = field(default_factory=dict[int, int])
    beside: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def is_empty(self) -> bool:
        """True if no unit was found to need any."""
        return not self.always and not self.beside

    def most(self, first: int, last: int, *, beside: bool = False) -> int:
        """The most that any of the units `first` to `last` needs."""
        found = self.beside if beside else self.always
        return max((found.get(index, 0) for index in range(first, last + 1)), default=0)


class Victim(NamedTuple):
    """A tensor to be spilled; `borders` are the sums in place at which that begins and ends, if not all of it is."""

    tensor: Value[Any]
    borders: tuple[int, ...]
    price: float


@dataclass(frozen=True, slots=True)
class Policy:
    """What a schedule may do: run chains depth-first, have two buffers of what passes, cut into pieces of a grain.

    Without `fuse`, or where buffers are single, tensors that do not fit are spilled. Where not even the smallest strips
    fit twice, `double_buffered` is false: the engines then take turns. Of the pieces that may come next the one of the
    latest unit does that can start within `patience` cycles of the first.
    """

    fuse: bool = True
    double_buffered: bool = True
    grain: Grain = GRAINS[0]
    patience: float = 0.0


@dataclass
class Residency:
    """The decision for a whole program within `budget` bytes of SRAM."""

    program: Program
    target: Target
    budget: int
    policy: Policy = Policy()
    reserve: Reserve = field(default_factory=lambda: Reserve())
    spilled: set[Value[Any]] = field(default_factory=set[Value[Any]])
    _fusions: list[Fusion] = field(default_factory=list[Fusion])
    _rolls: dict[Value[Any], Roll] = field(default_factory=dict[Value[Any], Roll])
    _chains: dict[int, Fusion] = field(default_factory=dict[int, Fusion])
    cuts: list[Cut] = field(default_factory=list[Cut])
    most: int = 0
    """What the unit needs that needs most."""

    @classmethod
    def decide(
        cls,
        program: Program,
        target: Target,
        budget: int,
        policy: Policy,
        reserve: Reserve | None = None,
    ) -> Residency | None:
        """Fuse chains of units, and spill the tensors that cost least traffic a byte, until every unit fits.

        None if some unit cannot fit. The program of the plan is split where a sum in place ends or begins to be
        spilled.
        """
        plan = cls(program, target, budget, policy, reserve or Reserve())
        needs = [plan.need(index) for index in range(len(program.units))]
        while needs and max(needs) > budget:
            worst = needs.index(max(needs))
            excess = {index: need - budget for index, need in enumerate(needs) if need > budget}
            fusion = None
            if policy.double_buffered and policy.fuse:
                fusion = plan._fuse_around(worst, FEW_ROWS) or plan._fuse_around(worst, 1)
            victim = plan._victim(worst, excess)
            if fusion is not None and (victim is None or plan._price_of(fusion, excess) <= victim.price):
                plan._add(fusion)
                changed = range(fusion.first, fusion.last + 1)
            else:
                if victim is None:
                    return None
                if victim.borders:
                    split = program.split(victim.tensor, victim.borders[0])
                    return cls.decide(split, target, budget, policy, reserve)
                plan.spilled.add(victim.tensor)
                changed = range(program.first_use(victim.tensor), program.last_use(victim.tensor) + 1)
            for index in changed:
                needs[index] = plan.need(index)
        plan.most = max(needs, default=0)
        plan.cuts = [plan._final_cut(index) for index in range(len(program.units))]
        return plan

    def equals(self, other: Residency) -> bool:
        """True if both plans run every unit in the same way, with all tensors in SRAM."""
        plans = (self, other)
        simple = all(plan.double_buffered and not plan.spilled and not plan.fusions for plan in plans)
        return simple and self.program is other.program and self.cuts == other.cuts

    @property
    def double_buffered(self) -> bool:
        """True if engines overlap: what passes through SRAM has two buffers."""
        return self.policy.double_buffered

    @property
    def rolls(self) -> dict[Value[Any], Roll]:
        """The tensors that pass through SRAM a few rows at a time."""
        return self._rolls

    @property
    def fusions(self) -> list[Fusion]:
        """The chains of units that run depth-first."""
        return self._fusions

    def fusion_of(self, index: int) -> Fusion | None:
        """The chain that a unit belongs to."""
        return self._chains.get(index)

    def _add(self, found: Fusion) -> None:
        """A new chain, instead of those that it overlaps."""
        self._fusions = [f for f in self._fusions if f.last < found.first or found.last < f.first] + [found]
        self._rolls = {tensor: roll for fusion in self._fusions for tensor, roll in fusion.rolls.items()}
        self._chains = {index: f for f in self._fusions for index in range(f.first, f.last + 1)}

    @property
    def least_traffic(self) -> int:
        """The bytes of all constants, inputs and outputs."""
        transfers = (unit.main.size for unit in self.program.units if isinstance(unit.main, TransferOp))
        return sum(unit.constant_bytes for unit in self.program.units) + sum(transfers)

    def traffic_of(self, index: int) -> int:
        """About how many bytes unit `index` moves over the DRAM channel: constants, inputs, spilled strips."""
        unit, cut = self.program.units[index], self.cuts[index]
        constants = unit.parameter_bytes
        if isinstance(unit.main, MatmulOp) and unit.weights is not None:
            return constants + self._cutter.traffic(unit, cut)
        spilled = [tensor for tensor in unit.tensors if tensor in self.spilled]
        if isinstance(unit.main, TransferOp) and not spilled:
            return unit.main.size
        strips = strip_bytes(self.program, unit, cut.rows) if spilled else {}
        moving = sum(strips[tensor] for tensor in spilled if tensor is not unit.held)
        return constants + -(-unit.rows // cut.rows) * moving + self._cutter.bytes_held(unit)

    def memory_of(self, index: int) -> tuple[int, int]:
        """The bytes of SRAM that are live while unit `index` runs, and those of what it loads."""
        unit, cut, fusion = self.program.units[index], self.cuts[index], self.fusion_of(index)
        own = unit.parameter_bytes
        if isinstance(unit.main, MatmulOp) and unit.weights is not None:
            own += self._cutter.bytes_of(unit, cut)
        else:
            own += self.bytes_of_strips(unit, cut.rows)
        live = self._live(index)
        if fusion is not None:
            stays = sum(self.program.units[each].constant_bytes for each in range(fusion.first, fusion.last + 1))
            live += fusion.need - stays
        return live, own

    def row_stride(self, tensor: Value[Any]) -> int:
        """Bytes of one row of a tensor."""
        return self.program.row_stride(tensor)

    def _fuse_around(self, index: int, least_rows: int) -> Fusion | None:
        """Fuse a chain of units around unit `index` so that it fits; None if none does.

        The chain grows by the lifetime of the largest tensor that is live in it and does not roll yet, from one tensor
        on, the largest first. It swallows the chains that it overlaps.
        """
        program = self.program
        for seed in self._by_size(index, index):
            first = last = index
            tensors = [seed]
            while tensors and last - first < MOST_UNITS:
                first, last = min(first, program.first_use(tensors[0])), max(last, program.last_use(tensors[0]))
                overlapped = [f for f in self.fusions if f.first <= last and first <= f.last]
                first, last = min([first, *(f.first for f in overlapped)]), max([last, *(f.last for f in overlapped)])
                room = self.budget - self.reserve.most(first, last)
                found = fuse(program, self.target, first, last, room, self.spilled, self.bytes_of_strips, least_rows)
                if found is not None:
                    return found
                tensors = [
                    t for t in self._by_size(first, last) if program.first_use(t) < first or last < program.last_use(t)
                ]
        return None

    def _by_size(self, first: int, last: int) -> list[Value[Any]]:
        """The tensors that are live in a range of units and neither spilled nor rolling, the largest first."""
        rolling = self.rolls
        found = [t for t in self.program.live(first, last) if t not in self.spilled and t not in rolling]
        return sorted(found, key=lambda tensor: -self.program.tensors[tensor])

    def _live(self, index: int) -> int:
        """Bytes of the tensors that stay in SRAM while unit `index` runs."""
        program, fusion = self.program, self.fusion_of(index)
        first, last = (fusion.first, fusion.last) if fusion else (index, index)
        rolling = fusion.rolls if fusion else {}
        kept = (t for t in program.live(first, last) if t not in self.spilled and t not in rolling)
        return sum(program.tensors[tensor] for tensor in kept)

    def bytes_of_strips(self, unit: Unit, rows: int) -> int:
        """Bytes of the strips of spilled operands, two of each if there is more than one and they overlap."""
        return self._cutter.bytes_of_strips(unit, rows)

    @property
    def _cutter(self) -> Cutter:
        return Cutter(self.program, self.target, self.spilled, self.double_buffered)

    def _rows(self, unit: Unit) -> int:
        """Output rows of one strip: all, or as many as the share for strips allows."""
        rows = unit.rows
        if self.spilled.isdisjoint(unit.tensors):
            return rows
        pieces, held = 1, self._cutter.bytes_held(unit)
        while rows > 1 and self.bytes_of_strips(unit, rows) - held > (self.budget - held) // STRIP_SHARE:
            pieces += 1 + pieces // 4
            rows = -(-unit.rows // pieces)
        return rows

    def _cut(self, unit: Unit) -> Cut:
        if not self.spilled.isdisjoint(unit.tensors):
            return self._new_cut(unit)
        key = (unit, self.budget, self.double_buffered, self.policy.grain)
        if key not in self.program.cuts:
            self.program.cuts[key] = self._new_cut(unit)
        return self.program.cuts[key]

    def _new_cut(self, unit: Unit) -> Cut:
        rows = self._rows(unit)
        if isinstance(unit.main, MatmulOp):
            share = WEIGHT_SHARE if self.double_buffered else 4 * WEIGHT_SHARE
            chunks = chunking(unit.main, self.target, rows, self.budget // share)
            loading = unit.weight_bytes / self.target.dma.bytes_per_cycle
            multiplying = product_cycles(unit.main, self.target, unit.rows)
            late = chunks.is_whole(unit.main) and LATE * loading > multiplying
            if late or self.piece_rows(unit, chunks.rows) == unit.rows:
                step = unit.main.depth * unit.main.tile_columns * unit.main.split_n * unit.main.size_of("weights")
                limit = max(unit.weight_bytes // WEIGHT_CHUNKS, LEAST_CHUNK, step if loading > multiplying else 0)
                finer = chunking(unit.main, self.target, rows, min(limit, self.budget // share))
                keeps_mapping = finer.depth == unit.main.in_c and finer.tiles % unit.main.split_n == 0
                chunks = finer if keeps_mapping else chunks
            return Cut(chunks.rows, chunks)
        return Cut(rows)

    def piece_rows(self, unit: Unit, largest: int) -> int:
        """Output rows of a piece of a unit, at most `largest`."""
        return piece_rows(self.program, unit, largest, self.target, self.policy.grain)

    def need(self, index: int) -> int:
        """The least SRAM with which unit `index` can run: tensors, strips, constants, chunks of weights."""
        fusion = self.fusion_of(index)
        if fusion is not None:
            reserve = self.reserve.most(fusion.first, fusion.last)
            return self._live(index) + fusion.need + reserve
        unit = self.program.units[index]
        cut = self._cut(unit)
        constants = unit.parameter_bytes
        weights = 0
        if isinstance(unit.main, MatmulOp) and cut.chunks is not None and unit.weights is not None:
            copies = 2 if self.double_buffered else 1
            weights = min(unit.weight_bytes, copies * cut.chunks.weight_bytes(unit.main))
        strips = self.bytes_of_strips(unit, cut.rows)
        return self._live(index) + strips + constants + weights + self.reserve.most(index, index)

    def _victim(self, index: int, excess: Mapping[int, int]) -> Victim | None:
        """The resident tensor whose spilling costs least traffic for each byte it frees where that is in `excess`.

        Only those count that free bytes at unit `index`; `excess` has the bytes that units lack. Where sums are written
        in place of what they read, a tensor may be spilled between two of them.
        """
        program = self.program
        best: Victim | None = None
        for tensor in program.alive[index]:
            if tensor in self.spilled or tensor in self.rolls:
                continue
            sums = program.sums_in_place(tensor)
            first = max((at for at in sums if at < index), default=None)
            last = min((at for at in sums if at > index), default=None)
            for borders in dict.fromkeys([(first, last), (None, None)]):
                found = self._spilled_between(tensor, *borders, index, excess)
                if found is not None and (best is None or found.price < best.price):
                    best = found
        return best

    def _spilled_between(
        self, tensor: Value[Any], first: int | None, last: int | None, index: int, excess: Mapping[int, int]
    ) -> Victim | None:
        """A tensor as a victim from unit `first` to `last`, None if that frees nothing at unit `index`.

        The sums in place at its borders, None where there are none, need the whole of the tensor beside.
        """
        program = self.program
        uses = program.uses[tensor]
        begin, end = uses[0] if first is None else first, uses[-1] if last is None else last
        freed: dict[int, int] = {}
        for at, lacking in excess.items():
            if begin <= at <= end and at not in (first, last):
                freed[at] = min(lacking, program.tensors[tensor] - self._least_strips(program.units[at], tensor))
        if freed.get(index, 0) <= 0:
            return None
        sums = program.sums_in_place(tensor)
        inside = [at for at in uses if begin <= at <= end]
        passes = sum(2 if at in sums and at not in (first, last) else 1 for at in inside)
        loads = sum(isinstance(program.units[at].main, LoadOp) for at in inside)
        if loads:  # an input comes from DRAM anyway, once
            passes -= loads + 1
        price = passes * program.tensors[tensor] / sum(count for count in freed.values() if count > 0)
        return Victim(tensor, tuple(at for at in (first, last) if at is not None), price)

    def _least_strips(self, unit: Unit, tensor: Value[Any]) -> int:
        """The bytes of SRAM that a tensor takes at least while a unit runs, if it is spilled."""
        if tensor is unit.held and isinstance(unit.main, MatmulOp):
            return math.prod(held_layout(unit.main, self.target))
        return 2 * strip_bytes(self.program, unit, 1).get(tensor, 0)

    def _price_of(self, fusion: Fusion, excess: Mapping[int, int]) -> float:
        """What a chain costs for each byte it frees, in bytes of traffic that take as long as its smaller pieces."""
        longer = 0.0
        for index, rows in fusion.rows.items():
            main = self.program.units[index].main
            if isinstance(main, MatmulOp):
                pieces = -(-main.out_h // rows)
                longer += pieces * (product_cycles(main, self.target, rows) + self.target.array.latency_cycles)
                longer -= product_cycles(main, self.target, main.out_h)
        freed = sum(lacking for at, lacking in excess.items() if at in fusion.rows)
        return longer * self.target.dma.bytes_per_cycle / freed

    def _final_cut(self, index: int) -> Cut:
        """Now that residency is known, decide what happens to the weights of a product."""
        unit = self.program.units[index]
        fusion = self.fusion_of(index)
        if fusion is not None:
            rows = fusion.rows[index]
            chunks = chunking(unit.main, self.target, rows, self.budget) if isinstance(unit.main, MatmulOp) else None
            return Cut(rows, chunks)
        cut = self._cut(unit)
        if not isinstance(unit.main, MatmulOp) or cut.chunks is None or unit.weights is None:
            return cut
        constants = unit.parameter_bytes
        room = self.budget - self._live(index) - constants - self.reserve.most(index, index)
        return self._cutter.best(unit, room, self._cut_within(unit, cut, room))

    def _cut_within(self, unit: Unit, cut: Cut, room: int) -> Cut:
        """What happens to the weights by rule: they stay if they can, else as little as possible is loaded again."""
        assert isinstance(unit.main, MatmulOp) and cut.chunks is not None
        strips, total = -(-unit.rows // cut.rows), unit.weight_bytes
        room -= self.bytes_of_strips(unit, cut.rows)
        if total <= room or strips == 1:
            return Cut(cut.rows, cut.chunks, weights_stay=total <= room)
        columns = cut.chunks.column_bytes(unit.main)
        passes = -(-total // columns)
        spilled = sum(self.program.tensors[v] for v in unit.tensors if v in self.spilled)
        outside = spilled * (passes - 1) < total * (strips - 1) and columns + cut.chunks.weight_bytes(unit.main) <= room
        return Cut(cut.rows, cut.chunks, weights_stay=False, chunks_outside=outside)

"""Schedules whose buffers find a place in the memory: budgets, room where there was none, and loads ahead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from ...backends.target import Target
from ...dialects.core.operation import Operation
from ...dialects.tile.memory import LoadOp
from ..allocation.crowding import crowding
from .emission import StripEmitter
from .layers import Program
from .prefetch import Prefetcher
from .residency import Reserve, Residency
from .tracks import Track

BUDGETS = (1.0, 0.92, 0.84, 0.76, 0.66, 0.56, 0.46, 0.36, 0.26)
"""Fractions of the SRAM that are tried as the sum of live buffers, until the addresses can be packed."""

TRIED = 2
"""So many budgets that work are compared: a smaller one fuses more layers, or leaves more room for overlap."""

ALIKE = 0.005
"""Schedules whose estimates differ by no more than this share are taken for equally quick."""

CORRECTIONS = 8
"""Times that a schedule makes room where its buffers found no place, before the next budget is tried."""

LOOKAHEADS = (1.0, 0.8, 0.65, 0.5, 0.35)
"""Fractions of the budget that loads may fill ahead, tried until the addresses can be packed."""

RETREATS = 4
"""Times that loads are held back where their buffers found no place, before the next fraction is tried."""


def fit(program: Program, target: Target, fuse: bool) -> StripEmitter | None:
    """The quickest schedule by estimate of the largest budgets whose buffers can be packed, with loads just before use.

    Double-buffered if there is one. Where two are about as quick, the one that was easier to pack, as it leaves more
    room to load ahead: greedy orders before the exact search.
    """
    found: list[StripEmitter] = []
    for double_buffered, share in product((True, False), BUDGETS):
        if found and (len(found) >= TRIED or not double_buffered):
            break
        budget = int(target.sram_bytes * share)
        for search in (False, True):
            emitter = _packable(program, target, budget, search, double_buffered=double_buffered, fuse=fuse)
            if emitter is not None:
                found.append(emitter)
            if emitter is not None and not emitter.plan.reserve.always:
                break
        if found and found[0].plan.reserve.is_empty and found[0].plan.most <= target.sram_bytes * BUDGETS[1]:
            break  # the next budget leads to the same plan
    if not found:
        return None
    best = min(found, key=lambda emitter: emitter.cycles)
    best = next(emitter for emitter in found if emitter.cycles <= best.cycles * (1 + ALIKE))
    for emitter in found:
        if emitter is not best:
            discard(emitter.operations)
    return best


def _packable(
    program: Program, target: Target, budget: int, search: bool, *, double_buffered: bool, fuse: bool
) -> StripEmitter | None:
    """The instructions of a plan within a budget whose buffers can be packed, None if none is found.

    Plans count what units need; how pieces overlap, and gaps between buffers, can take more. Where that does not fit,
    units first run beside fewer others, then keep more room of their own.
    """
    reserve = Reserve()
    for _ in range(CORRECTIONS):
        plan = Residency.decide(program, target, budget, reserve, double_buffered=double_buffered, fuse=fuse)
        if plan is None:
            return None
        emitter = StripEmitter(plan)
        crowded = crowding(emitter.emit(), target, search=search)
        if crowded is None:
            return emitter
        corrections: dict[Track, int] = {}
        for position in crowded.lacking.nonzero()[0].tolist():
            owner = emitter.owners[position]
            corrections[owner] = max(corrections.get(owner, 0), int(crowded.lacking[position]))
        for track, size in corrections.items():
            if track.beside:
                reserve.beside[track.index] = 2 * reserve.beside.get(track.index, 0) + size
            else:
                unused = max(0, budget - plan.need(track.index))
                reserve.always[track.index] = reserve.always.get(track.index, 0) + unused + size
        discard(emitter.operations)
    return None


def load_ahead(operations: list[Operation], plan: Residency, lookahead: float) -> list[Operation]:
    """The operations with loads as early as the share `lookahead` of the budget allows and buffers can be packed.

    The budget is that of `plan`, the memory that of its target. With 0 loads stay just before what needs them.
    """
    if not lookahead:
        return operations
    slots = sum(not isinstance(op, LoadOp) for op in operations) + 1
    loads = Prefetcher(operations)
    for fraction in LOOKAHEADS:
        limits = np.full(slots, int(plan.budget * lookahead * fraction))
        for retreat in range(RETREATS):
            ahead = loads.within(limits)
            crowded = crowding(ahead, plan.target, search=False, accumulators=False)
            if crowded is None:
                return ahead
            at = np.cumsum([not isinstance(op, LoadOp) for op in ahead])
            where = crowded.lacking > 0
            live = np.minimum(crowded.live, limits[at])
            np.minimum.at(limits, at[where], (live - (crowded.lacking << retreat))[where])
    return operations


def discard(operations: Sequence[Operation]) -> None:
    """Nothing uses the operands of operations that are not taken."""
    for op in operations:
        op.set_operands(())

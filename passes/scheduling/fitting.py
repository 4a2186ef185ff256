"""Schedules whose buffers find a place in the memory: budgets, room where there was none, and loads ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...backends.target import Target
from ...dialects.core.operation import Operation
from ..allocation.crowding import crowding
from .emission import StripEmitter
from .layers import Program
from .pieces import GRAINS
from .prefetch import Prefetcher
from .residency import Policy, Reserve, Residency
from .tracks import Track
from .waiting import room_of

GRID = tuple(int(2 ** (step / 4)) for step in reversed(range(4 * 44)))
"""Budgets that are tried below the whole memory: absolute, so that a larger memory has those of a smaller one."""

LEAST_SHARE = 4
"""The least budget is this fraction (1/4) of the memory."""

ALIKE = 0.02
"""Schedules whose estimates differ by no more than this share are taken for equally quick."""

QUICKER = 0.995
"""Smaller pieces are taken if the estimate is at most this share of the other's."""

MOST_REFINED = 400
"""Schedules of more pieces than these get smaller ones only once, as each costs time to compile and to simulate."""

CORRECTIONS = 8
"""Times that a schedule makes room where its buffers found no place, before the next budget is tried."""

MOST_PACKED = 8000
"""Loads leave room where buffers found no place as long as all operations packed for that are no more; at most as often
as schedules make room."""

LOOKAHEADS = (0.85, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Fractions of the SRAM that loads may fill ahead, tried until the addresses can be packed."""

HALVINGS = 2
"""Times that a fraction between that and the one before is tried, and that a budget which is not quicker is halved."""


def fit(program: Program, target: Target, fuse: bool) -> list[StripEmitter]:
    """The quickest schedule by estimate whose buffers can be packed, with loads just before use; none if none can.

    Double-buffered if there is one. Greedy orders of buffers come before the exact search. After it come drafts that
    are about as quick by estimate; they are not emitted yet.
    """
    effort = 0
    for double_buffered in (True, False):
        budgets = Budgets(target)
        while drafts := _drafts(program, target, budgets, Policy(fuse, double_buffered)):
            best: StripEmitter | None = None
            waiting = deque(drafts)
            while waiting and (best is None or best.cycles > waiting[0].cycles * (1 + ALIKE)):
                draft = waiting.popleft()
                for search in (False, True):
                    other, emitted = _packable(draft, search)
                    effort += emitted
                    if other is not None and (best is None or other.cycles < best.cycles):
                        best, other = other, best
                    if other is not None:
                        discard(other.operations)
                    if best is not None and not best.plan.reserve.always:
                        break
            if best is not None:
                best.effort = effort
                return [best, *(draft for draft in waiting if draft.cycles <= best.cycles * (1 + ALIKE))]
    return []


def fit_draft(draft: StripEmitter) -> tuple[StripEmitter | None, int]:
    """The instructions of one draft, by greedy orders of buffers, or None; and how many were emitted to find them."""
    found, effort = _packable(draft, False)
    if found is not None:
        found.effort = effort
    return found, effort


def draft_for(program: Program, target: Target, budget: int, policy: Policy) -> StripEmitter | None:
    """A schedule within a budget that is not emitted yet; None if some unit cannot fit.

    The plan is the same for every memory, and the order of the pieces for all that have room for everything at once.
    """
    key = budget, policy.fuse, policy.double_buffered, policy.grain
    if key not in program.plans:
        program.plans[key] = Residency.decide(program, target, budget, policy)
    plan = program.plans[key]
    if plan is None:
        return None
    plan = replace(plan, target=target, policy=policy)
    order = *key, policy.patience, room_of(plan)
    draft = StripEmitter(plan, program.orders.get(order))
    program.orders[order] = draft.order
    return draft


def refined(program: Program, draft: StripEmitter) -> StripEmitter:
    """A draft in coarse pieces in ever smaller ones while it is quicker by estimate.

    Those of the vector unit alone are first, if some are long, and stay as they are if that is not quicker.
    """
    policy = draft.plan.policy
    grains = [each for each in GRAINS[1:] if each is not GRAINS[1] or draft.order.keeps_waiting(each.longest)]
    for grain in grains:
        is_long = grain is not grains[0] and len(draft.order.order) > MOST_REFINED
        if is_long or draft.cycles <= draft.least_cycles / QUICKER:
            break
        finer = draft_for(program, draft.plan.target, draft.plan.budget, replace(policy, grain=grain))
        if finer is not None and finer.cycles <= draft.cycles * QUICKER:
            draft = finer
        elif grain is not GRAINS[1]:
            break
    return draft


class Budgets:
    """The budgets of a memory, the largest first."""

    def __init__(self, target: Target) -> None:
        self.next, self.least = target.sram_bytes, target.sram_bytes // LEAST_SHARE

    def go_below(self, budget: int) -> None:
        """The next one is less than this."""
        self.next = next((each for each in GRID if each < budget), 0)

    @property
    def is_empty(self) -> bool:
        """True if there are no more."""
        return self.next < max(self.least, 1)


def _drafts(program: Program, target: Target, budgets: Budgets, policy: Policy) -> list[StripEmitter]:
    """Schedules for the next budgets as long as each is quicker by estimate, the quickest first; none is emitted yet.

    A smaller budget fuses more layers and leaves more room to load ahead. There is no use of it where a larger one is
    not used up, or where an engine is at work all the time. Where one is not quicker, its half and quarter may be if
    nothing is spilled: layers are fused then that were not.
    """
    found: list[StripEmitter] = []
    halvings = HALVINGS
    while not budgets.is_empty:
        budget = budgets.next
        draft = draft_for(program, target, budget, policy)
        if draft is None:
            budgets.go_below(0)
            break
        budgets.go_below(min(budget, draft.plan.most))
        draft = refined(program, draft)
        is_better = not found or draft.cycles < found[0].cycles * (1 - ALIKE)
        found.insert(0 if is_better else len(found), draft)
        if draft.is_unlimited or draft.order.worked <= draft.busy * (1 + ALIKE):
            break
        if not is_better:
            if not halvings or draft.plan.spilled:
                break
            halvings -= 1
            budgets.go_below(budget // 2)
    return found


def _packable(draft: StripEmitter, search: bool) -> tuple[StripEmitter | None, int]:
    """The instructions of a draft, or of plans with more room, whose buffers can be packed; None if none is found.

    And how many instructions were emitted to find them. Plans count what units need; how pieces overlap, and gaps
    between buffers, can take more. Where that does not fit, units first run beside fewer others, then keep more room of
    their own.
    """
    reserve, target, budget, effort = Reserve(), draft.plan.target, draft.plan.budget, 0
    for _ in range(CORRECTIONS):
        emitter = draft
        if not reserve.is_empty or draft.operations:
            plan = Residency.decide(draft.plan.program, target, budget, draft.plan.policy, reserve)
            if plan is None:
                return None, effort
            emitter = StripEmitter(plan)
        crowded = crowding(emitter.emit(), target, search=search)
        effort += len(emitter.operations)
        if crowded is None:
            return emitter, effort
        corrections: dict[Track, int] = {}
        for position in crowded.lacking.nonzero()[0].tolist():
            owner = emitter.owners[position]
            corrections[owner] = max(corrections.get(owner, 0), int(crowded.lacking[position]))
        for track, size in corrections.items():
            if track.beside:
                reserve.beside[track.index] = 2 * reserve.beside.get(track.index, 0) + size
            else:
                unused = max(0, budget - emitter.plan.need(track.index))
                reserve.always[track.index] = reserve.always.get(track.index, 0) + unused + size
        discard(emitter.operations)
    return None, effort


def load_ahead(operations: list[Operation], target: Target, lookahead: float) -> list[Operation]:
    """The operations with loads as early as the share `lookahead` of the SRAM allows and buffers can be packed.

    Where buffers find no place, loads leave more room; if they still find none, everywhere. With 0 loads stay just
    before what needs them.
    """
    if not lookahead:
        return operations
    loads = Prefetcher(operations)
    most = int(target.sram_bytes * lookahead)
    room = np.full(loads.length, most)
    for _ in range(min(CORRECTIONS, MOST_PACKED // max(1, len(operations)))):
        ahead = loads.within(room)
        crowded = crowding(ahead, target, search=False, accumulators=False)
        if crowded is None:
            return ahead
        where = crowded.lacking.nonzero()[0]
        np.minimum.at(room, loads.slots(ahead)[where], (crowded.live - crowded.lacking)[where])

    def within(fraction: float) -> list[Operation] | None:
        ahead = loads.within(np.minimum(room, int(most * fraction)))
        return ahead if crowding(ahead, target, search=False, accumulators=False) is None else None

    above = None
    for fraction in LOOKAHEADS:
        best = within(fraction)
        if best is None:
            above = fraction
            continue
        if above is None and (all_of_it := within(1.0)) is not None:
            return all_of_it
        above = above or 1.0
        for _ in range(HALVINGS):
            middle = (fraction + above) / 2
            other = within(middle)
            best, fraction, above = (best, fraction, middle) if other is None else (other, middle, above)
        return best
    return operations


def discard(operations: Sequence[Operation]) -> None:
    """Nothing uses the operands of operations that are not taken."""
    for op in operations:
        op.set_operands(())

"""The schedules of a program that are tried for one machine: in a memory with room for everything, and in its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import inf

from ...backends.target import Target
from ..allocation.parts import Part, smaller
from ..allocation.roomy import boundless
from .emission import Signature, StripEmitter
from .fitting import ALIKE, Budgets, discard, draft_for, fit, refined
from .layers import Program
from .pieces import GRAINS
from .residency import WEIGHT_SHARE, Policy
from .trials import Outcome, Roomy, Trials

FEW_INSTRUCTIONS = 4000
"""Schedules are tried as long as all but the first have no more: about a second of work."""

SHORT = 450
"""Of programs of more instructions than these only schedules are tried that estimates do not tell apart."""

LIKELY = 1.15
"""A schedule may be the quickest if its estimate is at most so many times the least."""

LONGER = 2.0
"""Of long programs only schedules are tried that have at most so many times the pieces of the first."""

PRICE = 0.25
"""Cycles that an instruction more must save: it costs time to compile and to simulate, and bytes of a file."""

LEAST_INSTRUCTIONS = 60
"""What a trial costs however short the schedule is, in instructions."""

STEPS = sorted((share << exponent for exponent in range(43) for share in (2, 3)), reverse=True)
"""Budgets that are tried, the largest first: absolute, so that a larger memory has those of a smaller one."""

PATIENCES = (0.0, 300.0)
"""The orders of pieces that are tried: the earliest start first, and more depth-first (`Policy.patience`)."""

Attempt = Callable[[StripEmitter], object]
"""Times a draft somewhere."""


@dataclass
class Search:
    """Times schedules of a program as for a machine with a part of the memory of a target.

    - In a memory with room for everything, which is the same for every machine that has the room, in several numbers
      of bank groups.
    - Where the machine has no such room, in its memory.

    In each of these the pieces of short programs come in other orders, then layers are cut for smaller budgets, which
    are powers of two and three times powers of two: smaller chunks of weights come earlier, and more layers run
    depth-first. Of these only what is likely by estimate is tried, the quickest first; of long programs only smaller
    budgets, of finer steps, that estimates do not tell apart. What is tried depends on the part alone, not on the rest
    of the memory, but for schedules that run in other cycles there (see `Part.address`).
    """

    program: Program
    planned: Target
    """With the DRAM channel that schedules are planned for; they are timed with the target's own."""
    part: Part
    trials: Trials
    fuse: bool
    best: tuple[float, Policy] | None = None
    """The least cost of what was tried here, and the policy of that schedule."""
    effort: int = 0
    """The instructions of all schedules but the first that was tried."""
    length: int = 0
    """The instructions of the first schedule."""
    room: Roomy | None = None
    """What came of the first schedule with room for everything."""
    tried: set[tuple[Signature, Part]] = field(default_factory=set[tuple[Signature, Part]])
    """What was tried in the memory or a part of it."""
    roomy: dict[Signature, bool] = field(default_factory=dict[Signature, bool])
    """What was tried with room for everything, and if there is the room."""
    least: float = inf
    """The least estimate of all schedules up to now."""

    def can_be_quickest(self) -> bool:
        """False if nothing fits, or if by estimate transfers over its channel take longer than the quickest schedule.

        Each constant is counted once.
        """
        size = self.machine.sram_bytes
        policies = [Policy(self.fuse, double_buffered) for double_buffered in (True, False)]
        drafts = (draft_for(self.program, self.machine, size, policy) for policy in policies)
        draft = next((each for each in drafts if each is not None), None)
        if draft is None or self.trials.cost is None:
            return draft is not None
        transfer = (draft.traffic - self.program.repeated_bytes) / self.planned.dma.bytes_per_cycle
        return transfer <= (1 + ALIKE) * self.trials.cost

    def run(self) -> None:
        """Time schedules for the machine's memory and parts of it, if any fits."""
        drafts = fit(self.program, self.machine, self.fuse)
        if drafts:
            first = drafts[0]
            self.length, self.least = len(first.operations), first.cycles
            if self.trials.lookahead:
                self._try_boundless(first)
            if not self._has_room(self.part):
                if self.is_short:
                    self._try_in(self.part, first)
                    self._vary(first, self.machine, partial(self._try_in, self.part))
                else:
                    self._try_long(drafts)
            if self.is_short:
                self._try_parts()

    def _try_parts(self) -> None:
        """Time the likely schedules for parts of the memory that are powers of two, where nothing is spilled.

        Parts with room for everything have no other schedule, but smaller ones may; where one is too small, smaller
        ones are.
        """
        drafts: list[tuple[StripEmitter, Attempt]] = []
        queue, too_small = deque([self.part]), 0
        seen = set(queue)
        while queue and self.goes_on:
            part = queue.popleft()
            if part != self.part and not self._has_room(part):
                memory, draft = part.of(self.planned), None
                if memory.sram_bytes > too_small:
                    draft = draft_for(self.program, memory, memory.sram_bytes, Policy(self.fuse))
                if draft is None or draft.plan.spilled or not self._is_likely(draft):
                    too_small = max(too_small, memory.sram_bytes)
                    continue
                attempt = partial(self._try_in, part)
                drafts += [(each, attempt) for each in (draft, *self._in_other_orders(draft))]
            following = [each for each in smaller(part, self.planned, every=False) if each not in seen]
            seen.update(following)
            queue.extend(following)
        self._try_in_turn(drafts)

    @cached_property
    def machine(self) -> Target:
        """What the search is for: the channel that schedules are planned for, and the part as its memory."""
        return self.part.of(self.planned)

    @property
    def is_short(self) -> bool:
        """True if other schedules than the first one may be tried, and that not only where estimates do not decide."""
        return self.trials.lookahead > 0 and self.length <= SHORT

    @property
    def goes_on(self) -> bool:
        """True if one more schedule may be tried."""
        return self.trials.lookahead > 0 and self.left > 0

    @property
    def left(self) -> int:
        """How many more schedules as long as the first one may be tried."""
        return max(0, FEW_INSTRUCTIONS - self.effort) // (self.length + LEAST_INSTRUCTIONS)

    def _try_long(self, drafts: Sequence[StripEmitter]) -> None:
        """Time a schedule whose instructions are there and drafts that are as quick by estimate, as many as may be."""
        first, *alike = drafts
        others = [*alike, *with_less(self.program, first, self.machine)] if self.goes_on else []
        if others:
            attempt = partial(self._try_in, self.part)
            attempt(first)
            self._try_in_turn([(draft, attempt) for draft in others])
        else:
            self.trials.take(first, self.part)

    def _try_boundless(self, limited: StripEmitter) -> None:
        """Schedules for a memory with room for everything; `limited` has the instructions for the one there is."""
        first = self._unlimited(limited)
        if first is not None:
            self.room = self._try_roomy(first)
        if first is not None and self._has_room(self.part):
            discard(limited.operations)
            memory = boundless(self.machine)
            if self.is_short:
                self._vary(first, memory, self._try_roomy)
            else:
                others = with_less(self.program, first, memory) if self.goes_on else []
                self._try_in_turn([(draft, self._try_roomy) for draft in others])

    def _unlimited(self, limited: StripEmitter) -> StripEmitter | None:
        """The schedule that no memory limits; None if there is no room for it, or no other one may be tried."""
        if self.program.bytes_at_once > self.machine.sram_bytes:
            return None
        memory = boundless(self.machine)
        draft = draft_for(self.program, memory, memory.sram_bytes, Policy(self.fuse))
        draft = None if draft is None else refined(self.program, draft)
        is_same = draft is not None and not limited.was_limited and limited.plan.equals(draft.plan)
        return draft if is_same or (self.is_short and self.left) else None

    def _try_roomy(self, draft: StripEmitter) -> Roomy:
        """Time a schedule in a memory with room for everything, once if others run like it."""
        found = self.trials.time_roomy(draft, self.part)
        if draft.signature not in self.roomy:
            self.roomy[draft.signature] = bool(found.groups(self.machine))
            self._learn(found.within(self.machine), draft.plan.policy)
        return found

    def _has_room(self, part: Part) -> bool:
        """True if a part has room for everything: there is no other schedule for it."""
        return self.room is not None and bool(self.room.groups(part.of(self.planned)))

    def _is_likely(self, draft: StripEmitter) -> bool:
        """True if a draft may be the quickest by its estimate, or if nothing was found yet."""
        return self.best is None or draft.cycles <= LIKELY * self.least

    def _try_in(self, part: Part, draft: StripEmitter) -> None:
        """Time a schedule in a part of the memory if it fits, once if others run like it."""
        key = draft.signature, part
        if key in self.tried or self.roomy.get(draft.signature):
            discard(draft.operations)
        else:
            self.tried.add(key)
            self._learn(self.trials.time(draft, part), draft.plan.policy)

    def _learn(self, outcome: Outcome, policy: Policy) -> None:
        """Count a schedule that was tried, and remember its policy if it is the quickest up to now."""
        if self.best is not None:
            self.effort += outcome.effort + LEAST_INSTRUCTIONS
        cost = outcome.cycles + PRICE * outcome.length
        if cost < (inf if self.best is None else self.best[0]):
            self.best = cost, policy

    def _vary(self, first: StripEmitter, memory: Target, attempt: Attempt) -> None:
        """Attempt drafts for a memory that run the pieces of the first one in other orders, then smaller budgets.

        These have the order of the best up to now.
        """
        for policy in _in_all_orders(first.plan.policy):
            for draft in self._drafts(memory, [memory.sram_bytes], policy, first):
                attempt(refined(self.program, draft))
        policy = first.plan.policy if self.best is None else self.best[1]
        most = min(memory.sram_bytes, WEIGHT_SHARE * self.program.bytes_at_once)
        budgets = [budget for budget in STEPS if budget < most]
        coarse = replace(policy, grain=GRAINS[0])
        self._try_in_turn([(draft, attempt) for draft in self._drafts(memory, budgets, coarse, first)])

    def _in_other_orders(self, draft: StripEmitter) -> list[StripEmitter]:
        """Coarse drafts that run the pieces of one in other orders."""
        plan = draft.plan
        policies = [policy for policy in _in_all_orders(plan.policy) if policy != plan.policy]
        drafts = [other for policy in policies for other in self._drafts(plan.target, [plan.budget], policy, draft)]
        return [other for other in drafts if other.signature != draft.signature]

    def _try_in_turn(self, drafts: Sequence[tuple[StripEmitter, Attempt]]) -> None:
        """Attempt drafts in smaller pieces if they are likely, the quickest by estimate first."""
        for draft, attempt in sorted(drafts, key=lambda each: each[0].cycles):
            if self.goes_on and self._is_likely(draft):
                attempt(refined(self.program, draft))

    def _drafts(
        self, memory: Target, budgets: Sequence[int], policy: Policy, first: StripEmitter
    ) -> Iterator[StripEmitter]:
        """Coarse drafts for budgets that run differently, as long as no more is spilled than in the first."""
        coarse: set[Signature] = set()
        for budget in budgets:
            draft = draft_for(self.program, memory, budget, policy) if self.goes_on else None
            if draft is None or len(draft.plan.spilled) > len(first.plan.spilled):
                return
            if draft.signature not in coarse:
                coarse.add(draft.signature)
                self.least = min(self.least, draft.cycles)
                yield draft


def with_less(program: Program, first: StripEmitter, memory: Target) -> list[StripEmitter]:
    """Coarse drafts for budgets below that of a long program's schedule, as quick as the quickest by estimate.

    They have not many more pieces than the schedule. One tensor more may be spilled where that is quicker.
    """
    policy, plan = replace(first.plan.policy, grain=GRAINS[0]), first.plan
    coarse = draft_for(program, memory, plan.budget, policy)
    budgets, found, least = Budgets(memory), list[StripEmitter](), inf if coarse is None else coarse.cycles
    budgets.go_below(min(plan.budget, plan.most))
    while budget := budgets.next:
        draft = draft_for(program, memory, budget, policy)
        if draft is None or len(draft.plan.spilled) > len(plan.spilled) + (draft.cycles < least):
            break
        if len(draft.order.order) <= LONGER * len(first.order.order):
            found.append(draft)
            least = min(least, draft.cycles)
        budgets.go_below(min(budget, draft.plan.most))
    return [draft for draft in found if draft.cycles <= least * (1 + ALIKE)]


def _in_all_orders(policy: Policy) -> list[Policy]:
    """The policy with every patience, in coarse pieces."""
    return [replace(policy, grain=GRAINS[0], patience=patience) for patience in PATIENCES]

"""The schedules that are tried: in a memory with room for everything, in the memory that there is, and in its parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import frexp, inf

from ...backends.target import Target
from ...dialects.core.operation import Function
from ..allocation.parts import Part, smaller, whole
from ..allocation.roomy import boundless
from .emission import Signature, StripEmitter
from .fitting import discard, draft_for, fit, fit_draft, refined
from .layers import Program
from .pieces import GRAINS
from .residency import WEIGHT_SHARE, Policy
from .trials import Candidate, Trials

FEW_INSTRUCTIONS, MOST_INSTRUCTIONS = 4000, 50000
"""Schedules are tried as long as all but the first have no more: about a second of work, or up to half a minute."""

SHORT = 450
"""Of programs of more instructions than these only schedules are tried that estimates do not tell apart, unless all
is tried."""

PRICE = 0.25
"""Cycles that an instruction more must save, unless all is tried (`Trials.price`)."""

LIKELY = 1.15
"""A schedule may be the quickest if its estimate is at most so many times the least, unless all is tried."""

BANDWIDTHS = 3
"""Channels of DRAM for which schedules are planned where all is tried, each half as fast as the one before."""

STEPS = sorted((share << exponent for exponent in range(43) for share in (2, 3)), reverse=True)
"""Budgets that are tried, the largest first: absolute, so that a larger memory has those of a smaller one."""

PATIENCES = (0.0, 300.0)
"""The orders of pieces that are tried: the earliest start first, and more depth-first (`Policy.patience`)."""


def quickest(function: Function, target: Target, lookahead: float, *, fuse: bool, exhaustive: bool) -> Candidate | None:
    """The schedule of @main that takes fewest cycles by the timing model, of those tried; None if nothing fits.

    They are planned for a DRAM channel that moves a power of two of bytes a cycle, the most that is no faster than
    the target's: one with a little more bandwidth has the same plans. With `exhaustive` they are planned for slower
    ones as well, as for machines with less bandwidth, though less is tried then.
    """
    limits = (MOST_INSTRUCTIONS, 0.0) if exhaustive else (FEW_INSTRUCTIONS, PRICE)
    trials, tried = Trials(target, lookahead, *limits), Tried()
    exponent = frexp(target.dma.bytes_per_cycle)[1] - 1
    for slower in range(BANDWIDTHS if exhaustive else 1):
        planned = replace(target, dma=replace(target.dma, bytes_per_cycle=2.0 ** (exponent - slower)))
        search = Search(Program.of(function), planned, trials, tried, fuse, exhaustive and not slower)
        search.try_all()
        if not slower:
            search.try_parts()
    return trials.best[1] if trials.best is not None else None


Attempt = Callable[[StripEmitter], object]
"""Times a draft somewhere."""


@dataclass
class Tried:
    """What was tried, for whatever bandwidth it was planned."""

    roomy: dict[Signature, dict[int, int]] = field(default_factory=dict[Signature, dict[int, int]])
    """With room for everything: by numbers of bank groups that have it, the bytes used of each group."""
    parts: dict[Part, set[Signature]] = field(default_factory=dict[Part, set[Signature]])
    """By the part of the memory."""


@dataclass
class Search:
    """Looks for the schedule of a program that takes fewest cycles by the timing model.

    What a machine can do, one with more memory can do as well: the same instructions with the same operands in the same
    lines of the same banks. So what smaller machines would try is tried too, as long as all schedules together have no
    more instructions than the trials allow:

    - in a memory with room for everything, which is the same for every target that has the room, in several numbers of
      bank groups;
    - where the target has no such room, in the whole memory;
    - in parts of it that have no such room either.

    In each of these pieces come in other orders, then layers are cut for smaller budgets, which are powers of two and
    three times powers of two: smaller chunks of weights come earlier, and more layers run depth-first. With
    `exhaustive` all of that is done in each part, as a machine of that size would, so that it finds nothing that a
    larger one does not. Without it parts are powers of two with one budget each, and only what is likely by estimate is
    tried: the smaller budgets, then the parts where nothing is spilled, the quickest first. A better machine is then
    seldom slower, not never.
    """

    program: Program
    target: Target
    """With the DRAM channel that schedules are planned for; they are timed with its own."""
    trials: Trials
    tried: Tried
    fuse: bool
    exhaustive: bool
    length: int = 0
    """The instructions of the first schedule."""
    heights: dict[int, int] = field(default_factory=dict[int, int])
    """Of the first schedule with room for everything, as of `Tried.roomy`."""
    least: float = inf
    """The least estimate of all schedules up to now."""
    too_small: int = 0
    """The most bytes of a part that is too small for a schedule that is worth a try."""

    def try_all(self) -> None:
        """Time schedules for all of the memory."""
        drafts = fit(self.program, self.target, self.fuse)
        if drafts:
            first, everywhere = drafts[0], whole(self.target)
            self.length, self.least = len(first.operations), first.cycles
            if self.trials.lookahead:
                self._try_boundless(first)
            if not self._has_room(everywhere):
                if self.is_short:
                    self._try_first(first, everywhere, self.target)
                else:
                    self._try_alike(drafts)
        self.program.forget_splits()

    def try_parts(self) -> None:
        """Time schedules for parts of the memory: all of each, the largest first, or the likely ones of all."""
        if self.exhaustive:
            for part, draft in self._parts():
                memory = draft.plan.target
                for first in fit(self.program, memory, self.fuse)[:1]:
                    self._try_first(first, part, memory)
        else:
            drafts = [
                (each, partial(self._try_in, part))
                for part, draft in self._parts()
                for each in (draft, *self._in_other_orders(draft))
            ]
            self._try_in_turn(drafts)

    @property
    def is_short(self) -> bool:
        """True if other schedules than the first one may be tried, and that not only where estimates do not decide."""
        return self.exhaustive or (self.trials.lookahead > 0 and self.length <= SHORT)

    @property
    def goes_on(self) -> bool:
        """True if one more schedule may be tried, or has to be."""
        return self.trials.best is None or (self.is_short and self.left > 0)

    @property
    def left(self) -> int:
        """How many more schedules as long as the first one may be tried."""
        return self.trials.left(self.length)

    def _try_alike(self, drafts: Sequence[StripEmitter]) -> None:
        """Time a schedule whose instructions are there and drafts that are as quick by estimate, as many as may be."""
        first, everywhere = drafts[0], whole(self.target)
        others = list(drafts[1 : 1 + self.left])
        if others and self.trials.lookahead:
            for draft in (first, *others):
                self._try_in(everywhere, draft)
        else:
            self.trials.take(first, everywhere)

    def _try_boundless(self, limited: StripEmitter) -> None:
        """Schedules for a memory with room for everything; `limited` has the instructions for the one there is."""
        first = self._unlimited(limited)
        if first is not None:
            self.heights = self._time_roomy(first)
            if first is not limited:
                discard((limited if self.heights else first).operations)
        if first is not None and self.heights:
            self._vary(first, boundless(self.target), self._try_roomy)

    def _unlimited(self, limited: StripEmitter) -> StripEmitter | None:
        """The schedule that no memory limits; None if there is no room for it, or no other one may be tried."""
        if self.program.bytes_at_once > self.target.sram_bytes:
            return None
        memory = boundless(self.target)
        draft = draft_for(self.program, memory, memory.sram_bytes, Policy(self.fuse))
        draft = None if draft is None else refined(self.program, draft)
        if draft is not None and not limited.was_limited and limited.plan.equals(draft.plan):
            return limited
        return draft if self.is_short and self.left else None

    def _try_roomy(self, draft: StripEmitter) -> None:
        """Time a schedule in a memory with room for everything, if there is the room."""
        if not self._time_roomy(draft):
            discard(draft.operations)

    def _time_roomy(self, draft: StripEmitter) -> dict[int, int]:
        """Time a schedule with room for everything, once if others run like it; returns its bytes (`Tried.roomy`)."""
        roomy = self.tried.roomy
        if draft.signature not in roomy:
            operations = draft.operations or draft.emit()
            roomy[draft.signature] = self.trials.time_roomy(operations, draft.plan, self.exhaustive)
        elif roomy[draft.signature]:
            discard(draft.operations)
        return roomy[draft.signature]

    def _has_room(self, part: Part) -> bool:
        """True if a part has room for everything: there is no other schedule for it."""
        count, size = part.banks // self.target.sram.interleave, part.of(self.target).group_bytes
        return any(groups <= count and height <= size for groups, height in self.heights.items())

    def _parts(self) -> Iterator[tuple[Part, StripEmitter]]:
        """The parts that are worth a try, the largest first, each with a coarse draft.

        Those with room for everything are not, but smaller ones may be. Where one is too small, smaller ones are.
        """
        queue = deque([whole(self.target)])
        seen = set(queue)
        while queue and self.goes_on:
            part = queue.popleft()
            if part != whole(self.target) and not self._has_room(part):
                draft = self._draft_in(part.of(self.target))
                if draft is None:
                    continue
                yield part, draft
            following = [each for each in smaller(part, self.target, every=self.exhaustive) if each not in seen]
            seen.update(following)
            queue.extend(following)

    def _draft_in(self, memory: Target) -> StripEmitter | None:
        """A coarse draft for a part of the memory; None if that is too small for one that is worth a try."""
        if memory.sram_bytes > self.too_small:
            policy = Policy(self.fuse)
            if not self.exhaustive and self.trials.best is not None:
                policy = replace(self.trials.best[1].plan.policy, fuse=self.fuse, grain=GRAINS[0])
            draft = draft_for(self.program, memory, memory.sram_bytes, policy)
            if draft is not None and self._is_worth_a_try(draft):
                return draft
            self.too_small = memory.sram_bytes
        return None

    def _is_worth_a_try(self, draft: StripEmitter) -> bool:
        """True if a part of the memory as small as that of a draft may have the quickest schedule."""
        spills = bool(draft.plan.spilled) and not self.exhaustive
        return self.trials.is_hopeful(draft) and self._is_likely(draft) and not spills

    def _is_likely(self, draft: StripEmitter) -> bool:
        """True if a draft may be the quickest by its estimate, if all is tried, or if nothing was found yet."""
        return self.exhaustive or self.trials.best is None or draft.cycles <= LIKELY * self.least

    def _is_covered(self, signature: Signature) -> bool:
        """True if not all is tried and schedules that run like this one have room for everything."""
        return not self.exhaustive and bool(self.tried.roomy.get(signature))

    def _try_first(self, first: StripEmitter, part: Part, memory: Target) -> None:
        """Time a schedule whose instructions are there in a part of the memory, then variants of it."""
        self._try_in(part, first)
        self._vary(first, memory, partial(self._try_in, part))

    def _try_in(self, part: Part, draft: StripEmitter) -> None:
        """Time a schedule in a part of the memory if it fits, once if others run like it."""
        known = self.tried.parts.setdefault(part, set())
        if draft.signature in known or self._is_covered(draft.signature):
            discard(draft.operations)
            return
        known.add(draft.signature)
        found = draft if draft.operations else fit_draft(self.program, draft)
        if found is not None:
            self.trials.time(found, part)

    def _vary(self, first: StripEmitter, memory: Target, attempt: Attempt) -> None:
        """Attempt drafts for a memory that run the pieces of the first one in other orders, then smaller budgets.

        These have all orders with `exhaustive`, else that of the best up to now.
        """
        policies = _in_all_orders(first.plan.policy)
        for policy in policies:
            for draft in self._drafts(memory, [memory.sram_bytes], policy, first):
                attempt(refined(self.program, draft))
        if not self.exhaustive and self.trials.best is not None:
            policies = [replace(self.trials.best[1].plan.policy, grain=GRAINS[0])]
        most = min(memory.sram_bytes, WEIGHT_SHARE * self.program.bytes_at_once)
        budgets = [budget for budget in STEPS if budget < most]
        drafts = [draft for policy in policies for draft in self._drafts(memory, budgets, policy, first)]
        self._try_in_turn([(draft, attempt) for draft in drafts])

    def _in_other_orders(self, draft: StripEmitter) -> list[StripEmitter]:
        """Coarse drafts that run the pieces of one in other orders."""
        plan = draft.plan
        policies = [policy for policy in _in_all_orders(plan.policy) if policy != plan.policy]
        drafts = [other for policy in policies for other in self._drafts(plan.target, [plan.budget], policy, draft)]
        return [other for other in drafts if other.signature != draft.signature]

    def _try_in_turn(self, drafts: Sequence[tuple[StripEmitter, Attempt]]) -> None:
        """Attempt drafts in smaller pieces if they are likely, the quickest by estimate first.

        Parts of as many bytes have the same smaller pieces: no draft is made again to find that it is covered.
        """
        finer: dict[tuple[int, int, Policy], Signature] = {}
        for draft, attempt in sorted(drafts, key=lambda each: each[0].cycles):
            key = draft.plan.target.sram_bytes, draft.plan.budget, draft.plan.policy
            covered = key in finer and self._is_covered(finer[key])
            if self.goes_on and self._is_likely(draft) and not covered:
                draft = refined(self.program, draft)
                finer[key] = draft.signature
                attempt(draft)
        self.program.forget_splits()

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


def _in_all_orders(policy: Policy) -> list[Policy]:
    """The policy with every patience, in coarse pieces."""
    return [replace(policy, grain=GRAINS[0], patience=patience) for patience in PATIENCES]

"""The schedules that are tried: in a memory with room for everything, in the memory that there is, and in its parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ...backends.target import Target
from ..allocation.parts import Part, smaller, whole
from ..allocation.roomy import COARSE, boundless
from .emission import StripEmitter
from .fitting import discard, draft_for, fit, fit_draft, refined
from .layers import Program
from .pieces import GRAINS
from .residency import WEIGHT_SHARE, Policy
from .trials import LEAST_INSTRUCTIONS, Candidate, Trials

FEW_INSTRUCTIONS, MOST_INSTRUCTIONS = 3000, 50000
"""Schedules are tried as long as all together have no more: about a second of work, or up to half a minute."""

SHORT = 450
"""Programs of more instructions than these have one schedule where few are tried."""

STEPS = sorted((share << exponent for exponent in range(43) for share in (2, 3)), reverse=True)
"""Budgets that are tried, the largest first: absolute, so that a larger memory has those of a smaller one."""

PATIENCES = (0.0, 300.0)
"""The orders of pieces that are tried: the earliest start first, and more depth-first (`Policy.patience`)."""


@dataclass
class Search:
    """Looks for the schedule of a program that takes fewest cycles by the timing model.

    What a machine can do, one with more memory can do as well: the same instructions with the same operands in the same
    lines of the same banks. So what smaller machines would try is tried too, as long as all schedules together have at
    most `most` instructions:

    - in a memory with room for everything, which is the same for every target that has the room, in several numbers of
      bank groups;
    - where the target has no such room, in the whole memory;
    - in parts of it that have no such room either.

    In each of these pieces come in other orders, then layers are cut for smaller budgets, which are powers of two and
    three times powers of two: smaller chunks of weights come earlier, and more layers run depth-first. With
    `exhaustive` all of that is done in each part, as a machine of that size would, so that it finds nothing that a
    larger one does not. Without it parts are tried in one order and with one budget, only if nothing is spilled and no
    schedule with room for everything runs the same pieces in the same order, and they end where a schedule is slower. A
    better machine is then seldom slower, not never.
    """

    program: Program
    target: Target
    lookahead: float
    fuse: bool
    exhaustive: bool
    trials: Trials = field(init=False)
    length: int = 0
    """The instructions of the first schedule."""
    heights: dict[int, int] = field(default_factory=dict[int, int])
    """By numbers of bank groups that have room for everything: the bytes used of each group."""
    roomy: list[StripEmitter] = field(default_factory=list[StripEmitter])
    """What was tried with room for everything."""
    spilling: int = 0
    """Tensors are spilled in a memory of so many bytes."""

    def __post_init__(self) -> None:
        self.trials = Trials(self.target, self.lookahead)

    @property
    def most(self) -> int:
        """The instructions that all schedules may have together; 0 where only one is made, as without `lookahead`."""
        if self.exhaustive:
            return MOST_INSTRUCTIONS
        return FEW_INSTRUCTIONS if self.lookahead and self.length <= SHORT else 0

    @property
    def is_over(self) -> bool:
        """True if there may be no other schedule as long as the first one."""
        return self.trials.effort + self.length + LEAST_INSTRUCTIONS > self.most

    def run(self) -> Candidate | None:
        """The quickest schedule; None if nothing fits."""
        emitter = fit(self.program, self.target, self.fuse)
        self.program.forget_splits()
        self.length = len(emitter.operations) if emitter is not None else 0
        if emitter is not None and self.lookahead:
            self._try_boundless(emitter)
        return self._try_parts(emitter)

    def _try_boundless(self, emitter: StripEmitter) -> None:
        """Schedules for a memory with room for everything; `emitter` has the instructions for the one there is."""
        first = self._unlimited(emitter)
        if first is None:
            return
        self.heights = self.trials.time_roomy(first)
        if first is not emitter:
            discard(emitter.operations if self.heights else first.operations)
        if self.heights:
            self.roomy.append(first)
            self._vary(first, boundless(self.target), self._try_roomy)

    def _unlimited(self, emitter: StripEmitter) -> StripEmitter | None:
        """The instructions that no memory limits; None if there is no room for them, or they are too many to ask."""
        if self.program.bytes_at_once > self.target.sram_bytes:
            return None
        memory = boundless(self.target)
        found = draft_for(self.program, memory, memory.sram_bytes, Policy(self.fuse))
        found = None if found is None else refined(self.program, found)
        if found is None or (not emitter.was_limited and emitter.plan.equals(found.plan)):
            return None if found is None else emitter
        if len(emitter.operations) > COARSE:
            return None
        found.emit()
        return found

    def _try_roomy(self, draft: StripEmitter) -> None:
        """Time a draft in a memory with room for everything."""
        draft.emit()
        if self.trials.time_roomy(draft):
            self.roomy.append(draft)
        else:
            discard(draft.operations)

    def _try_parts(self, emitter: StripEmitter | None) -> Candidate | None:
        """Schedules for the whole, of which `emitter` has the instructions, and its parts; returns the best of all."""
        trials, queue = self.trials, deque([whole(self.target)])
        seen = set(queue)
        while queue and not (self.is_over and trials.best):
            part = queue.popleft()
            if self._has_room(part):
                goes_on = True
            elif part != whole(self.target):
                goes_on = self._try_part(part)
            else:
                goes_on = True
                if emitter is not None:
                    candidate = trials.candidate(emitter, part)
                    if self.is_over and trials.best is None:
                        return candidate
                    trials.time(candidate)
                    self._vary(emitter, self.target, partial(self._try_in, part))
            following = [each for each in smaller(part, self.target) if goes_on and each not in seen]
            seen.update(following)
            queue.extend(following)
        return trials.best[1] if trials.best is not None else None

    def _has_room(self, part: Part) -> bool:
        """True if a part has room for everything: there is no other schedule for it."""
        count, size = part.banks // self.target.sram.interleave, part.of(self.target).group_bytes
        return any(groups <= count and height <= size for groups, height in self.heights.items())

    def _try_part(self, part: Part) -> bool:
        """Schedules for a part of the memory; False if those for smaller ones are not worth a try."""
        memory, best, trials = part.of(self.target), self.trials.best, self.trials
        policy = Policy(self.fuse) if self.exhaustive or best is None else replace(best[1].plan.policy, fuse=self.fuse)
        draft = (
            None if memory.sram_bytes <= self.spilling else draft_for(self.program, memory, memory.sram_bytes, policy)
        )
        if draft is None or (best and draft.transfer >= best[0]) or (draft.plan.spilled and not self.exhaustive):
            self.spilling = max(self.spilling, memory.sram_bytes)
            return False
        if self.exhaustive:
            found = fit(self.program, memory, self.fuse)
        else:
            draft = refined(self.program, draft)
            if any(draft.runs_like(other) for other in self.roomy):
                return True
            found = fit_draft(self.program, draft)
        is_slower = found is None or trials.time(trials.candidate(found, part))
        if found is not None and self.exhaustive:
            self._vary(found, memory, partial(self._try_in, part))
        self.program.forget_splits()
        return self.exhaustive or not is_slower

    def _try_in(self, part: Part, draft: StripEmitter) -> None:
        """Time a draft in a part of the memory, if it fits."""
        found = fit_draft(self.program, draft)
        if found is not None:
            self.trials.time(self.trials.candidate(found, part))

    def _vary(self, first: StripEmitter, memory: Target, attempt: Callable[[StripEmitter], None]) -> None:
        """Attempt drafts for a memory that run the pieces of the first one in other orders, then smaller budgets.

        These have all orders with `exhaustive`, else that of the best up to now. The quickest by estimate come first.
        """
        known = [first]
        policies = [replace(first.plan.policy, grain=GRAINS[0], patience=patience) for patience in PATIENCES]
        for policy in policies:
            for draft in self._drafts(memory, [memory.sram_bytes], policy, known):
                attempt(draft)
        if not self.exhaustive and self.trials.best is not None:
            policies = [replace(self.trials.best[1].plan.policy, grain=GRAINS[0])]
        most = min(memory.sram_bytes, WEIGHT_SHARE * self.program.bytes_at_once)
        budgets = [budget for budget in STEPS if budget < most]
        drafts = [draft for policy in policies for draft in self._drafts(memory, budgets, policy, known)]
        for draft in sorted(drafts, key=lambda draft: draft.cycles):
            if not self.is_over:
                attempt(draft)
        self.program.forget_splits()

    def _drafts(
        self, memory: Target, budgets: Sequence[int], policy: Policy, known: list[StripEmitter]
    ) -> Iterator[StripEmitter]:
        """Drafts for budgets that do not run like a known one, as long as no more is spilled than in the first."""
        coarse: list[StripEmitter] = []
        for budget in budgets:
            draft = None if self.is_over else draft_for(self.program, memory, budget, policy)
            if draft is None or len(draft.plan.spilled) > len(known[0].plan.spilled):
                return
            if _is_new(draft, coarse) and _is_new(draft := refined(self.program, draft), known):
                yield draft


def _is_new(draft: StripEmitter, known: list[StripEmitter]) -> bool:
    """True if a draft runs like none that is known; it is then one of them."""
    if any(draft.runs_like(other) for other in known):
        return False
    known.append(draft)
    return True

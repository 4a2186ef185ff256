"""Packing buffers with lifetimes into one address range: greedy first, then an exact search in many orders."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...dialects.core.types import Array
from .greedy import place
from .items import Item, lower_bound
from .search import Knowledge, Poll, Search, Stopped
from .sections import Sections

BUDGET_STEPS = 1_500_000
"""Steps of the search by default: tens of seconds for hundreds of buffers."""

ROUND_STEPS = 1000
"""Steps of the shortest try; the others are multiples by the sequence of Luby (1993), best for unknown run times."""

WEIGHTS = ((1, 1, 0), (0, 1, 0), (1, 0, 0), (1, 1, 10), (0.5, 1, 0), (1, 0.5, 0), (0, 0, 10))
"""Exponents of length of life, size and fullness of the fullest section in the price by which buffers are ordered."""

NOISE = (0.0, 0.1, 0.3)
"""Relative deviations of the prices."""

WORTHWHILE = 0.02
"""The second bound pays for itself if it closes this share of the steps."""


@dataclass(frozen=True, slots=True)
class Packing:
    """An offset for every buffer, in their order, and the end of the highest one (`peak`).

    `offsets` is None, and `peak` 0, if no place within the ranges of all buffers was found. No packing has a smaller
    peak than `lower_bound`: the largest sum of live sizes, or more if the search has
    shown it. `steps` is the work done.
    """

    offsets: tuple[int, ...] | None
    peak: int
    lower_bound: int
    steps: int = 0

    @property
    def proven(self) -> bool:
        """Whether no packing has a smaller peak."""
        return self.offsets is not None and self.peak == self.lower_bound

    def fits(self, capacity: int) -> bool:
        """Whether everything was placed below `capacity`."""
        return self.offsets is not None and self.peak <= capacity


def pack(
    buffers: Sequence[Item],
    capacity: int,
    *,
    alignment: int = 1,
    seed: int = 0,
    budget: int = BUDGET_STEPS,
    poll: Poll | None = None,
) -> Packing:
    """Pack buffers so that no two that live together overlap, below `capacity` if that is found within the budget.

    The best of the greedy packings is improved until it fits: first by short searches for capacities halfway down, then
    by searches for `capacity` itself, which restart in other orders, short ones often and long ones seldom. `budget`
    counts steps of the search (0: greedy only), so that the result depends on nothing but the arguments, unless `poll`
    stops the search. Offsets are multiples of `alignment`; sizes need not be.
    """
    units = [_in_units(item, alignment) for item in buffers]
    bound = lower_bound(units)
    goal = capacity // alignment
    placed = place(units, max(goal, sum(item.size for item in units)))
    run = _Run(units, goal, bound, placed, random.Random(seed), budget, poll)
    if units and (placed is None or run.peak > goal) and goal >= bound:
        run.improve()
    offsets = None if run.placed is None else tuple(offset * alignment for offset in run.placed)
    peak = max((o + item.size for o, item in zip(offsets or (), buffers, strict=False)), default=0)
    return Packing(offsets, peak, min(run.bound * alignment, peak) if offsets else run.bound * alignment, run.steps)


def _in_units(item: Item, unit: int) -> Item:
    ranges = tuple((-(-low // unit), high // unit) for low, high in item.ranges)
    return replace(item, size=-(-item.size // unit), ranges=ranges)


class _Run:
    """One call of `pack`: the best packing so far, what is proven, and the steps that are left."""

    def __init__(
        self,
        items: list[Item],
        goal: int,
        bound: int,
        placed: list[int] | None,
        chance: random.Random,
        budget: int,
        poll: Poll | None,
    ) -> None:
        self.items, self.goal, self.bound, self.chance, self.budget = items, goal, bound, chance, budget
        self.placed = placed
        self.steps = 0
        self.poll = poll
        self.knowledge: dict[int, Knowledge] = {}
        self.preemptive = True

    @property
    def peak(self) -> int:
        """The end of the highest buffer, 0 if nothing is placed."""
        return max((o + item.size for o, item in zip(self.placed or (), self.items, strict=False)), default=0)

    def improve(self) -> None:
        """Lower the peak to the goal, or as far as the budget allows."""
        self.sections = Sections(self.items)
        length = np.array([item.end - item.begin for item in self.items], float)
        spans = np.array(self.sections.last, float) - self.sections.first
        size = self.sections.sizes[:-1].astype(float)
        ranges = zip(self.sections.first, self.sections.last, strict=True)
        fullness = np.array([self.sections.totals[first:last].max() for first, last in ranges]) / self.bound
        self.measures = (length, spans, size, fullness)
        try:
            tries = 0
            while self._open() and tries < 2:
                tries += 1
                self._try(self.goal, ROUND_STEPS, tries)
            self._descend(self.budget // 10)
            while self._open() and self.steps < self.budget - self.budget // 10:
                tries += 1
                self._try(self.goal, ROUND_STEPS * _luby(tries), tries)
            self._descend(self.budget)
        except Stopped:
            pass

    def _open(self) -> bool:
        return self.bound <= self.goal and (self.placed is None or self.peak > self.goal)

    def _descend(self, until: int) -> None:
        """Halve the way to the goal while short searches succeed; where one fails, the way is halved in turn."""
        low = self.goal
        while self._open() and self.placed is not None and self.peak - low > 1 and self.steps < until:
            target = (low + self.peak) // 2
            if not any(self._try(target, ROUND_STEPS, number) for number in range(2)):
                low = target

    def _try(self, capacity: int, limit: int, number: int) -> bool:
        """Search once for a packing below `capacity`, in a random order."""
        length, spans, size, fullness = self.measures
        powers = self.chance.choice(WEIGHTS)
        noise = self.chance.choice(NOISE)
        lives: Array = self.chance.choice((length, spans))
        price = lives ** powers[0] * size ** powers[1] * fullness ** powers[2]
        price *= [1 + noise * self.chance.gauss(0, 1) for _ in self.items]
        rank = np.empty(len(self.items), np.int64)
        rank[np.argsort(-price, kind="stable")] = np.arange(len(self.items))
        preemptive = self.preemptive or number % 16 == 0
        search = Search(
            self.sections,
            capacity,
            rank.tolist(),
            walls=self.chance.random() < 0.5,
            preemptive=preemptive,
            knowledge=self.knowledge.setdefault(capacity, Knowledge()),
            poll=self._count,
        )
        outcome = search.run(min(limit, self.budget - self.steps))
        if preemptive and outcome.steps:
            self.preemptive = outcome.closed >= WORTHWHILE * outcome.steps
        if outcome.exhausted:
            self.bound = max(self.bound, capacity + 1)
        if outcome.offsets is None:
            return False
        self.placed = outcome.offsets
        return True

    def _count(self, steps: int) -> None:
        self.steps += steps
        if self.poll:
            self.poll(steps)


def _luby(number: int) -> int:
    """The sequence 1 1 2 1 1 2 4 1 1 2 1 1 2 4 8 ..., from 1."""
    power = number.bit_length()
    if number == (1 << power) - 1:
        return 1 << (power - 1)
    return _luby(number - (1 << (power - 1)) + 1)

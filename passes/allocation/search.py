"""Exact search for a packing within a capacity: buffers are placed from the lowest address upwards, with backtracking.

If there is a packing, there is one in which every buffer lies at the beginning of a range it may lie in, or directly on
another one: let all of them fall. The search builds such a packing. It keeps for every buffer the least offset it can
still have, takes one for which that is least of all, and tries both cases: it lies there; or it does not, and then
some buffer that is still to be placed lies under it. A section of time needs, above the least offset of its buffers,
room for all of them: where that exceeds the capacity, the case is closed. The ideas are known from MiniMalloc (Moffitt,
2023: sections, canonical packings) and from scheduling (release dates: the preemptive bound of one machine).

Where no buffer that is still to be placed crosses a moment, the packings before and after it are independent. Such
components are solved one by one, and a dead end goes back to the last decision in its own component. What a component
still can do depends only on the least offsets in it, so a state that failed is never searched again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...dialects.core.types import Array
from .sections import NEVER, NOWHERE, Sections

POLL_STEPS = 1024
"""Steps between two looks at the clock of the caller."""


Poll = Callable[[int], None]
"""Called with the number of steps done since the last call; may raise Stopped."""


class Stopped(Exception):  # noqa: N818 - no error, the caller asked for it
    """The caller's `poll` said that time is up."""


@dataclass
class Knowledge:
    """What was learnt about one capacity: digests of states that cannot be completed. Searches share it."""

    failed: set[bytes] = field(default_factory=set[bytes])


@dataclass(frozen=True, slots=True)
class Outcome:
    """Offsets if a packing was found; `exhausted` if there is none; `closed` states failed by the second bound only."""

    offsets: list[int] | None
    exhausted: bool
    steps: int
    closed: int


class _Component(NamedTuple):
    """Sections [first, last) that nothing to be placed leaves; `decision` made it (-1: none); `digest` of its state."""

    first: int
    last: int
    decision: int
    digest: bytes | None


class _Decision(NamedTuple):
    """A buffer was placed: the state before, the other components, and the component it was placed in."""

    least: Array
    remaining: Array
    crossings: Array
    others: list[_Component]
    component: _Component
    item: int


@dataclass
class Search:
    """A depth-first search. Of the buffers that can lie lowest the one of least `rank` is placed first.

    With `walls`, those that touch higher neighbours on both sides of the valley they lie in come before those that
    touch one, and these before the rest. With `preemptive`, the second, dearer bound is used as well.
    """

    sections: Sections
    capacity: int
    rank: Sequence[int]
    walls: bool = False
    preemptive: bool = True
    knowledge: Knowledge = field(default_factory=Knowledge)
    poll: Poll | None = None

    def run(self, limit: int) -> Outcome:
        """Search for `limit` steps at most; raises Stopped where `poll` does."""
        sections, capacity = self.sections, self.capacity
        members, failed = sections.members, self.knowledge.failed
        least = np.array([sections.allowed(index, 0) for index in range(len(sections.items))] + [NEVER], np.int64)
        remaining, crossings = sections.totals, sections.crossings
        offsets = [0] * len(sections.items)
        decisions: list[_Decision] = []
        components: list[_Component] = self._split(remaining, crossings, 0, sections.count, -1)
        closed = steps = 0
        while components:
            steps += 1
            if steps > limit:
                return self._end(None, False, limit, closed)
            if steps % POLL_STEPS == 0 and self.poll:
                self.poll(POLL_STEPS)
            component = components[-1]
            first, last, parent, digest = component
            open_members = members[:, first:last]
            floors = least[open_members]
            lowest = floors.min(0)
            dead = bool((lowest + remaining[first:last] > capacity).any())
            if not dead and sections.ranged:
                dead = bool((floors == NOWHERE).any())
            if not dead and digest is None:
                digest = blake2b(least[sections.inside(first, last)].tobytes(), digest_size=16).digest()
                dead = digest in failed
                component = component._replace(digest=digest)
            if not dead and self.preemptive and self._preempted(floors, sections.member_sizes[:, first:last]):
                closed += 1
                dead = True
            if not dead:
                item = self._choose(open_members, least, lowest, first)
                decisions.append(_Decision(least, remaining, crossings, components[:-1], component, item))
                offsets[item] = int(least[item])
                least, remaining, crossings = self._place(item, least, remaining, crossings)
                components = components[:-1] + self._split(remaining, crossings, first, last, len(decisions) - 1)
                continue
            if digest is not None:
                failed.add(digest)
            if parent < 0:
                return self._end(None, True, steps, closed)
            least, remaining, crossings, others, component, item = decisions[parent]
            del decisions[parent:]
            least = self._refuse(item, least)
            components = [*others, component]
        return self._end(offsets, False, steps, closed)

    def _end(self, offsets: list[int] | None, exhausted: bool, steps: int, closed: int) -> Outcome:
        if self.poll:
            self.poll(steps % POLL_STEPS)
        return Outcome(offsets, exhausted, steps, closed)

    def _choose(self, members: Array, least: Array, lowest: Array, first: int) -> int:
        section = int(lowest.argmin())
        offset = lowest[section]
        column = members[:, section]
        candidates: list[int] = column[least[column] == offset].tolist()
        if not self.walls or len(candidates) == 1:
            return min(candidates, key=self.rank.__getitem__)
        begins, ends, width = self.sections.first, self.sections.last, len(lowest)

        def order(item: int) -> tuple[int, int]:
            left, right = begins[item] - first, ends[item] - first
            open_left = left > 0 and lowest[left - 1] <= offset
            open_right = right < width and lowest[right] <= offset
            return int(open_left) + int(open_right), self.rank[item]

        return min(candidates, key=order)

    def _place(self, item: int, least: Array, remaining: Array, crossings: Array) -> tuple[Array, Array, Array]:
        sections = self.sections
        first, last = sections.first[item], sections.last[item]
        size = sections.items[item].size
        top = int(least[item]) + size
        least, remaining, crossings = least.copy(), remaining.copy(), crossings.copy()
        least[item] = NEVER
        remaining[first:last] -= size
        crossings[first : last - 1] -= 1
        above = sections.overlaps[item]
        least[above] = np.maximum(least[above], top)
        for other in sections.ranged.intersection(above.tolist()):
            if least[other] != NEVER:
                least[other] = sections.allowed(other, int(least[other]))
        return least, remaining, crossings

    def _refuse(self, item: int, least: Array) -> Array:
        """The item does not lie at its least offset, nor do those that are equal to it and could."""
        sections = self.sections
        others = sections.overlaps[item]
        old = int(least[item])
        on_others = int((least[others] + sections.sizes[others]).min()) if len(others) else NOWHERE
        new = min(sections.allowed(item, on_others), sections.next_range(item, old))
        least = least.copy()
        for twin in sections.twins[item]:
            if least[twin] == old:
                least[twin] = new
        least[item] = new
        return least

    def _split(self, remaining: Array, crossings: Array, first: int, last: int, decision: int) -> list[_Component]:
        """The parts of sections [first, last) that are independent and not empty."""
        edges = [first, *(np.flatnonzero(crossings[first : last - 1] == 0) + (first + 1)).tolist(), last]
        return [_Component(begin, end, decision, None) for begin, end in pairwise(edges) if remaining[begin]]

    def _preempted(self, floors: Array, sizes: Array) -> bool:
        """Whether some section has a level above which its buffers that must lie above it find no room."""
        order = floors.argsort(0)[::-1]
        levels = np.take_along_axis(floors, order, 0)
        open_ones = levels < NEVER
        above = (np.take_along_axis(sizes, order, 0) * open_ones).cumsum(0)
        return bool((levels * open_ones + above).max() > self.capacity)

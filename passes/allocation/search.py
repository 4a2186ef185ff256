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


class _State(NamedTuple):
    """What is still to be placed: `least` offset of every item; by section the lowest, sum of sizes, and crossings."""

    least: Array
    lowest: Array
    remaining: Array
    crossings: Array


class _Decision(NamedTuple):
    """An item was placed: the state before, the other components, and the component it was placed in."""

    state: _State
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
        self._closed = self._steps = 0
        sections, failed = self.sections, self.knowledge.failed
        offsets = [0] * len(sections.items)
        state = self._start()
        if self._is_dead(state, 0, sections.count):
            return self._end(None, True)
        decisions: list[_Decision] = []
        components = self._split(state, 0, sections.count, -1)
        while components:
            if self._steps >= limit:
                return self._end(None, False)
            component = components.pop()
            digest, parent = component.digest, component.decision
            if digest is None:
                digest = self._digest(state, component)
                component = component._replace(digest=digest)
            if digest not in failed:
                item = self._choose(state, component)
                decisions.append(_Decision(state, components, component, item))
                offsets[item] = int(state.least[item])
                state, first, last = self._place(item, state)
                if not self._is_dead(state, first, last):
                    components = components + self._split(state, component.first, component.last, len(decisions) - 1)
                    continue
                parent, digest = len(decisions) - 1, None
            while True:
                if digest is not None:
                    failed.add(digest)
                if parent < 0:
                    return self._end(None, True)
                state, components, component, item = decisions[parent]
                del decisions[parent:]
                state = self._refuse(item, state)
                if not self._is_dead(state, sections.first[item], sections.last[item]):
                    components = [*components, component]
                    break
                parent, digest = component.decision, component.digest
        return self._end(offsets, False)

    def _end(self, offsets: list[int] | None, exhausted: bool) -> Outcome:
        if self.poll:
            self.poll(self._steps % POLL_STEPS)
        return Outcome(offsets, exhausted, self._steps, self._closed)

    def _start(self) -> _State:
        sections = self.sections
        indices = range(len(sections.items))
        least = np.array([sections.allowed(index, 0) for index in indices] + [NEVER], np.int64)
        return _State(least, least[sections.members].min(0), sections.totals, sections.crossings)

    def _is_dead(self, state: _State, first: int, last: int) -> bool:
        """Whether some section of [first, last) has no room for what is still to be placed in it."""
        self._steps += 1
        if self.poll and self._steps % POLL_STEPS == 0:
            self.poll(POLL_STEPS)
        sections, remaining = self.sections, state.remaining[first:last]
        if ((state.lowest[first:last] + remaining > self.capacity) & (remaining > 0)).any():
            return True
        if not sections.ranged and not self.preemptive:
            return False
        floors = state.least[sections.members[:, first:last]]
        if sections.ranged and (floors == NOWHERE).any():
            return True
        if self.preemptive and self._preempted(floors, sections.member_sizes[:, first:last]):
            self._closed += 1
            return True
        return False

    def _preempted(self, floors: Array, sizes: Array) -> bool:
        """Whether some section has a level above which its buffers that must lie above it find no room."""
        order = floors.argsort(0)[::-1]
        levels = np.take_along_axis(floors, order, 0)
        open_ones = levels < NEVER
        above = (np.take_along_axis(sizes, order, 0) * open_ones).cumsum(0)
        return bool((levels * open_ones + above).max() > self.capacity)

    def _digest(self, state: _State, component: _Component) -> bytes:
        inside = state.least[self.sections.inside(component.first, component.last)]
        return blake2b(inside.tobytes(), digest_size=16).digest()

    def _choose(self, state: _State, component: _Component) -> int:
        first, last = component.first, component.last
        lowest = state.lowest[first:last]
        section = int(lowest.argmin())
        offset = lowest[section]
        column = self.sections.members[:, first + section]
        candidates: list[int] = column[state.least[column] == offset].tolist()
        if not self.walls or len(candidates) == 1:
            return min(candidates, key=self.rank.__getitem__)
        begins, ends = self.sections.first, self.sections.last

        def order(item: int) -> tuple[int, int]:
            open_left = begins[item] > first and lowest[begins[item] - first - 1] <= offset
            open_right = ends[item] < last and lowest[ends[item] - first] <= offset
            return int(open_left) + int(open_right), self.rank[item]

        return min(candidates, key=order)

    def _place(self, item: int, state: _State) -> tuple[_State, int, int]:
        """The state with the item at its least offset, and the sections [first, last) in which something changed."""
        sections = self.sections
        begin, end, size = sections.first[item], sections.last[item], sections.items[item].size
        least, lowest, remaining, crossings = (array.copy() for array in state)
        top = int(least[item]) + size
        least[item] = NEVER
        remaining[begin:end] -= size
        crossings[begin : end - 1] -= 1
        others = sections.overlaps[item]
        raised = others[least[others] < top]
        least[raised] = top
        for other in sections.ranged.intersection(raised.tolist()):
            least[other] = sections.allowed(other, top)
        first = min(begin, int(sections.begins[raised].min(initial=begin)))
        last = max(end, int(sections.ends[raised].max(initial=end)))
        lowest[first:last] = least[sections.members[:, first:last]].min(0)
        return _State(least, lowest, remaining, crossings), first, last

    def _refuse(self, item: int, state: _State) -> _State:
        """The item does not lie at its least offset, nor do those that are equal to it and could."""
        sections, others = self.sections, self.sections.overlaps[item]
        begin, end = sections.first[item], sections.last[item]
        least, lowest = state.least.copy(), state.lowest.copy()
        old = int(least[item])
        on_others = int((least[others] + sections.sizes[others]).min(initial=NOWHERE))
        new = min(sections.allowed(item, on_others), sections.next_range(item, old))
        for twin in sections.twins[item]:
            if least[twin] == old:
                least[twin] = new
        least[item] = new
        lowest[begin:end] = least[sections.members[:, begin:end]].min(0)
        return state._replace(least=least, lowest=lowest)

    def _split(self, state: _State, first: int, last: int, decision: int) -> list[_Component]:
        """The parts of sections [first, last) that are independent and not empty."""
        cuts = np.flatnonzero(state.crossings[first : last - 1] == 0) + (first + 1)
        edges = [first, *cuts.tolist(), last]
        return [_Component(a, b, decision, None) for a, b in pairwise(edges) if state.remaining[a]]

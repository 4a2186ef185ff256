"""Chooses an order of channels for every value, so that what is gathered lies in few contiguous ranges.

Values whose channels an operation keeps in step (an addition, a depthwise convolution) share one order; convolutions
separate orders. The search is a coordinate descent: sort the channels of one group of values by who reads them or by
where they come from, let its neighbours follow, and keep the change if the number of ranges falls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Function, Operation, Value
from ...dialects.core.types import Array
from .freedom import RESULT, channels, freedom
from .gathers import Gather, Range, moves_channels

SWEEPS = 4
"""Passes over all groups of values; the networks of the tests settle in two."""


@dataclass(eq=False)
class OrderGroup:
    """Values that share one order of channels: position p holds the channel that was `order[p]`.

    A channel must stay in its block; `starts[c]` is true where a block begins.
    """

    starts: Array
    order: Array
    position: Array
    values: list[Value[Any]] = field(default_factory=list[Value[Any]])
    made_of: list[Gather] = field(default_factory=list[Gather])
    read_by: list[tuple[Gather, int]] = field(default_factory=list[tuple[Gather, int]])

    @property
    def is_identity(self) -> bool:
        """True if every channel is where it was."""
        return bool((self.order == np.arange(len(self.order))).all())

    @property
    def block(self) -> Array:
        """The number of the block of each channel."""
        return np.cumsum(self.starts)

    def set(self, order: Array) -> None:
        """Adopt another order."""
        self.order = order
        self.position = np.argsort(order)

    def sorted_by(self, keys: Sequence[Array]) -> Array:
        """The order within blocks by `keys` (the first counts most), then by the present position."""
        return np.lexsort((self.position, *reversed(keys), self.block))


class ChannelOrders:
    """The order of every value of a function, given its gathers."""

    def __init__(self, function: Function, gathers: Sequence[Gather]) -> None:
        self.gathers = tuple(gathers)
        self._standing = {alias: _representative(gather) for gather in gathers for alias in gather.aliases}
        self._groups = _group_values(function, self._standing)
        self._costs: dict[Gather, int] = {}
        self._moving = [gather for gather in self.gathers if not gather.is_root]
        for gather in self._moving:
            self.group(gather.value).made_of.append(gather)
            for index, root in enumerate(gather.roots):
                self.group(root).read_by.append((gather, index))

    def group(self, value: Value[Any]) -> OrderGroup:
        """The values that share the order of `value`."""
        return self._groups[self._standing.get(value, value)]

    def groups_at(self, op: Operation) -> tuple[OrderGroup, ...]:
        """The groups of the computed operands and the results of an operation."""
        values = (self._standing.get(value, value) for _, value in _sites(op))
        return tuple(self._groups[value] for value in values if value in self._groups)

    def order_of(self, value: Value[Any]) -> Array | None:
        """The new order of a value (new position to old channel); None if it is the old one."""
        standing = self._standing.get(value, value)
        if standing not in self._groups or self._groups[standing].is_identity:
            return None
        return self._groups[standing].order

    def positions(self, gather: Gather) -> tuple[Array, Array]:
        """For each channel of the gather in its new order: which of its roots, and the new position in that root."""
        order = self.group(gather.value).order
        root, channel = gather.root[order], gather.channel[order]
        position = np.empty_like(channel)
        for index, value in enumerate(gather.roots):
            chosen = root == index
            position[chosen] = self.group(value).position[channel[chosen]]
        return root, position

    def ranges(self, gather: Gather) -> list[Range]:
        """The contiguous ranges of roots, in their new orders, that make up the gather in its new order."""
        return contiguous_ranges(gather, *self.positions(gather))

    def optimize(self) -> None:
        """Choose orders with as few ranges as the search finds; nothing changes where nothing is gained."""
        groups = [g for g in dict.fromkeys(self._groups.values()) if g.made_of or g.read_by]
        for _ in range(SWEEPS):
            improved = [self._improve(group) for group in groups]
            if not any(improved):
                break
        for group in groups:
            self._restore(group)

    def _improve(self, group: OrderGroup) -> bool:
        improved = False
        near = [*group.made_of, *(gather for gather, _ in group.read_by)]
        if all(self._cost(gather) <= _least(gather) for gather in near):
            return False
        for keys in _candidates(self, group):
            improved |= self._try(group, group.sorted_by(keys))
        return improved

    def _try(self, group: OrderGroup, order: Array) -> bool:
        """Set the order, let neighbours follow, keep all of it if the number of ranges falls."""
        if np.array_equal(order, group.order):
            return False
        before, old = self._total(), {group: group.order}
        self._set(group, order)
        self._follow(group, old)
        if self._total() < before:
            return True
        for changed, previous in old.items():
            self._set(changed, previous)
        return False

    def _follow(self, leader: OrderGroup, old: dict[OrderGroup, Array]) -> None:
        """Sort readers by where their channels now are, and roots by where they are now wanted, as far as that helps.

        `old` collects the orders that were replaced.
        """
        visited, waiting = {leader}, [leader]
        while waiting:
            group = waiting.pop(0)
            down = [self.group(gather.value) for gather, _ in group.read_by]
            up = [self.group(root) for gather in group.made_of for root in gather.roots]
            for follower, keys in [*((f, _source_keys) for f in down), *((f, _reader_keys) for f in up)]:
                if follower in visited:
                    continue
                visited.add(follower)
                between = follower.made_of if keys is _source_keys else [gather for gather, _ in follower.read_by]
                if self._sort_best(follower, list(keys(self, follower)), between, old):
                    waiting.append(follower)

    def _sort_best(
        self,
        group: OrderGroup,
        candidates: Sequence[Sequence[Array]],
        between: Sequence[Gather],
        old: dict[OrderGroup, Array],
    ) -> bool:
        """Take the candidate with the fewest ranges in `between`; False if none has fewer than now."""
        best, fewest, start = group.order, sum(map(self._cost, between)), group.order
        for order in [group.sorted_by(keys) for keys in candidates]:
            self._set(group, order)
            cost = sum(map(self._cost, between))
            if cost < fewest:
                best, fewest = order, cost
        self._set(group, best)
        if best is start:
            return False
        old.setdefault(group, start)
        return True

    def _restore(self, group: OrderGroup) -> None:
        """Go back to the original order if that has as few ranges."""
        if group.is_identity:
            return
        before, order = self._total(), group.order
        self._set(group, np.arange(len(order)))
        if self._total() > before:
            self._set(group, order)

    def _set(self, group: OrderGroup, order: Array) -> None:
        group.set(order)
        for gather in (*group.made_of, *(gather for gather, _ in group.read_by)):
            self._costs.pop(gather, None)

    def _total(self) -> int:
        return sum(self._cost(gather) for gather in self._moving)

    def _cost(self, gather: Gather) -> int:
        if gather not in self._costs:
            root, position = self.positions(gather)
            breaks = (np.diff(root) != 0) | (np.diff(position) != 1)
            self._costs[gather] = int(np.count_nonzero(breaks))
        return self._costs[gather]


def contiguous_ranges(gather: Gather, root: Array, position: Array) -> list[Range]:
    """Runs of neighbouring channels of one root."""
    breaks = np.flatnonzero((np.diff(root) != 0) | (np.diff(position) != 1)) + 1
    starts, stops = [0, *breaks.tolist()], [*breaks.tolist(), len(root)]
    return [
        Range(gather.roots[int(root[start])], int(position[start]), int(position[stop - 1]) + 1)
        for start, stop in zip(starts, stops, strict=True)
    ]


def _representative(gather: Gather) -> Value[Any]:
    return gather.roots[0] if gather.is_root else gather.value


def _least(gather: Gather) -> int:
    """No order has fewer breaks between ranges."""
    return len(gather.roots) - 1


def _group_values(function: Function, standing: dict[Value[Any], Value[Any]]) -> dict[Value[Any], OrderGroup]:
    """Unite values that must share an order, and cut their channels into the blocks that no operation may mix."""
    parent: dict[Value[Any], Value[Any]] = {}

    def find(value: Value[Any]) -> Value[Any]:
        value = standing.get(value, value)
        parent.setdefault(value, value)
        while parent[value] is not value:
            parent[value] = parent[parent[value]]
            value = parent[value]
        return value

    cuts: list[tuple[Value[Any], int]] = [(argument, channels(argument)) for argument in function.arguments]
    for op in function:
        if moves_channels(op):
            cuts += [(value, channels(value)) for value in op.operands if isinstance(value, Constant)]
            continue
        allowed = freedom(op)
        for site, value in _sites(op):
            if site in allowed.tied:
                first = op.result if RESULT in allowed.tied else op.operands[allowed.tied[0]]
                parent[find(value)] = find(first)
            if site in allowed.blocks or site not in allowed.tied:
                cuts.append((value, allowed.blocks.get(site, channels(value))))
    groups: dict[Value[Any], OrderGroup] = {}
    members: dict[Value[Any], OrderGroup] = {}
    for value, _ in cuts:
        find(value)
    for value in list(parent):
        length, leader = channels(value), find(value)
        if leader not in groups:
            groups[leader] = OrderGroup(np.zeros(length, bool), np.arange(length), np.arange(length))
        members[value] = groups[leader]
        groups[leader].values.append(value)
    for value, blocks in cuts:
        starts = members[find(value)].starts
        if len(starts):
            starts[:: max(len(starts) // blocks, 1)] = True
    return members


def _sites(op: Operation) -> Iterator[tuple[int, Value[Any]]]:
    """The computed operands and the results of an operation, by site; further results are never tied."""
    for index, value in enumerate(op.operands):
        if not isinstance(value, Constant):
            yield index, value
    for index, value in enumerate(op.results):
        yield RESULT - index, value


def _candidates(orders: ChannelOrders, group: OrderGroup) -> Iterator[list[Array]]:
    """Sort keys worth trying, the most promising first; made anew each time, as neighbours may have moved."""
    if group.read_by:
        for keys in _reader_keys(orders, group):
            yield keys
            for source in _source_keys(orders, group):
                yield [*keys[:-1], *source]
    for source in _source_keys(orders, group):
        yield source
        if group.read_by:
            yield [source[0], *next(iter(_reader_keys(orders, group)))]


def _source_keys(orders: ChannelOrders, group: OrderGroup) -> Iterator[list[Array]]:
    """For each gather among the values: its channels by root and by position in the root."""
    for gather in group.made_of:
        root, position = orders.positions(gather)
        yield [root[group.position], position[group.position]]


def _reader_keys(orders: ChannelOrders, group: OrderGroup) -> Iterator[list[Array]]:
    """Channels by the set of their readers and the blocks these want them in, then by the place there.

    Sets of readers are listed in lexicographic order, and in the two Gray orders, in which neighbours share readers.
    """
    if not group.read_by:
        return
    length = len(group.order)
    wanted: list[Array] = []
    place = np.full(length, np.iinfo(np.int64).max)
    for gather, index in group.read_by:
        reader = orders.group(gather.value)
        taken = np.flatnonzero(gather.root == index)
        block = np.full(length, np.iinfo(np.int64).max)
        np.minimum.at(block, gather.channel[taken], reader.block[taken])
        wanted.append(np.unique(block, return_inverse=True)[1].reshape(-1))
        first = np.full(length, np.iinfo(np.int64).max)
        np.minimum.at(first, gather.channel[taken], reader.position[taken])
        place = np.where(place == np.iinfo(np.int64).max, first, place)
    yield [*wanted, place]
    if len(wanted) > 1:
        for flipped in (0, 1):
            yield [*_gray(wanted, flipped), place]


def _gray(ranks: Sequence[Array], flipped: int) -> list[Array]:
    """Reflected keys: every second value of a key reverses the order of the next one."""
    keys, parity = [ranks[0]], ranks[0] + flipped
    for rank in ranks[1:]:
        keys.append(np.where(parity % 2, -rank, rank))
        parity = parity + rank
    return keys

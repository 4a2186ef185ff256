"""Where each channel comes from: permutations, slices, concats and gathers composed into one map for each reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Function, Operation, Value
from ...dialects.core.types import Array
from ...dialects.nn.movement import ConcatOp, GatherOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from .freedom import channels


@dataclass(frozen=True, slots=True)
class Range:
    """Channels `start` to `stop` - 1 of `root`."""

    root: Value[Any]
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """True if it is all of the root."""
        return self.start == 0 and self.stop == channels(self.root)


@dataclass(eq=False)
class Gather:
    """A value that data movement alone makes from roots, and that something else reads.

    Channel i is channel `channel[i]` of `roots[root[i]]`. `through[i, s]` says that it passes the s-th shuffle of the
    function. `aliases` are all values with this very map (`value` is the first), `movement` the operations they are
    made by. Roots are results of computing operations, arguments or constants, in program order.
    """

    value: Value[Any]
    roots: tuple[Value[Any], ...]
    root: Array
    channel: Array
    through: Array
    movement: tuple[Operation, ...]
    aliases: list[Value[Any]] = field(default_factory=list[Value[Any]])

    @property
    def is_root(self) -> bool:
        """True if it is one whole root, channel by channel."""
        (first, *others) = self.roots
        same = len(self.channel) == channels(first)
        return not others and same and bool((self.channel == np.arange(channels(first))).all())

    @property
    def is_permutation(self) -> bool:
        """True if it is all channels of one root in some order."""
        (first, *others) = self.roots
        return not others and np.array_equal(np.sort(self.channel), np.arange(channels(first)))

    @property
    def repeats(self) -> bool:
        """True if a channel occurs twice."""
        return len(np.unique(np.stack([self.root, self.channel]), axis=1).T) < len(self.channel)


def is_shuffle(op: Operation) -> bool:
    """True if `op` takes channels of its operand in an order of its own."""
    if isinstance(op, GatherOp):
        return op.axis == op.data.type.rank - 1 and op.out.type.size > 0
    return isinstance(op, PermuteChannelsOp)


def moves_channels(op: Operation) -> bool:
    """True if `op` only takes channels: a shuffle, a slice of channels, or a concat of channels."""
    match op:
        case PermuteChannelsOp() | GatherOp():
            return is_shuffle(op)
        case ConcatOp():
            return op.axis == op.out.type.rank - 1 and op.out.type.size > 0
        case SliceOp():
            shape, cut = op.data.type.shape[:-1], list(zip(op.starts, op.stops, op.steps, strict=True))[:-1]
            return op.out.type.size > 0 and op.data.type.rank > 0 and cut == [(0, size, 1) for size in shape]
        case _:
            return False


def taken_channels(op: SliceOp | GatherOp | PermuteChannelsOp) -> Array:
    """The channels of its operand that the result of `op` consists of, in order."""
    match op:
        case SliceOp():
            return np.arange(op.starts[-1], op.stops[-1], op.steps[-1])
        case GatherOp():
            return np.asarray(op.indices, dtype=np.int64)
        case PermuteChannelsOp():
            return np.asarray(op.permutation, dtype=np.int64)


def is_placeable(root: Value[Any]) -> bool:
    """True if an operation computes the root, so that it can write each range of channels where it is wanted."""
    op = root.defining_op
    if isinstance(op, (ReshapeOp, TransposeOp)):
        return is_placeable(op.data)
    return op is not None and not isinstance(root, Constant)


@dataclass(frozen=True)
class _Map:
    """The composed map of one value: numbers of roots, their channels, the shuffles passed by each channel."""

    root: Array
    channel: Array
    through: Array

    def take(self, indices: Array) -> _Map:
        return _Map(self.root[indices], self.channel[indices], self.through[indices])


def find_gathers(function: Function, shuffles: Sequence[Operation]) -> list[Gather]:
    """Every distinct map that a computing operation or the return reads, in program order of the first reader."""
    numbers: dict[Value[Any], int] = {}
    maps: dict[Value[Any], _Map] = {}
    places: dict[Operation, int] = {}
    found: dict[tuple[bytes, bytes], Gather] = {}
    passes = {op: index for index, op in enumerate(shuffles)}

    def map_of(value: Value[Any]) -> _Map:
        if value not in maps:
            number = numbers.setdefault(value, len(numbers))
            length = channels(value)
            through = np.zeros((length, len(shuffles)), bool)
            maps[value] = _Map(np.full(length, number), np.arange(length), through)
        return maps[value]

    for argument in function.arguments:
        map_of(argument)
    for op in function:
        if moves_channels(op):
            moved = _compose(op, [map_of(value) for value in op.operands])
            if op in passes:
                moved.through[:, passes[op]] = True
            maps[op.result] = moved
            places[op] = len(places)
            continue
        for value in op.operands:
            if value.defining_op in places:
                _add(found, value, maps[value], list(numbers), places)
        for result in op.results:
            map_of(result)
    return list(found.values())


def _compose(op: Operation, maps: Sequence[_Map]) -> _Map:
    if isinstance(op, (SliceOp, GatherOp, PermuteChannelsOp)):
        return maps[0].take(taken_channels(op))
    root = np.concatenate([map.root for map in maps])
    channel = np.concatenate([map.channel for map in maps])
    return _Map(root, channel, np.concatenate([map.through for map in maps]))


def _add(
    found: dict[tuple[bytes, bytes], Gather],
    value: Value[Any],
    map: _Map,
    roots: Sequence[Value[Any]],
    places: Mapping[Operation, int],
) -> None:
    key = (map.root.tobytes(), map.channel.tobytes())
    if key not in found:
        used, local = np.unique(map.root, return_inverse=True)
        distinct = tuple(roots[int(number)] for number in used.tolist())
        found[key] = Gather(value, distinct, local.reshape(-1), map.channel, map.through.copy(), ())
    gather = found[key]
    if value not in gather.aliases:
        gather.aliases.append(value)
        gather.through |= map.through
        gather.movement = tuple(sorted({*gather.movement, *_movement(value, places)}, key=lambda op: places[op]))


def _movement(value: Value[Any], places: Mapping[Operation, int]) -> set[Operation]:
    """The operations of the network behind a value."""
    found: set[Operation] = set()
    waiting = [value]
    while waiting:
        op = waiting.pop().defining_op
        if op in places and op not in found and op is not None:
            found.add(op)
            waiting += op.operands
    return found

"""Makes channel shuffles disappear into weights and into the addresses that results are written to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..dialects.core.diagnostics import Location
from ..dialects.core.operation import Function, Module, Operation, Terminator, Value
from ..dialects.core.types import Array
from ..dialects.nn.movement import ConcatOp, GatherOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from .framework.base import Pass, at_least
from .framework.environment import Environment
from .framework.rewriting import RewritePattern, Rewriter, apply_patterns
from .shuffles.freedom import RESULT, channels, reorder_constants
from .shuffles.gathers import (
    Gather,
    Range,
    find_gathers,
    is_placeable,
    is_shuffle,
    moves_channels,
    taken_channels,
)
from .shuffles.ordering import ChannelOrders, OrderGroup, contiguous_ranges

CHANNELS_PER_RANGE = 4
"""Mean channels in a range below which moving a permutation is taken to be cheaper than placing every range.

A placed range costs its producer one vector instruction a strip. A move copies a regular shuffle in one strided
instruction, but reads and writes the tensor once more; that wins only where ranges fill a few lanes of the vector unit.
"""
MOST_REPEATED = 256
"""So many ranges are placed where channels occur several times: that is quicker than a move, but an operation each."""
LEAST_LIMIT = 16
"""So many ranges are always placed: a shuffle between two convolutions of four groups takes 4 x 4."""


@dataclass(frozen=True)
class RewriteShuffles(Pass):
    """Absorb channel shuffles into weights and write addresses.

    Afterwards every channel-wise concat joins whole results of computing operations or contiguous slices of them, and
    a `nn.permute_channels` or `nn.gather` is left only where no order of the channels makes it one of those, or where
    it would take more than `max_ranges` ranges (0: a quarter of the channels, at least 16; where channels occur several
    times, 256). With `absorb=false` shuffles are only recognised. One remark of kind `shuffle` says for each what
    became of it.
    """

    name: ClassVar[str] = "rewrite-shuffles"
    max_ranges: int = at_least(0, 0)
    absorb: bool = True

    def run(self, module: Module, environment: Environment) -> None:
        apply_patterns(module, (RecognizeShuffle(), SplitSlice(), RecognizeGather()))
        for function in module.functions.values():
            shuffles = [_Shuffle.of(op) for op in function if is_shuffle(op)]
            if self.absorb:
                self._absorb(function, shuffles)
            else:
                for shuffle in shuffles:
                    shuffle.moved = True
            for shuffle in shuffles:
                shuffle.remark(environment, self.name)
        module.drop_unused_constants()

    def _absorb(self, function: Function, shuffles: Sequence[_Shuffle]) -> None:
        gathers = find_gathers(function, [shuffle.op for shuffle in shuffles])
        orders = ChannelOrders(function, gathers)
        orders.optimize()
        layers = {op: _name(op) for op in function}
        sites = {op: orders.groups_at(op) for op in function}
        changed = {op: sites[op] for op in function if reorder_constants(op, _site_order(op, orders))}
        emitter = _Emitter(function, orders, self.max_ranges)
        for gather in gathers:
            ranges, moved = emitter.emit(gather)
            for index in np.flatnonzero(gather.through.any(axis=0)).tolist():
                shuffles[index].note(gather, gather.through[:, index], ranges, moved, orders, changed, layers)
        emitter.finish()


@dataclass(frozen=True)
class RecognizeShuffle(RewritePattern[ReshapeOp]):
    """reshape(transpose(reshape(x))) == permute_channels(x), where only factors of the last axis change places."""

    def rewrite(self, op: ReshapeOp, rewriter: Rewriter) -> None:
        transpose = op.data.defining_op
        if not isinstance(transpose, TransposeOp):
            return
        split = transpose.data.defining_op
        if not isinstance(split, ReshapeOp) or split.data.type.shape != op.out.type.shape or not op.out.type.size:
            return
        shape, axes = split.out.type.shape, transpose.permutation
        length = op.out.type.shape[-1] if op.out.type.rank else 1
        splits = [k for k in range(len(shape)) if math.prod(shape[k:]) == length and axes[:k] == tuple(range(k))]
        if not splits or axes == tuple(range(len(shape))):
            return
        first = splits[0]
        factors = np.arange(length).reshape(shape[first:])
        permutation = factors.transpose([axis - first for axis in axes[first:]]).reshape(-1)
        location = split.location.merged(transpose.location, op.location)
        shuffle = PermuteChannelsOp.build(split.data, permutation=_integers(permutation), location=location)
        rewriter.replace(op, shuffle)


@dataclass(frozen=True)
class RecognizeGather(RewritePattern[GatherOp]):
    """gather(x, indices) == permute_channels(x, indices), where the indices are each channel once."""

    def rewrite(self, op: GatherOp, rewriter: Rewriter) -> None:
        if not is_shuffle(op) or sorted(op.indices) != list(range(op.data.type.shape[-1])):
            return
        rewriter.replace(op, PermuteChannelsOp.build(op.data, permutation=op.indices, location=op.location))


@dataclass(frozen=True)
class SplitSlice(RewritePattern[SliceOp]):
    """slice(x, space and channels) == slice(slice(x, space), channels)."""

    def rewrite(self, op: SliceOp, rewriter: Rewriter) -> None:
        shape = op.data.type.shape
        if not shape or not op.out.type.size or moves_channels(op):
            return
        if (op.starts[-1], op.stops[-1], op.steps[-1]) == (0, shape[-1], 1):
            return
        starts, stops, steps = (*op.starts[:-1], 0), (*op.stops[:-1], shape[-1]), (*op.steps[:-1], 1)
        space = SliceOp.build(op.data, starts=starts, stops=stops, steps=steps, location=op.location)
        rewriter.insert_before(op, space)
        cut = range(op.starts[-1], op.stops[-1], op.steps[-1])
        rewriter.replace(op, _slice(space.out, cut.start, cut.stop, op.location, step=cut.step))


class _Emitter:
    """Builds the operations that gathers become, and removes those they were made by."""

    def __init__(self, function: Function, orders: ChannelOrders, max_ranges: int) -> None:
        self.function = function
        self.orders = orders
        self.max_ranges = max_ranges
        self.movement: dict[Operation, None] = {}
        self._claimed: set[Operation] = set()
        self._slices: dict[Range, Value[Any]] = {}
        self._made: dict[tuple[Range, ...], Value[Any]] = {}
        self._places = {op: place for place, op in enumerate(function)}

    def emit(self, gather: Gather) -> tuple[list[Range], bool]:
        """Give the readers of a gather what it became; returns its ranges, and whether a permutation is moved."""
        readers = [
            op for op in self._places for alias in gather.aliases if op in alias.users and not moves_channels(op)
        ]
        claimed = self._claim(gather.movement)
        location = Location().merged(*(op.location for op in claimed))
        if gather.is_root:
            self._give(gather, gather.roots[0], readers, location)
            return [Range(gather.roots[0], 0, len(gather.channel))], False
        root, position = self.orders.positions(gather)
        ranges = contiguous_ranges(gather, root, position)
        base, permutation = ranges, None
        if self._is_moved(gather, ranges):
            (roots, places), permutation = np.unique([root, position], axis=1, return_inverse=True)
            base = contiguous_ranges(gather, roots, places)
            if len(base) > len(gather.roots):
                base = [Range(value, 0, channels(value)) for value in gather.roots]
                starts = np.cumsum([0, *(piece.stop for piece in base)])
                permutation = starts[root] + position
        if self._is_kept(gather, base, permutation):
            kept = {gather.value.defining_op, *(value.defining_op for value in _movement_operands(gather.value))}
            others = [op.location for op in claimed if op not in kept]
            self._give(gather, gather.value, readers, Location().merged(*others))
            return ranges, permutation is not None
        value = self._joined(base, readers[0], location if permutation is None else Location())
        if permutation is not None:
            value = self._insert(_shuffled(value, _integers(permutation), location), readers[0], location)
        self._give(gather, value, readers, location)
        return ranges, permutation is not None

    def finish(self) -> None:
        """Erase the movement that nothing reads any more."""
        for op in reversed(list(self.function)):
            if op in self.movement and all(result.is_unused for result in op.results):
                op.erase()

    def _is_moved(self, gather: Gather, ranges: Sequence[Range]) -> bool:
        if len(ranges) > 1 and gather.is_permutation and not is_placeable(gather.roots[0]):
            return True
        usual = MOST_REPEATED if gather.repeats else max(LEAST_LIMIT, len(gather.channel) // CHANNELS_PER_RANGE)
        return len(ranges) > max(self.max_ranges or usual, len(gather.roots))

    def _is_kept(self, gather: Gather, base: Sequence[Range], permutation: Array | None) -> bool:
        """True if the value as it stands already is what would be built."""
        values = [gather.value, *gather.roots]
        if any(self.orders.order_of(value) is not None for value in values):
            return False
        op = gather.value.defining_op
        if permutation is not None:
            return (
                isinstance(op, (GatherOp, PermuteChannelsOp))
                and op.data in gather.roots
                and base == [_as_range(op.data)]
            )
        operands = op.operands if isinstance(op, ConcatOp) else (gather.value,)
        return [_as_range(value) for value in operands] == list(base)

    def _claim(self, movement: Iterable[Operation]) -> list[Operation]:
        """The operations whose work no earlier gather took over."""
        new = [op for op in movement if op not in self._claimed]
        self._claimed.update(new)
        self.movement.update(dict.fromkeys(movement))
        return new

    def _joined(self, ranges: Sequence[Range], anchor: Operation, location: Location) -> Value[Any]:
        key = tuple(ranges)
        if key in self._made:
            return self._made[key]
        values = [self._range(piece, anchor, location if len(ranges) == 1 else Location()) for piece in ranges]
        value = values[0]
        if len(values) > 1:
            axis = value.type.rank - 1
            value = self._insert(ConcatOp.build(*values, axis=axis, location=location), anchor, location)
        self._made[key] = value
        return value

    def _range(self, piece: Range, anchor: Operation, location: Location) -> Value[Any]:
        if piece.is_whole:
            return piece.root
        if piece not in self._slices:
            cut = _slice(piece.root, piece.start, piece.stop, location)
            self._slices[piece] = self._insert(cut, anchor, location)
        return self._slices[piece]

    def _insert(self, op: Operation, anchor: Operation, location: Location) -> Value[Any]:
        """Place a new operation; without nodes of its own it takes over those of the operation it reads first."""
        if not location.nodes and op.operands[0].defining_op is not None:
            op.location = op.location.merged(op.operands[0].defining_op.location)
        assert anchor.parent is not None
        return anchor.parent.insert_before(anchor, op).result

    def _give(self, gather: Gather, value: Value[Any], readers: Sequence[Operation], location: Location) -> None:
        for op in readers:
            for index, read in enumerate(op.operands):
                if read in gather.aliases:
                    op.set_operand(index, value)
        made = value.defining_op
        heir = made if made and (moves_channels(made) or readers[0].has_trait(Terminator)) else readers[0]
        if not set(location.nodes) <= set(heir.location.nodes):
            heir.location = heir.location.merged(location)


@dataclass(eq=False)
class _Shuffle:
    """One shuffle of the model and what became of it."""

    op: Operation
    label: str
    location: Location
    shape: tuple[int, ...]
    groups: int | None
    read: bool = False
    moved: bool = False
    ranges: int = 0
    weights: bool = False
    placed: bool = False
    absorbed_into: dict[str, None] = field(default_factory=dict[str, None])

    @classmethod
    def of(cls, op: Operation) -> _Shuffle:
        """The record of a shuffle before anything is rewritten."""
        assert isinstance(op, (GatherOp, PermuteChannelsOp))
        return cls(op, _name(op), op.location, op.out.type.shape, _regular_groups(taken_channels(op)))

    def note(
        self,
        gather: Gather,
        through: Array,
        ranges: Sequence[Range],
        moved: bool,
        orders: ChannelOrders,
        changed: Mapping[Operation, Sequence[OrderGroup]],
        layers: Mapping[Operation, str],
    ) -> None:
        """Learn what became of one gather, whose channels marked in `through` pass this shuffle.

        `changed` are the operations with new constants and the order groups they touch, `layers` the names they had.
        """
        self.read = True
        starts = np.cumsum([0, *(piece.stop - piece.start for piece in ranges)])[:-1]
        reordered = {group for value in (gather.value, *gather.roots) if not (group := orders.group(value)).is_identity}
        order = orders.group(gather.value).order
        self.ranges += int(np.count_nonzero(np.logical_or.reduceat(through[order], starts)))
        if gather.is_root:
            return
        placeable = len(ranges) == 1 or all(is_placeable(piece.root) for piece in ranges)
        if moved or not placeable:
            self.moved = True
            return
        absorbers = [op for op, groups in changed.items() if not reordered.isdisjoint(groups)]
        self.weights |= bool(absorbers)
        if len(ranges) > 1:
            self.placed = True
            absorbers += [op for piece in ranges if (op := piece.root.defining_op) is not None]
        self.absorbed_into.update((layers[op], None) for op in absorbers)

    def remark(self, environment: Environment, pass_name: str) -> None:
        """Say what became of it."""
        mechanisms = [word for word, used in (("weights", self.weights), ("placement", self.placed)) if used]
        mechanism = "moves" if self.moved else "+".join(mechanisms) or ("cancelled" if self.read else "unused")
        outcome = "moved" if self.moved else "absorbed"
        into = list(self.absorbed_into)
        kind = f"{self.shape[-1]} channels" + (f" in {self.groups} groups" if self.groups else "")
        message = f"shuffle of {kind} is {outcome} ({mechanism})"
        environment.remark(
            pass_name,
            "shuffle",
            message,
            location=self.location,
            name=self.label,
            shape=list(self.shape),
            groups=self.groups,
            outcome=outcome,
            absorbed_into=into,
            ranges=self.ranges,
            mechanism=mechanism,
        )


def _name(op: Operation) -> str:
    """What reports call an operation: its ONNX nodes, else the name of its value, else what it does."""
    return op.location.layer or next((r.name for r in op.results if r.name), None) or op.name


def _site_order(op: Operation, orders: ChannelOrders) -> Callable[[int], Array | None]:
    return lambda site: orders.order_of(op.result if site == RESULT else op.operands[site])


def _slice(value: Value[Any], start: int, stop: int, location: Location, *, step: int = 1) -> SliceOp:
    """Channels start, start + step, ... before stop."""
    space = value.type.shape[:-1]
    starts, stops, steps = (*(0 for _ in space), start), (*space, stop), (*(1 for _ in space), step)
    return SliceOp.build(value, starts=starts, stops=stops, steps=steps, location=location)


def _shuffled(value: Value[Any], indices: tuple[int, ...], location: Location) -> GatherOp | PermuteChannelsOp:
    """The channels `indices` of a value."""
    if sorted(indices) == list(range(channels(value))):
        return PermuteChannelsOp.build(value, permutation=indices, location=location)
    return GatherOp.build(value, axis=value.type.rank - 1, indices=indices, location=location)


def _movement_operands(value: Value[Any]) -> tuple[Value[Any], ...]:
    return value.defining_op.operands if value.defining_op is not None else ()


def _as_range(value: Value[Any]) -> Range | None:
    """The range that a value is: a whole root, or a contiguous slice of one."""
    op = value.defining_op
    if op is None or not moves_channels(op):
        return Range(value, 0, channels(value))
    if not isinstance(op, SliceOp) or op.steps[-1] != 1:
        return None
    source = op.data.defining_op
    if source is not None and moves_channels(source):
        return None
    return Range(op.data, op.starts[-1], op.stops[-1])


def _regular_groups(permutation: Array) -> int | None:
    """The g for which the permutation is the transposition of [g, C / g]; None if there is none between 1 and C."""
    length = len(permutation)
    for groups in range(2, length):
        if length % groups == 0 and np.array_equal(np.arange(length).reshape(groups, -1).T.reshape(-1), permutation):
            return groups
    return None


def _integers(array: Array) -> tuple[int, ...]:
    return tuple(int(n) for n in array)

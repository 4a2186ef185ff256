"""Canonical data movement: nothing that moves nothing, and never two of a kind in a row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

from ...dialects.core.operation import Value
from ...dialects.nn.movement import (
    ConcatOp,
    GatherOp,
    PadOp,
    PermuteChannelsOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
)
from ..framework.matching import defined_by
from ..framework.rewriting import RewritePattern, Rewriter

Span = tuple[int, int]
"""First axis and one past the last."""


@dataclass(frozen=True)
class DropNoop(RewritePattern[ReshapeOp | TransposeOp | SliceOp | PadOp | PermuteChannelsOp | GatherOp | ConcatOp]):
    """move(x) == x, where every element stays where it is."""

    def rewrite(
        self,
        op: ReshapeOp | TransposeOp | SliceOp | PadOp | PermuteChannelsOp | GatherOp | ConcatOp,
        rewriter: Rewriter,
    ) -> None:
        if op.out.type != op.operands[0].type:
            return
        if isinstance(op, (TransposeOp, PermuteChannelsOp)) and list(op.permutation) != list(
            range(len(op.permutation))
        ):
            return
        if isinstance(op, GatherOp) and list(op.indices) != list(range(len(op.indices))):
            return
        if isinstance(op, ConcatOp) and len(op.inputs) != 1:
            return
        rewriter.replace(op, op.operands[0])


@dataclass(frozen=True)
class MergeReshapes(RewritePattern[ReshapeOp]):
    """reshape(reshape(x), s) == reshape(x, s)."""

    def rewrite(self, op: ReshapeOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, ReshapeOp)
        if inner is None:
            return
        merged = ReshapeOp.build(
            inner.data, shape=op.shape, location=inner.location if op.data.has_one_use else op.location
        )
        rewriter.replace(op, merged)


@dataclass(frozen=True)
class MergeTransposes(RewritePattern[TransposeOp]):
    """transpose(transpose(x, p), q) == transpose(x, p[q])."""

    def rewrite(self, op: TransposeOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, TransposeOp)
        if inner is None:
            return
        permutation = tuple(inner.permutation[axis] for axis in op.permutation)
        if permutation == tuple(range(len(permutation))):
            rewriter.replace(op, inner.data)
            return
        rewriter.replace(op, TransposeOp.build(inner.data, permutation=permutation))


@dataclass(frozen=True)
class ReshapeUnitAxes(RewritePattern[TransposeOp]):
    """transpose(x, p) == reshape(x), where only axes of length 1 change their place."""

    def rewrite(self, op: TransposeOp, rewriter: Rewriter) -> None:
        if moves_elements(op.data.type.shape, op.permutation):
            return
        rewriter.replace(op, ReshapeOp.build(op.data, shape=op.out.type.shape))


@dataclass(frozen=True)
class MergePermutations(RewritePattern[PermuteChannelsOp]):
    """permute_channels(permute_channels(x, p), q) == permute_channels(x, p[q])."""

    def rewrite(self, op: PermuteChannelsOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, PermuteChannelsOp)
        if inner is None:
            return
        permutation = tuple(inner.permutation[channel] for channel in op.permutation)
        location = inner.location if op.data.has_one_use else op.location
        rewriter.replace(op, PermuteChannelsOp.build(inner.data, permutation=permutation, location=location))


@dataclass(frozen=True)
class MergeSlices(RewritePattern[SliceOp]):
    """x[a:b:s][c:d:t] == x[a + c s : a + (d - 1) s + 1 : s t]."""

    def rewrite(self, op: SliceOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, SliceOp)
        if inner is None or not op.out.type.size:
            return
        axes = range(len(op.starts))
        starts = tuple(inner.starts[i] + op.starts[i] * inner.steps[i] for i in axes)
        steps = tuple(inner.steps[i] * op.steps[i] for i in axes)
        stops = tuple(starts[i] + (op.out.type.shape[i] - 1) * steps[i] + 1 for i in axes)
        location = inner.location if op.data.has_one_use else op.location
        rewriter.replace(op, SliceOp.build(inner.data, starts=starts, stops=stops, steps=steps, location=location))


@dataclass(frozen=True)
class MergePads(RewritePattern[PadOp]):
    """pad(pad(x)) == pad(x) by the sum, where both fill in the same value."""

    def rewrite(self, op: PadOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, PadOp, only_use=True)
        if inner is None or inner.value != op.value:
            return
        low = tuple(a + b for a, b in zip(op.low, inner.low, strict=True))
        high = tuple(a + b for a, b in zip(op.high, inner.high, strict=True))
        rewriter.replace(op, PadOp.build(inner.data, low=low, high=high, value=op.value, location=inner.location))


@dataclass(frozen=True)
class FlattenConcat(RewritePattern[ConcatOp]):
    """concat(a, concat(b, c)) == concat(a, b, c), where both run along the same axis."""

    def rewrite(self, op: ConcatOp, rewriter: Rewriter) -> None:
        nested = [defined_by(value, ConcatOp, only_use=True) for value in op.inputs]
        if not any(inner is not None and inner.axis == op.axis for inner in nested):
            return
        inputs: list[Value[Any]] = []
        flat = ConcatOp
        absorbed: list[ConcatOp] = []
        for value, inner in zip(op.inputs, nested, strict=True):
            if inner is not None and inner.axis == op.axis:
                inputs += inner.inputs
                absorbed.append(inner)
            else:
                inputs.append(value)
        merged = flat.build(*inputs, axis=op.axis, location=op.location.merged(*(inner.location for inner in absorbed)))
        rewriter.replace(op, merged)


@dataclass(frozen=True)
class SliceOfConcat(RewritePattern[SliceOp]):
    """concat(a, b, c)[where b and c are] == concat(b, c)."""

    def rewrite(self, op: SliceOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, ConcatOp)
        if inner is None:
            return
        cut = [i for i, size in enumerate(op.data.type.shape) if op.out.type.shape[i] != size]
        if cut != [inner.axis] or op.steps[inner.axis] != 1:
            return
        ends = list(accumulate(value.type.shape[inner.axis] for value in inner.inputs))
        begins = [0, *ends[:-1]]
        start, stop = op.starts[inner.axis], op.stops[inner.axis]
        if start not in begins or stop not in ends or start >= stop:
            return
        inputs = inner.inputs[begins.index(start) : ends.index(stop) + 1]
        if len(inputs) == 1:
            rewriter.replace(op, inputs[0])
        else:
            rewriter.replace(op, ConcatOp.build(*inputs, axis=inner.axis))


@dataclass(frozen=True)
class SliceBeforeReshape(RewritePattern[SliceOp]):
    """reshape(x)[one axis cut] == reshape(x[one axis cut]), where the reshape splits that axis off in front."""

    def rewrite(self, op: SliceOp, rewriter: Rewriter) -> None:
        inner = defined_by(op.data, ReshapeOp)
        cut = [axis for axis, size in enumerate(op.data.type.shape) if op.out.type.shape[axis] != size]
        if inner is None or len(cut) != 1 or op.steps[cut[0]] != 1 or not op.out.type.size:
            return
        (axis,), old, new = cut, inner.data.type.shape, inner.shape
        groups = matching_groups(old, new)
        (begin, end), (first, last) = next(group for group in groups if group[1][0] <= axis < group[1][1])
        wide = [own for own in range(begin, end) if old[own] != 1]
        if len(wide) != 1 or prod(new[first:axis]) != 1:
            return
        step = prod(new[axis + 1 : last])
        starts, stops = [0] * len(old), list(old)
        starts[wide[0]], stops[wide[0]] = op.starts[axis] * step, op.stops[axis] * step
        part = SliceOp.build(inner.data, starts=tuple(starts), stops=tuple(stops), steps=(1,) * len(old))
        rewriter.insert_before(op, part)
        rewriter.replace(op, ReshapeOp.build(part.out, shape=op.out.type.shape, location=inner.location))


def matching_groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[Span, Span]]:
    """The smallest spans of axes of `old` and `new` that hold the same elements, from left to right."""
    groups: list[tuple[Span, Span]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        begin_old, begin_new = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (left := prod(old[begin_old:i])) != (right := prod(new[begin_new:j])):
            if left < right:
                i += 1
            else:
                j += 1
        groups.append(((begin_old, i), (begin_new, j)))
    return groups


def moves_elements(shape: tuple[int, ...], permutation: tuple[int, ...]) -> bool:
    """True unless a transpose of `shape` keeps the order of all axes longer than 1."""
    kept = [axis for axis in permutation if shape[axis] != 1]
    return kept != sorted(kept)


MOVEMENT: tuple[RewritePattern[Any], ...] = (
    DropNoop(),
    MergeReshapes(),
    MergeTransposes(),
    ReshapeUnitAxes(),
    MergePermutations(),
    MergeSlices(),
    MergePads(),
    FlattenConcat(),
    SliceOfConcat(),
    SliceBeforeReshape(),
)

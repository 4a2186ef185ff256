"""Strided moves over any number of axes, for tensors with more of them than a view [N, H, W, C] tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...dialects.core.operation import Value
from .emission import Emitter, merged_axes
from .views import View, axis4, number_size


def dense(emitter: Emitter, view: View) -> View:
    """The view itself if its elements follow each other without gaps, else a copy of which that is true."""
    if view.is_dense:
        return view
    copy = emitter.temporary(view.shape, "dense", view.size, 1)
    emitter.move(view, copy)
    return copy


def dense_output(emitter: Emitter, value: Value[Any]) -> View:
    """A dense view to compute a whole tensor in; `Emitter.scatter` copies it to where it belongs."""
    whole = emitter.whole_output(value)
    return whole if whole.is_dense else emitter.temporary(whole.shape, "whole", number_size(value), 1)


def axis_strides(shape: tuple[int, ...], view: View) -> tuple[int, ...]:
    """The stride in bytes of each own axis of a tensor; one of more than four axes must be dense."""
    if view.is_dense:
        strides: list[int] = []
        step = view.size
        for size in reversed(shape):
            strides.append(step)
            step *= size
        return tuple(reversed(strides))
    axes = [axis4(len(shape), own) for own in range(len(shape))]
    return tuple(view.strides[axis] for axis in axes if axis is not None)


Shaped = tuple[View, tuple[int, ...]]
"""A dense view and the own shape of the tensor in it."""


def move_block(
    emitter: Emitter,
    source: Shaped,
    target: Shaped,
    sizes: tuple[int, ...],
    *,
    read_at: Sequence[int] = (),
    steps: Sequence[int] = (),
    write_at: Sequence[int] = (),
) -> None:
    """target[w : w + n] = source[r : r + s n : s] on every axis, for `sizes` n; r and w default to 0, steps s to 1."""
    ends: list[tuple[View, tuple[int, ...]]] = []
    for (view, shape), places in ((source, read_at), (target, write_at)):
        strides = axis_strides(shape, view)
        shift = sum(place * stride for place, stride in zip(places, strides, strict=False))
        ends.append((replace(view, offset=view.offset + shift), strides))
    (start, read), (place, written) = ends
    read = tuple(stride * step for stride, step in zip(read, steps or (1,) * len(read), strict=True))
    move_axes(emitter, start, place, sizes, read, written)


def move_axes(
    emitter: Emitter,
    source: View,
    target: View,
    sizes: tuple[int, ...],
    source_strides: tuple[int, ...],
    target_strides: tuple[int, ...],
) -> None:
    """A strided move over any number of axes; axes beyond four become separate instructions."""
    axes = merged_axes([axis for axis in zip(sizes, source_strides, target_strides, strict=True) if axis[0] != 1])
    if len(axes) <= 4:
        emitter.strided_move(source, target, sizes, source_strides, target_strides)
        return
    count, step_in, step_out = axes[0]
    rest = [tuple(column) for column in zip(*axes[1:], strict=True)]
    for index in range(count):
        a = replace(source, offset=source.offset + index * step_in)
        b = replace(target, offset=target.offset + index * step_out)
        move_axes(emitter, a, b, rest[0], rest[1], rest[2])

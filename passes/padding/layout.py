"""A channel layout: which place of a wider last axis holds which channel, and which places are empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...dialects.core.types import Array

EMPTY = -1


@dataclass(frozen=True)
class Layout:
    """`places[i]` is the channel at place i, or EMPTY; channels 0 .. channels - 1 occur once each, in order.

    What an empty place holds is never read: weights for it are zero, and it is cut away before anything mixes channels
    in another way.
    """

    places: tuple[int, ...]

    @staticmethod
    def padded(channels: int, multiple: int) -> Layout:
        """`channels` channels, then empty places up to a multiple of `multiple`."""
        return Layout((*range(channels), *(EMPTY,) * (-channels % multiple)))

    @staticmethod
    def joined(layouts: Sequence[Layout]) -> Layout:
        """The layouts side by side, channels counted through: what a concat of channels makes."""
        places: list[int] = []
        start = 0
        for layout in layouts:
            places += [EMPTY if channel == EMPTY else channel + start for channel in layout.places]
            start += layout.channels
        return Layout(tuple(places))

    @property
    def width(self) -> int:
        """The number of places."""
        return len(self.places)

    @cached_property
    def positions(self) -> tuple[int, ...]:
        """The place of every channel."""
        return tuple(place for place, channel in enumerate(self.places) if channel != EMPTY)

    @property
    def channels(self) -> int:
        """The number of channels."""
        return len(self.positions)

    @property
    def is_plain(self) -> bool:
        """True if no place is empty."""
        return self.width == self.channels

    @property
    def is_tail(self) -> bool:
        """True if all empty places come last."""
        return self.positions == tuple(range(self.channels))

    def cut(self, start: int, stop: int) -> tuple[int, int, Layout]:
        """(first place, last place + 1, layout there) of channels start .. stop - 1 and the empty places behind."""
        if start == stop:
            return 0, 0, Layout(())
        first, last = self.positions[start], self.positions[stop - 1] + 1
        while last < self.width and self.places[last] == EMPTY:
            last += 1
        places = (EMPTY if channel == EMPTY else channel - start for channel in self.places[first:last])
        return first, last, Layout(tuple(places))

    def permuted(self, permutation: Sequence[int]) -> tuple[int, ...]:
        """A permutation of places that does to the channels what `permutation` does; empty places stay."""
        return tuple(
            place if channel == EMPTY else self.positions[permutation[channel]]
            for place, channel in enumerate(self.places)
        )

    def scatter(self, array: Array, axis: int, fill: int | float = 0) -> Array:
        """`array`, which has `channels` entries along `axis`, with `fill` at the empty places."""
        shape = list(array.shape)
        shape[axis] = self.width
        wide = np.full(shape, fill, array.dtype)
        index: list[slice | Array] = [slice(None)] * array.ndim
        index[axis] = np.asarray(self.positions, dtype=np.intp)
        wide[tuple(index)] = array
        return wide

"""The progress of units: how many of their pieces are done, and when later units may follow."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from ...dialects.core.operation import Value
from .fusion import Fusion
from .layers import Unit
from .pieces import Piece, Touch
from .residency import Cut


@dataclass(eq=False)
class Track:
    """The pieces of a unit in order, and how many of them are done; `ends` are the estimated times of those."""

    index: int
    unit: Unit
    cut: Cut
    pieces: list[Piece]
    fusion: Fusion | None = None
    ends: list[float] = field(default_factory=list[float])
    firsts: dict[Value[Any], list[int]] = field(init=False)
    writes: set[Value[Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.firsts = {}
        self.writes = {touch.tensor for piece in self.pieces for touch in piece.touches if touch.writes}
        for number in reversed(range(len(self.pieces))):
            for touch in self.pieces[number].touches:
                rows = self.firsts.setdefault(touch.tensor, [1 << 60] * len(self.pieces))
                rows[number] = min(rows[number], touch.first)
        for rows in self.firsts.values():
            for number in reversed(range(len(rows) - 1)):
                rows[number] = min(rows[number], rows[number + 1])

    @property
    def is_done(self) -> bool:
        """True once all pieces are done."""
        return len(self.ends) == len(self.pieces)

    @property
    def next(self) -> Piece:
        """The first piece that is not done."""
        return self.pieces[len(self.ends)]

    def ready(self, touch: Touch) -> float | None:
        """When a later unit's touch may follow: the time of this unit's last piece that matters, None if not done."""
        if touch.tensor not in self.firsts or not (touch.writes or touch.tensor in self.writes):
            return 0.0
        number = bisect_left(self.firsts[touch.tensor], touch.last)  # pieces before it touch rows above the last
        if number > len(self.ends):
            return None
        return self.ends[number - 1] if number else 0.0

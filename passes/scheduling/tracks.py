"""The progress of units: how many of their pieces are done, and when later units may follow."""

from __future__ import annotations

from dataclasses import dataclass, field

from .cuts import Cut
from .fusion import Fusion
from .layers import Unit
from .pieces import Piece, Series, Touch


@dataclass(eq=False)
class Track:
    """The pieces of a unit in order, and how many of them are done.

    `begin` is the estimated start of the first, `ends` are the ends of those that are done; `beside` says whether units
    outside its chain ran beside it.
    """

    index: int
    unit: Unit
    cut: Cut
    series: Series
    fusion: Fusion | None = None
    begin: float = 0.0
    ends: list[float] = field(default_factory=list[float])
    beside: bool = False

    def afresh(self) -> Track:
        """The same pieces, none of which is done."""
        return Track(self.index, self.unit, self.cut, self.series, self.fusion)

    @property
    def is_done(self) -> bool:
        """True once all pieces are done."""
        return len(self.ends) == len(self.series.pieces)

    @property
    def next(self) -> Piece:
        """The first piece that is not done."""
        return self.series.pieces[len(self.ends)]

    def ready(self, touch: Touch) -> float | None:
        """When a later unit's touch may follow: the time of this unit's last piece that matters, None if not done."""
        if touch.tensor not in self.series.firsts or not (touch.writes or touch.tensor in self.series.writes):
            return 0.0
        number = self.series.done_before(touch)
        if number > len(self.ends):
            return None
        return self.ends[number - 1] if number else 0.0

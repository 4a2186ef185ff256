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
    outside its chain ran beside it. What earlier units mean for the next piece is asked as long as it can change: it
    must wait while fewer than `awaited` pieces of the unit `blocker` are done; without one it may follow at `after`.
    """

    index: int
    unit: Unit
    cut: Cut
    series: Series
    fusion: Fusion | None = None
    begin: float = 0.0
    ends: list[float] = field(default_factory=list[float])
    beside: bool = False
    after: float | None = None
    blocker: Track | None = None
    awaited: int = 0

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

    def done_before(self, touch: Touch) -> int:
        """How many pieces of this unit must be done before a later unit's touch may follow."""
        if touch.tensor not in self.series.firsts or not (touch.writes or touch.tensor in self.series.writes):
            return 0
        return self.series.done_before(touch)

    def end(self, end: float) -> None:
        """The next piece ends at a time."""
        self.ends.append(end)
        self.after = self.blocker = None

"""Measures callables in turns, A B C A B C, so that whatever slows the machine down meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

SHORTEST_SECONDS = 0.05
"""A measurement repeats a shorter call until it lasts this long, and divides."""


@dataclass
class Timing:
    """The seconds of one call, one entry a round: by the processor's clock for this process, and by the wall's."""

    processor: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median of processor seconds: on one core, what the call takes when nobody else uses it."""
        return median(self.processor)

    def add(self, processor: float, wall: float) -> None:
        self.processor.append(processor)
        self.wall.append(wall)

    def to_json(self) -> dict[str, object]:
        return {"median": self.seconds, "processor": self.processor, "wall": self.wall}


class Stopwatch:
    """`with Stopwatch() as watch:` leaves `watch.processor` and `watch.wall` in seconds."""

    processor = wall = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.processor = time.process_time() - self._start[0]
        self.wall = time.perf_counter() - self._start[1]


def in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, advance: Callable[[int], None]
) -> dict[str, Timing]:
    """Every call measured `rounds` times, in turns; before each measurement the call runs once untimed.

    `advance(1)` is called after every measurement. The untimed call brings caches back that the others have used.
    """
    timings = {name: Timing() for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            with Stopwatch() as trial:
                call()
            repeats = max(1, round(SHORTEST_SECONDS / max(trial.processor, 1e-6)))
            with Stopwatch() as watch:
                for _ in range(repeats):
                    call()
            timings[name].add(watch.processor / repeats, watch.wall / repeats)
            advance(1)
    return timings

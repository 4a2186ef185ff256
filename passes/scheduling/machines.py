"""The schedule of a function that is quickest on a target, of those that are tried for it and for smaller machines."""

from __future__ import annotations

from dataclasses import replace
from math import frexp

from ...backends.target import Target
from ...dialects.core.operation import Function
from ..allocation.parts import every_part, whole
from ..framework.environment import Progress, silent_progress
from .layers import Program
from .search import PRICE, Search
from .trials import Candidate, Trials

LEAST_RATE = 1.0
"""The slowest DRAM channel, in bytes a cycle, that schedules are planned for beside that of the target."""


def quickest(
    function: Function,
    target: Target,
    lookahead: float,
    *,
    fuse: bool,
    exhaustive: bool,
    progress: Progress = silent_progress,
) -> Candidate | None:
    """The schedule of @main that takes fewest cycles by the timing model, of those tried; None if nothing fits.

    They are planned for a DRAM channel that moves a power of two of bytes a cycle, the most that is no faster than
    the target's: one with a little more bandwidth tries the same.

    With `exhaustive` all is tried as well that would be for any smaller machine: with fewer lines, fewer banks, a
    slower channel, or less of all three. So what that finds is found, too: it runs the same instructions with operands
    in the same lines of the same banks, unless a buffer spans bank groups. Left out are machines whose transfers alone
    take longer, by estimate, than the quickest schedule.
    """
    trials = Trials(target, lookahead, 0.0 if exhaustive else PRICE)
    rates, parts = _rates(target), every_part(target) if exhaustive else [whole(target)]
    if not exhaustive:
        rates, progress = rates[:1], silent_progress
    with progress("scheduling for smaller machines", len(rates) * len(parts)) as advance:
        for rate in rates:
            planned = replace(target, dma=replace(target.dma, bytes_per_cycle=rate))
            program = Program.of(function)
            for part in parts:
                search = Search(program, planned, part, trials, fuse)
                if search.can_be_quickest():
                    search.run()
                advance(1)
            program.forget_splits()
    return trials.best


def _rates(target: Target) -> list[float]:
    """The DRAM channels that schedules are planned for, in bytes a cycle, the fastest first."""
    found = [2.0 ** (frexp(target.dma.bytes_per_cycle)[1] - 1)]
    while found[-1] > LEAST_RATE:
        found.append(found[-1] / 2)
    return found

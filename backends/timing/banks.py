"""Where the lines of the SRAM lie: line numbers of byte runs, their banks, and the load on the busiest bank."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...dialects.core.types import Array
from ..target import Target


class BankMap(NamedTuple):
    """The fields of a target that decide in which bank a line lies; see `SramSection`."""

    line_bytes: int
    interleave: int
    swizzle: bool
    bank_lines: int
    read_ports: int
    write_ports: int

    @property
    def period_bytes(self) -> int:
        """Addresses this far apart lie in the same bank of their groups."""
        return self.line_bytes * (self.interleave**3 if self.swizzle else self.interleave)

    @property
    def group_bytes(self) -> int:
        """Capacity of one group of interleaved banks."""
        return self.line_bytes * self.interleave * self.bank_lines

    def fits_one_group(self, address: int, span: int) -> bool:
        """Whether `span` bytes at `address` lie in one bank group."""
        return address % self.group_bytes + span <= self.group_bytes

    def canonical(self, address: int, span: int) -> int:
        """The smallest address from which `span` bytes meet the same banks, up to the number of the group.

        Costs are the same at both, so memoised functions are called with this one.
        """
        inside = address % self.group_bytes
        return inside % self.period_bytes if self.fits_one_group(address, span) else inside

    def banks(self, lines: Array) -> Array:
        """The bank of every line number (global: group * interleave + bank within the group)."""
        table = _bank_table(self.interleave, self.swizzle)
        group_lines = self.interleave * self.bank_lines
        if lines.max(initial=0) < group_lines:
            return table[lines & (len(table) - 1)]
        group, local = np.divmod(lines, group_lines)
        return table[local & (len(table) - 1)] + group * self.interleave

    def busiest(self, lines: Array, times: Array | None = None) -> tuple[int, ...]:
        """For every bank group from 0 on, how many of these line accesses the bank serves that serves most of them.

        `times` says how often each of them happens (once if not given).
        """
        counts = np.bincount(self.banks(lines), times)
        counts = np.append(counts, np.zeros(-len(counts) % self.interleave, counts.dtype))
        return tuple(int(count) for count in counts.reshape(-1, self.interleave).max(axis=1))


def bank_map(target: Target) -> BankMap:
    """The bank map of a target."""
    sram = target.sram
    return BankMap(sram.line_bytes, sram.interleave, sram.swizzle, sram.bank_lines, sram.read_ports, sram.write_ports)


def lines_of_runs(starts: Array, lengths: Array, line_bytes: int) -> Array:
    """The line numbers of runs of contiguous bytes: a line is listed once for every run that meets it."""
    first = starts // line_bytes
    counts = (starts + lengths - 1) // line_bytes - first + 1
    before = np.cumsum(counts) - counts
    return np.repeat(first - before, counts) + np.arange(int(counts.sum()))


@lru_cache(maxsize=64)
def _bank_table(interleave: int, swizzle: bool) -> Array:
    lines = np.arange(interleave**3 if swizzle else interleave)
    if not swizzle:
        return lines
    return (lines % interleave) ^ (lines // interleave % interleave) ^ (lines // interleave**2)

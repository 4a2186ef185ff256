"""Which SRAM bytes hold which bytes of the constant image while a program runs: known before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...dialects.core.types import Array


@dataclass(frozen=True, slots=True)
class Known:
    """Constant bytes that an operand is sure to hold, and the load instructions that put them there."""

    data: Array
    loads: tuple[int, ...]

    @property
    def key(self) -> tuple[int, int]:
        """Equal keys mean equal data as long as both exist."""
        return self.data.__array_interface__["data"][0], self.data.size


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    data: Array
    load: int


class ConstantMap:
    """Disjoint spans of SRAM with known contents. `needed` collects the loads whose bytes something really reads."""

    def __init__(self) -> None:
        self._spans: list[_Span] = []
        self._joined: dict[tuple[tuple[int, int, int], ...], Array] = {}
        self.needed: set[int] = set()

    def load(self, start: int, data: Array, index: int) -> None:
        """Load instruction `index` puts constant bytes at `start`."""
        self.overwrite(start, start + data.size, dense=True)
        self._spans.append(_Span(start, start + data.size, data, index))

    def overwrite(self, start: int, end: int, *, dense: bool) -> None:
        """Unknown bytes are written; where only some of the range are (not dense), the rest stays but is forgotten."""
        kept: list[_Span] = []
        for span in self._spans:
            if span.end <= start or end <= span.start:
                kept.append(span)
                continue
            if not dense:
                self.needed.add(span.load)
                continue
            if span.start < start:
                kept.append(_Span(span.start, start, span.data[: start - span.start], span.load))
            if end < span.end:
                kept.append(_Span(end, span.end, span.data[end - span.start :], span.load))
        self._spans = kept

    def touch(self, start: int, end: int) -> None:
        """An instruction reads this range from memory, whatever it holds."""
        self.needed.update(span.load for span in self._spans if span.start < end and start < span.end)

    def lookup(self, start: int, end: int) -> Known | None:
        """The constant bytes in [start, end), or None (and a touch) if not all of them are known."""
        parts = sorted(
            (span for span in self._spans if span.start < end and start < span.end), key=lambda span: span.start
        )
        covered = bool(parts) and parts[0].start <= start and parts[-1].end >= end
        if not covered or any(a.end != b.start for a, b in pairwise(parts)):
            self.touch(start, end)
            return None
        pieces = [p.data[max(start - p.start, 0) : end - p.start] for p in parts]
        loads = tuple(part.load for part in parts)
        if len(pieces) == 1:
            return Known(pieces[0], loads)
        key = tuple((piece.__array_interface__["data"][0], piece.size, 0) for piece in pieces)
        if key not in self._joined:
            self._joined[key] = np.concatenate(pieces)
        return Known(self._joined[key], loads)

"""Where the buffers of scheduled instructions do not fit the memory, so that the schedule can make room there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...backends.target import Target
from ...dialects.core.operation import Operation
from ...dialects.core.types import Array
from .buffers import item_of, lifetimes, packed
from .greedy import place_at_ends, stuck
from .items import Item

CROWDED = 0.9
"""Where a buffer finds no place, room is needed wherever the live bytes reach this share of the most it meets."""

LEAST_SHORTAGE = 1 / 32
"""The share of the SRAM that is lacking where the live bytes would fit, but no addresses were found for them."""


class Crowding(NamedTuple):
    """Bytes of SRAM that are live at every position of a program, and those of them that find no place there."""

    live: Array
    lacking: Array


def crowding(
    operations: Sequence[Operation], target: Target, *, search: bool, accumulators: bool = True
) -> Crowding | None:
    """Where buffers do not fit; None if all SRAM buffers find a place, and all `accumulators` if they are asked for.

    Where more is live than there is, that is what is lacking. Otherwise room is needed around the buffer for which no
    place was left. With `search` that is said only after the exact search has failed, too.
    """
    spans = lifetimes(operations, "sram")
    items = [item_of(value, span, target) for value, span in spans.items()]
    line, capacity = target.sram.line_bytes, target.sram_bytes
    live = _live(items, len(operations), line)
    lacking = np.maximum(live - capacity, 0)
    ranged = [item for item in items if item.ranges]
    if ranged:  # the operands of the array, which reaches a part of the memory
        reach = sum(high - low for low, high in ranged[0].ranges)
        lacking = np.maximum(lacking, _live(ranged, len(operations), line) - reach)
    if lacking.any():
        return Crowding(live, lacking)
    spans = lifetimes(operations, "acc") if accumulators else {}
    rows = [Item(*span, value.type.size) for value, span in spans.items()]
    culprit = _culprit(rows, items, target, search)
    if culprit is None:
        return None
    begin, end = culprit.begin, culprit.end
    crowded = live[begin:end] >= CROWDED * live[begin:end].max()
    lacking[begin:end][crowded] = int(capacity * LEAST_SHORTAGE)
    return Crowding(live, lacking)


def _culprit(rows: Sequence[Item], items: Sequence[Item], target: Target, search: bool) -> Item | None:
    """The buffer of accumulator rows or of the SRAM that finds no place; None if all do."""
    if place_at_ends(rows, target.accumulators.rows) is None:
        index = stuck(rows, target.accumulators.rows)
        return None if index is None else rows[index]
    line, capacity = target.sram.line_bytes, target.sram_bytes
    alignments = (line * target.sram.interleave, line)
    index = stuck(items, capacity, alignments=alignments)
    if index is None or (search and packed(items, capacity, alignments)[1] is not None):
        return None
    return items[index]


def _live(items: Sequence[Item], length: int, alignment: int) -> Array:
    """The bytes that are live at every position."""
    change = np.zeros(length + 1, np.int64)
    for item in items:
        size = -(-item.size // alignment) * alignment
        change[item.begin] += size
        change[item.end] -= size
    return change.cumsum()[:-1]

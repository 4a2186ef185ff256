"""Placement of buffers that follow each other, each where the memory has been free for longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .greedy import place_at_ends
from .items import Item


class Span(NamedTuple):
    """Addresses [start, end) and the time at which they were last in use."""

    start: int
    end: int
    until: int


def place_in_turn(items: Sequence[Item], capacity: int) -> list[int] | None:
    """An address for every item, for items that follow each other so that few live together; None if none is found.

    In the order of their begins items go where the latest use ended first: whoever fills a buffer then seldom waits for
    the one who empties what was there before. Only places count beside which the next item fits, too. Where they run
    out all items are placed by `place_at_ends`, which fits more.
    """
    order = sorted(range(len(items)), key=lambda index: items[index].begin)
    addresses = [0] * len(items)
    spans = [Span(0, capacity, -1)]
    for position, index in enumerate(order):
        item = items[index]
        following = items[order[position + 1]] if position + 1 < len(order) else None
        places = sorted(_places(spans, item, capacity))
        taken = ((_with(spans, item, address), address) for _, address in places)
        chosen = next((each for each in taken if following is None or _fits(each[0], following)), None)
        if chosen is None:
            return place_at_ends(items, capacity)
        spans, addresses[index] = chosen
    return addresses


def _places(spans: Sequence[Span], item: Item, capacity: int) -> Iterator[tuple[int, int]]:
    """(when the latest use ended, address) of the places for an item that begin or end where a span does."""
    for address in {each for span in spans for each in (span.start, span.end - item.size)}:
        if 0 <= address <= capacity - item.size:
            until = max(span.until for span in spans if span.start < address + item.size and address < span.end)
            if until <= item.begin:
                yield until, address


def _with(spans: Sequence[Span], item: Item, address: int) -> list[Span]:
    """The spans with an item at an address."""
    end = address + item.size
    below = [Span(span.start, min(span.end, address), span.until) for span in spans if span.start < address]
    above = [Span(max(span.start, end), span.end, span.until) for span in spans if span.end > end]
    return [*below, Span(address, end, item.end), *above]


def _fits(spans: Sequence[Span], item: Item) -> bool:
    """True if there are as many free addresses side by side as an item needs."""
    free = 0
    for span in spans:
        free = free + span.end - span.start if span.until <= item.begin else 0
        if free >= item.size:
            return True
    return False

"""Fewer runs of Python's garbage collector while a module is compiled."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock

SELDOM = 50_000
"""New objects between two runs of the collector: a module of a thousand operations has as many, nearly all in use.

At Python's own number, 700 to 2,000, a compilation of seconds collects hundreds of times and finds next to nothing,
and its full collections look at all that the process holds: a sixth of the time of a deep network.
"""

_lock = Lock()
_running = 0
_thresholds = (0, 0, 0)


@contextmanager
def collecting_seldom() -> Generator[None]:
    """While any such block runs, in whatever thread, the collector waits for `SELDOM` objects; then as it was before.

    A collector that is switched off stays so, one that waits for more objects still does.
    """
    global _running, _thresholds
    with _lock:
        if not _running:
            _thresholds = gc.get_threshold()
            if 0 < _thresholds[0] < SELDOM:
                gc.set_threshold(SELDOM, *_thresholds[1:])
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                gc.set_threshold(*_thresholds)

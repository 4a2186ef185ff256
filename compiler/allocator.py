"""What the C library does with the memory of arrays that are freed."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h

KEPT_BYTES = 256 << 20
"""Free memory at the end of the heap that is not given back to the system."""
STEP_BYTES = 16 << 20
"""The heap grows by at least so much."""
LARGEST_KEPT = 64 << 20
"""Larger arrays are given back as soon as they are freed."""


def keep_freed_memory() -> None:
    """Let the arrays of a process take the place of those before them, where the C library is glibc.

    By itself it gives every large array back to the system, which clears the pages of the next one: an eighth of the
    time of a command that quantizes.
    """
    with suppress(OSError, AttributeError):
        adjust = ctypes.CDLL(None).mallopt
        for parameter, value in (
            (_MMAP_THRESHOLD, LARGEST_KEPT),
            (_TRIM_THRESHOLD, KEPT_BYTES),
            (_TOP_PAD, STEP_BYTES),
        ):
            adjust(parameter, value)

"""Keeps freed memory in the process, so that the arrays of the next operation find pages that are there already.

By default the allocator of glibc gives large blocks back at once, and the system clears every page of the next ones: a
fifth of the time of quantizing a small network.
"""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), from glibc's malloc.h."""

LARGEST_ON_HEAP = 32 << 20
"""Bytes of the largest block that is kept: the most that mallopt(3) takes where pointers have 64 bits."""

MOST_KEPT = 256 << 20
"""Free bytes at the end of the heap beyond which they are given back."""

SETTINGS = ("MALLOC_", "GLIBC_TUNABLES")
"""Environment variables that begin so say how the user wants it."""


def keep_freed_memory() -> bool:
    """Tell the allocator of this process; False where it is not glibc's, or the environment has settled it."""
    if any(name.startswith(SETTINGS) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_ON_HEAP) and mallopt(M_TRIM_THRESHOLD, MOST_KEPT))

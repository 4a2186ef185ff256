"""Freed arrays stay with the process where the C library is told so."""

import platform
import subprocess
import sys

import pytest

from accelc.compiler import allocator

FAULTS = """
import resource
import numpy as np
{first}
np.ones(5 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(5 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEPT = "from accelc.compiler.allocator import keep_freed_memory; keep_freed_memory()"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_new_arrays_take_the_pages_of_old_ones():
    done = [
        subprocess.run([sys.executable, "-c", FAULTS.format(first=first)], capture_output=True, text=True, check=True)
        for first in ("", KEPT)
    ]
    given_back, kept = (int(each.stdout) for each in done)
    assert kept * 2 < given_back


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_freed_memory()

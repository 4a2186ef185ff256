"""What keeping freed memory spares, counted in pages that the system has to provide."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from accelc.compiler.heap import keep_freed_memory
kept = keep_freed_memory()
def work():
    a, b = np.ones(3 << 20), np.ones(3 << 20)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    work()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> tuple[bool, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    kept, count = done.stdout.split()
    return kept == "1", int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_pages_that_were_freed_are_used_again():
    kept, again = faults()
    assert kept and again < 1000  # of 8 * 12,288


def test_settings_of_the_environment_stand():
    kept, _ = faults(MALLOC_ARENA_MAX="2")
    assert not kept

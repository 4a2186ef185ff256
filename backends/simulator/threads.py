"""Independent samples in threads: numpy, BLAS and the kernels leave Python's lock to others while they compute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_jobs() -> int:
    """As many threads as there are cores for this process; one where BLAS cannot be kept from using them all itself."""
    if _blas() is None:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[int, Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """The results of work(worker, item) in the order of the items, by at most `jobs` threads; errors are raised here.

    A worker, a number from 0 on, does one item at a time, so that what it keeps between items needs no lock. BLAS uses
    one thread for each of several items, whatever `jobs` is, where threadpoolctl is installed: so float results do not
    depend on it either. A single item is left to as many threads as BLAS likes.
    """
    if len(items) < 2:
        yield from (work(0, item) for item in items)
        return
    blas = _blas()
    with nullcontext() if blas is None else blas.limit(limits=1, user_api="blas"):
        if jobs == 1:
            yield from (work(0, item) for item in items)
            return
        workers: SimpleQueue[int] = SimpleQueue()
        for worker in range(min(jobs, len(items))):
            workers.put(worker)

        def do(item: Item) -> Result:
            worker = workers.get()
            try:
                return work(worker, item)
            finally:
                workers.put(worker)

        pool = ThreadPoolExecutor(min(jobs, len(items)))
        try:
            yield from pool.map(do, items)
        finally:
            pool.shutdown(cancel_futures=True)


@cache
def _blas() -> Any:
    """What sets the number of BLAS threads; None where threadpoolctl is not installed."""
    if find_spec("threadpoolctl") is None:
        return None
    threadpoolctl: Any = import_module("threadpoolctl")
    return threadpoolctl.ThreadpoolController()

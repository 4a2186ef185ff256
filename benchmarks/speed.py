"""Prints, in one run on one core, how long accelc compiles and simulates beside onnxruntime, and which goals hold.

python benchmarks/speed.py [--networks NAME ...] [--runs N] [--json FILE]; needs the `test` extra.

This file imports nothing heavy: numpy, its BLAS and onnxruntime read their settings when they are loaded.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from arguments import positive
from catalogue import DEFAULT_NETWORKS, NETWORKS

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def main() -> int:
    """Settle on one core, then measure; exit status 1 if a row's bits are wrong or nothing could be measured."""
    options = _options()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    pinned = pin_to_one_core()
    try:
        comparison = import_module("comparison")
    except ModuleNotFoundError as error:
        print(f"{error}; python -m pip install -e '.[test]' installs what the benchmarks need", file=sys.stderr)
        return 1
    deep = options.networks is DEFAULT_NETWORKS
    return comparison.compare(tuple(options.networks), options.runs, options.json, pinned, deep=deep)


def pin_to_one_core() -> str:
    """Keep this process on one core, the one it was given if that is one; returns what was done, in words."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned to a core (this system cannot), one thread"
    allowed = os.sched_getaffinity(0)
    if len(allowed) > 1:
        # The highest number: the first core answers most interrupts.
        os.sched_setaffinity(0, {max(allowed)})
        return "pinned to one core by this command, one thread"
    return "pinned to one core by its user, one thread"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("speed.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--runs", metavar="N", type=positive, default=5, help="rounds of every measurement (default 5)")
    add("--json", metavar="FILE", type=Path, help="write all figures as data")
    names = ", ".join(NETWORKS)
    add(
        "--networks",
        metavar="NAME",
        nargs="+",
        choices=NETWORKS,
        default=DEFAULT_NETWORKS,
        help=f"only these, of {names}",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""The console scripts: each loads its module where Ctrl-C is caught, so that it ends in one line from the first moment.

This file imports nothing that the package has not loaded anyway.
"""

import sys
from collections.abc import Callable
from importlib import import_module

INTERRUPTED = 130
"""The exit status of `usage.py`, which is not loaded yet."""


def accelc() -> None:
    """Run `accelc`."""
    _run(lambda: import_module(".cli", __package__).main())


def accelc_opt() -> None:
    """Run `accelc-opt`."""
    _run(lambda: import_module(".opt", __package__).main())


def accelc_reduce() -> None:
    """Run `accelc-reduce`."""
    _run(lambda: import_module(".reduce", __package__).main())


def accelc_pack() -> None:
    """Run `accelc-pack`."""
    _run(lambda: import_module(".pack", __package__).main())


def _run(main: Callable[[], None]) -> None:
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)

"""`accelc-pack`: packs buffers with lifetimes, given as a CSV file, into a memory, as `allocate-banks` does."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..dialects.core.diagnostics import CompileError
from ..passes.allocation.packing import BUDGET_STEPS, pack
from ..passes.allocation.search import Stopped
from .ending import exit_status
from .instances import read_instance, write_packed
from .progress import terminal_progress
from .usage import OK, USAGE, UsageError


def main() -> None:
    """The console script."""
    sys.exit(run_pack(sys.argv[1:]))


def run_pack(arguments: Sequence[str]) -> int:
    """Run the command in this process; returns its exit status: 0, 1 (no packing was found, or input), 2 (usage)."""
    try:
        options = _argument_parser().parse_args(list(arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE
    return exit_status(lambda: _execute(options))


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "accelc-pack",
        description="Give every buffer of a CSV file (columns id, lower, upper, size: alive from lower to upper - 1)"
        " an offset, so that no two that are alive together overlap.",
        epilog="Exit status: 0, 1 (it does not fit, as far as was searched; or the file is at fault), 2 (wrong usage).",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", metavar="FILE.csv", type=Path)
    add("--capacity", metavar="N", type=int, help="units of memory (default: as low as can be, the lower bound)")
    add("-o", dest="output", metavar="OUT.csv", type=Path, help="write the buffers with a column offset, if they fit")
    add("--seed", metavar="N", type=int, default=0, help="of the search orders (default 0)")
    budget_help = f"steps of the search, 0 for greedy orders only (default {BUDGET_STEPS})"
    add("--budget", metavar="STEPS", type=int, default=BUDGET_STEPS, help=budget_help)
    add("--seconds", metavar="S", type=float, help="stop the search after this time as well")
    return parser


def _execute(options: argparse.Namespace) -> int:
    for flag, value, least in (
        ("--capacity", options.capacity, 1),
        ("--budget", options.budget, 0),
        ("--seconds", options.seconds, 0),
    ):
        if value is not None and not value >= least:
            raise UsageError(f"{flag} is {value}, expected at least {least}")
    if options.output and options.output.resolve() == options.file.resolve():
        raise UsageError(f"-o {options.output} would replace the file that is read, expected another name")
    instance = read_instance(options.file)
    begin = time.monotonic()
    with terminal_progress(f"packing {options.file.name}", options.budget) as advance:

        def poll(steps: int) -> None:
            advance(steps)
            if options.seconds is not None and time.monotonic() - begin > options.seconds:
                raise Stopped

        bound = pack(instance.items, 0, budget=0).lower_bound
        capacity = bound if options.capacity is None else options.capacity
        packing = pack(instance.items, capacity, seed=options.seed, budget=options.budget, poll=poll)
    seconds = time.monotonic() - begin
    optimal = ", no packing is lower" if packing.proven else ""
    print(
        f"{options.file.name}: {len(instance.items)} buffers, peak {packing.peak}, lower bound {packing.lower_bound}"
        f"{optimal}; {packing.steps} steps, {seconds:.1f} s"
    )
    if packing.offsets is None or not packing.fits(capacity):
        if options.capacity is None:
            note = "raise --budget, or name the --capacity that is needed"
        elif packing.lower_bound > capacity:
            note = "this is proven; name a larger --capacity"
        else:
            note = "raise --budget or --seconds, or try another --seed"
        raise CompileError(
            f"{options.file}: the best packing found takes {packing.peak}, expected at most {capacity}", notes=(note,)
        )
    if options.output:
        write_packed(options.output, instance, packing.offsets)
    return OK


if __name__ == "__main__":
    main()

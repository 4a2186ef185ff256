"""Prints whether all forms of a program compute the same bits: one row a network, target and level.

    python benchmarks/matrix.py [--networks NAME ...] [--targets NAME ...] [--levels O0 ...] [--precision int8]
        [--samples 8]

`quantized`, `tile` and `simulator` compare the interpreted quantized IR (every operation), the interpreted tile IR
(after lower-to-tile and after insert-tokens) and the encoded program with the int64 oracle of the tests; `checked` says
that checked mode finds no hazard, `ledger` that every MAC slot is charged. The exit status is 1 if a row disagrees.
Needs the test extra.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from endtoend.agreement import LEVELS, TARGETS, Agreement, check, quantized
from endtoend.networks import LARGE_LIGHT, NETWORKS, UnavailableError, network

from accelc.compiler.usage import PRECISIONS
from accelc.dialects.core.diagnostics import CompileError

COLUMNS = ("quantized", "tile", "simulator", "checked", "ledger")
HEAVY_SAMPLES = dict.fromkeys(LARGE_LIGHT, 1)
"""Networks whose samples the oracle takes long for; `--samples` does not raise these."""


def main() -> int:
    """Print the table; 1 if anything disagrees."""
    options = arguments()
    print(f"{'network':28} {'target':8} {'level':5} {' '.join(COLUMNS)} samples   cycles    util  values  seconds")
    wrong = rows = 0
    start = time.perf_counter()
    for name in options.networks:
        try:
            network(name)
        except UnavailableError as error:
            print(f"{name:28} skipped: {error}")
            continue
        for target in options.targets:
            for level in options.levels:
                rows += 1
                samples = min(options.samples, HEAVY_SAMPLES.get(name, options.samples))
                wrong += not row(name, target, level, options.precision, samples)
        quantized.cache_clear()
        network.cache_clear()
    print(f"{rows} rows, {wrong} with a difference, {time.perf_counter() - start:.0f} s")
    return 1 if wrong else 0


def row(name: str, target: str, level: str, precision: str, samples: int) -> bool:
    """Print one row and what is wrong with it; True if nothing is."""
    try:
        found = check(name, target, level, precision=precision, count=samples)
    except CompileError as error:
        print(f"{name:28} {target:8} {level:5} failed: {error}", flush=True)
        return False
    marks = " ".join(
        f"{'yes' if good else 'NO':{len(title)}}" for title, good in zip(COLUMNS, verdicts(found), strict=True)
    )
    print(
        f"{name:28} {target:8} {level:5} {marks} {found.samples:7} {found.cycles:8} {found.utilization:7.1%} "
        f"{found.distinct:7} {found.seconds:8.1f}",
        *(f"\n    {difference}" for difference in found.differences),
        flush=True,
    )
    return not found.differences


def verdicts(found: Agreement) -> tuple[bool, ...]:
    """One answer a column."""
    quantized_forms = all(found.equal.get(form, True) for form in ("quantized", "pad-channels"))
    tile = found.equal["lower-to-tile"] and found.equal["insert-tokens"]
    simulated = found.equal["simulator"] and found.equal["plain"]
    return quantized_forms, tile, simulated, found.equal["checked"], found.balanced


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NAME")
    parser.add_argument("--targets", nargs="+", default=TARGETS, metavar="NAME")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=LEVELS)
    parser.add_argument("--precision", choices=PRECISIONS, default="int8", help="what to quantize to (default int8)")
    parser.add_argument("--samples", type=int, default=8, help="samples of each network, at most (default 8)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

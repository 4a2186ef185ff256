"""Prints whether all forms of a program compute the same bits: one row a network, precision, target and level.

    python benchmarks/matrix.py [--networks NAME ...] [--targets NAME ...] [--levels O0 ...]
        [--precisions int8 ...] [--samples 8] [--json FILE]

`quantized`, `tile` and `simulator` compare the interpreted quantized IR (every operation), the interpreted tile IR
(after lower-to-tile and after insert-tokens) and the encoded program with the int64 oracle of the tests; `checked` says
that checked mode finds no hazard, `ledger` that every MAC slot is charged. The exit status is 1 if a row disagrees.
With precision mixed every other layer computes in 16 bits. Of the largest networks the forms before insert-tokens, and
the plain mode of the simulator, run on one or two samples.

With --json every row is appended to FILE as one line of JSON as soon as it is known. A run that is begun again with the
same FILE leaves out the rows that passed with the same sources and samples, and prints them from there.
Needs the test extra.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from endtoend.agreement import LEVELS, TARGETS, Agreement, check, quantized
from endtoend.networks import LARGE_LIGHT, NETWORKS, UnavailableError, network

from accelc.compiler.usage import PRECISIONS
from accelc.dialects.core.diagnostics import CompileError

ROOT = Path(__file__).parents[1]
KEY = ("network", "target", "level", "precision", "samples", "sources")
COLUMNS = ("quantized", "tile", "simulator", "checked", "ledger")


def main() -> int:
    """Print the table; 1 if anything disagrees."""
    options = arguments()
    sources, known = fingerprint(), earlier(options.json)
    print(
        f"{'network':28} {'precision':9} {'target':8} {'level':5} {' '.join(COLUMNS)}"
        " samples   cycles    util  values  seconds"
    )
    wrong = rows = 0
    start = time.perf_counter()
    for name in options.networks:
        try:
            network(name)
        except UnavailableError as error:
            print(f"{name:28} skipped: {error}")
            continue
        for precision, level, target in product(options.precisions, options.levels, options.targets):
            key = (name, target, level, precision, options.samples, sources)
            found = known.get(key)
            if found is None or not found["passed"]:
                found = {**dict(zip(KEY, key, strict=True)), **outcome(name, target, level, precision, options.samples)}
                append(options.json, found)
            print(line(found), flush=True)
            rows += 1
            wrong += not found["passed"]
        quantized.cache_clear()
        network.cache_clear()
    print(f"{rows} rows, {wrong} with a difference, {time.perf_counter() - start:.0f} s, sources {sources}")
    return 1 if wrong else 0


def outcome(name: str, target: str, level: str, precision: str, samples: int) -> dict[str, Any]:
    """One row as data; `failed` is the message where it does not even compile."""
    thorough = name not in LARGE_LIGHT
    try:
        found = check(name, target, level, precision=precision, count=samples, thorough=thorough)
    except CompileError as error:
        return {"passed": False, "failed": str(error)}
    return {
        "passed": not found.differences,
        "verdicts": dict(zip(COLUMNS, verdicts(found), strict=True)),
        "executed": found.samples,
        "cycles": found.cycles,
        "utilization": found.utilization,
        "values": found.distinct,
        "seconds": found.seconds,
        "differences": list(found.differences),
    }


def line(row: Mapping[str, Any]) -> str:
    """A row of the table, and under it what is wrong."""
    head = f"{row['network']:28} {row['precision']:9} {row['target']:8} {row['level']:5}"
    if "failed" in row:
        return f"{head} failed: {row['failed']}"
    marks = " ".join(f"{'yes' if good else 'NO':{len(title)}}" for title, good in row["verdicts"].items())
    figures = f"{row['executed']:7} {row['cycles']:8} {row['utilization']:7.1%} {row['values']:7} {row['seconds']:8.1f}"
    return "\n    ".join([f"{head} {marks} {figures}", *row["differences"]])


def verdicts(found: Agreement) -> tuple[bool, ...]:
    """One answer a column."""
    quantized_forms = all(found.equal.get(form, True) for form in ("quantized", "pad-channels"))
    tile = all(found.equal.get(form, True) for form in ("lower-to-tile", "insert-tokens"))
    simulated = found.equal["simulator"] and found.equal.get("plain", True)
    return quantized_forms, tile, simulated, found.equal["checked"], found.balanced


def fingerprint() -> str:
    """A digest of all sources of the compiler: rows of one file are of one compiler where it is the same."""
    digest = hashlib.sha256()
    for folder in ("dialects", "backends", "passes", "compiler"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".toml", ".lark"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def earlier(path: Path | None) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The last row of each key in a file of earlier runs, empty without one."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return {tuple(row[name] for name in KEY): row for row in rows}


def append(path: Path | None, row: Mapping[str, Any]) -> None:
    """Add a row to the file."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NAME")
    parser.add_argument("--targets", nargs="+", default=(*TARGETS, "tile64"), metavar="NAME")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=LEVELS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["int8"], help="default int8")
    parser.add_argument("--samples", type=int, default=8, help="samples of each network (default 8)")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="append every row; rows that passed are not run again"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Looks for crashes, hangs and mismatches with random networks and changed files.

    python benchmarks/fuzzing.py [--networks 1000] [--mutations 10000] [--seed 0] [--seconds 30] [--keep DIR]

Case i of a kind depends on `--seed` + i alone, so that a run can be continued and a case repeated (`--seed 4711
--networks 1 --mutations 0`). Networks are compared end to end: onnxruntime, float and integer modules, program, ledger.
Mutations of ONNX files, program files and IR text take turns. A case that takes more than `--seconds` of the processor
is a hang. What fails is printed with its seed and written to `--keep`; the exit status is then 1. Needs the test extra.
"""

from __future__ import annotations

import argparse
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzz.cases import KINDS, MUTATIONS, run_case
from rich.progress import Progress

MEMORY = 8 << 30
"""Address space of the process: what wants more is a failure as well."""


class Hang(BaseException):
    """A case takes too long; no `except Exception` may stop it."""


def main() -> int:
    """Run all cases; 1 if one failed."""
    options = arguments()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _hang)
    cases = [("network", options.seed + i) for i in range(options.networks)]
    cases += [(MUTATIONS[i % len(MUTATIONS)], options.seed + i // len(MUTATIONS)) for i in range(options.mutations)]
    seen: dict[str, Counter[str]] = {}
    failures: list[str] = []
    start = time.perf_counter()
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("fuzzing", total=len(cases))
        for name, seed in cases:
            outcome, failure = attempt(name, seed, options)
            seen.setdefault(name, Counter())[outcome] += 1
            if failure:
                failures.append(failure)
                progress.print(failure)
            progress.advance(task)
    show(seen, len(failures), time.perf_counter() - start)
    return 1 if failures else 0


def attempt(name: str, seed: int, options: argparse.Namespace) -> tuple[str, str]:
    """What became of one case, figures replaced by N, and the message if it failed."""
    # Processor seconds: a busy machine makes no hang.
    signal.setitimer(signal.ITIMER_PROF, options.seconds)
    try:
        return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "N", run_case(KINDS[name], seed, options.keep)), ""
    except KeyboardInterrupt:
        raise
    except Hang:
        return "HANG", f"{name} {seed}: hangs, no result after {options.seconds} processor seconds"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the run looks for
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return "FAILED", f"{name} {seed}: {type(error).__name__} at {where}: {str(error)[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def show(seen: dict[str, Counter[str]], failures: int, seconds: float) -> None:
    """Print how many cases of each kind ended how."""
    for name, outcomes in seen.items():
        print(f"{name}: {sum(outcomes.values())}")
        for outcome, count in outcomes.most_common():
            print(f"  {count:7} {outcome}")
    total = sum(sum(outcomes.values()) for outcomes in seen.values())
    print(f"{total} cases, {failures} failed, {seconds:.0f} s")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Look for crashes, hangs and mismatches.")
    parser.add_argument("--networks", type=int, default=1000, help="random networks compared end to end (default 1000)")
    parser.add_argument("--mutations", type=int, default=10_000, help="changed files (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first case of each kind (default 0)")
    parser.add_argument("--seconds", type=int, default=30, help="processor time of one case (default 30)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="where failing inputs go")
    return parser.parse_args()


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang


if __name__ == "__main__":
    sys.exit(main())

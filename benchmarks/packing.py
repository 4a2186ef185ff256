"""Packs the instances of a folder and prints peak, lower bound and seconds: `python benchmarks/packing.py DIR`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from accelc.compiler.instances import Instance, read_instance
from accelc.passes.allocation.packing import BUDGET_STEPS, pack

SHARED = Path(__file__).parents[2] / "shared" / "allocation"
MEBIBYTE = 1 << 20


def main() -> None:
    """Exit status 1 if an instance does not fit into the capacity."""
    parser = argparse.ArgumentParser(description="Pack every CSV instance of a folder, one core, one thread.")
    parser.add_argument("folder", nargs="?", type=Path, default=SHARED, help="default: ../shared/allocation")
    parser.add_argument("--capacity", type=int, default=MEBIBYTE, help=f"default {MEBIBYTE}")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from 0 (default 1)")
    parser.add_argument("--budget", type=int, default=BUDGET_STEPS, help=f"search steps (default {BUDGET_STEPS})")
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.csv"))
    if not files:
        print(f"{options.folder}: no .csv files, nothing to pack", file=sys.stderr)
        sys.exit(1)
    print("instance   buffers seed      peak     bound    greedy     steps  seconds")
    failed = False
    for path in files:
        instance = read_instance(path)
        greedy = pack(instance.items, 0, budget=0).peak
        for seed in range(options.seeds):
            begin = time.process_time()
            packing = pack(instance.items, options.capacity, seed=seed, budget=options.budget)
            seconds = time.process_time() - begin
            fits = packing.offsets is not None and is_valid(instance, packing.offsets, options.capacity)
            failed |= not fits
            print(
                f"{path.stem:<10} {len(instance.items):>7} {seed:>4} {packing.peak:>9} {packing.lower_bound:>9} "
                f"{greedy:>9} {packing.steps:>9} {seconds:>8.1f}{'' if fits else '  does not fit'}",
                flush=True,
            )
    sys.exit(1 if failed else 0)


def is_valid(instance: Instance, offsets: tuple[int, ...], capacity: int) -> bool:
    """Whether all buffers lie in the memory and no two that are alive together overlap, pair by pair."""
    placed = list(zip(instance.items, offsets, strict=True))
    return all(0 <= offset <= capacity - item.size for item, offset in placed) and all(
        item.begin >= other.end or other.begin >= item.end or a >= b + other.size or b >= a + item.size
        for number, (item, a) in enumerate(placed)
        for other, b in placed[:number]
    )


if __name__ == "__main__":
    main()

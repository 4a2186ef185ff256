"""Draws machines and better ones at random, and prints how often a network takes more cycles on the better one.

    python benchmarks/better_targets.py [--trials N] [--networks NAME ...] [--levels N ...] [--resources NAME ...]

A machine is a preset of which up to two resources are scaled, the better one has more of one resource: two to four
times as much, or an odd step of it. A row for every network and level: trials, those that cost cycles, the largest of
these costs; and a line for each trial that costs any.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass, replace
from fractions import Fraction

from catalogue import NETWORKS, Network
from light_networks import light_path

from accelc.backends.target import Target, load_target
from accelc.backends.timing.engine import run_timeline
from accelc.backends.timing.program import queue_instructions
from accelc.compiler.driver import Settings, compile_module
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.operation import Module
from accelc.dialects.tile.instruction import InstructionOp

TARGETS = ("tile16", "tile32", "array32", "npu256")
RESOURCES = ("lines", "banks", "bandwidth", "ports", "vector lanes")
SCALES = tuple(map(Fraction, ("1/4", "1/2", "3/4", "5/4", "3/2", "2", "3")))
STEPS = tuple(map(Fraction, ("9/8", "5/4", "3/2", "5/3", "2", "2", "3", "4")))
DEFAULT = ("digits_cnn", "digits_depthwise", "digits_shufflenet", "resnet8", "kws_dscnn", "shufflenetv1")


def scaled(target: Target, resource: str, factor: Fraction) -> Target:
    """The target with `factor` times of one resource, rounded down to what a target may have.

    The blocks reach the same share of more banks, in whole groups.
    """
    sram = target.sram
    match resource:
        case "lines":
            return replace(target, sram=replace(sram, bank_lines=max(16, int(factor * sram.bank_lines))))
        case "banks":
            groups = max(1, int(factor * target.groups))
            reached = max(1, min(groups, int(factor * (target.crossbar.reach_banks // sram.interleave))))
            crossbar = replace(target.crossbar, reach_banks=reached * sram.interleave)
            return replace(target, sram=replace(sram, banks=groups * sram.interleave), crossbar=crossbar)
        case "bandwidth":
            rate = float(factor) * target.dma.bytes_per_cycle
            return replace(target, dma=replace(target.dma, bytes_per_cycle=rate))
        case "vector lanes":
            return replace(target, vector=replace(target.vector, lanes=max(1, int(factor * target.vector.lanes))))
        case "ports":
            read, write = (max(1, min(8, int(factor * n))) for n in (sram.read_ports, sram.write_ports))
            return replace(target, sram=replace(sram, read_ports=read, write_ports=write))
        case _:
            raise ValueError(f"no resource '{resource}'")


@dataclass(frozen=True, slots=True)
class Trial:
    """A machine, and the better one; `what` says in words which."""

    target: Target
    better: Target
    what: str


def draw(rng: random.Random, resources: tuple[str, ...] = RESOURCES) -> Trial:
    """A random machine, and one with more of one of the resources."""
    name = rng.choice(TARGETS)
    target, words = load_target(name), [name]
    for resource in rng.sample(RESOURCES, rng.randrange(3)):
        factor = rng.choice(SCALES)
        target = scaled(target, resource, factor)
        words.append(f"{factor} {resource}")
    while True:
        resource, step = rng.choice(resources), rng.choice(STEPS)
        better = scaled(target, resource, step)
        if better != target:
            return Trial(target, better, f"{' x '.join(words)}, then {step} x {resource}")


class Compiled:
    """A quantized network, and the cycles of its programs by target and level, None where it does not fit."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.known: dict[tuple[Target, int], int | None] = {}

    def cycles(self, target: Target, level: int) -> int | None:
        """The cycles of the program for a target."""
        key = (target, level)
        if key not in self.known:
            try:
                module = compile_module(self.module, Settings(target, opt_level=level, verify_each=False)).module
                ops = [op for op in module.main.body if isinstance(op, InstructionOp)]
                self.known[key] = run_timeline(queue_instructions(ops, target)).cycles
            except CompileError:
                self.known[key] = None
        return self.known[key]


def quantized(network: Network) -> Module:
    """A network of the catalogue with ranges from noise."""
    source = network.path or light_path(network.light)
    return compile_module(source, Settings(load_target("tile32"), stop="quant")).module


def main() -> int:
    """Print the rows; 1 if any trial costs cycles."""
    options = arguments()
    total = worse = 0
    for name in options.networks:
        network = NETWORKS[name]
        if network.path is not None and not network.path.exists():
            print(f"{name}: skipped, its file is absent")
            continue
        compiled = Compiled(quantized(network))
        for level in options.levels:
            rng, start = random.Random(f"{options.seed} {name}"), time.process_time()
            costs, skipped = [], 0
            for _ in range(options.trials):
                trial = draw(rng, tuple(options.resources))
                before, after = (compiled.cycles(target, level) for target in (trial.target, trial.better))
                if before is None:
                    skipped += 1
                elif after is None or after > before:
                    costs.append(after - before if after is not None else before)
                    print(f"  {name} -O{level}: {before:,} -> {after}: {trial.what}", flush=True)
            total, worse = total + options.trials - skipped, worse + len(costs)
            print(
                f"{name:20} -O{level} {options.trials - skipped:6} trials, {len(costs)} worse"
                f"{f', at most by {max(costs):,} cycles' if costs else ''}"
                f" ({skipped} do not fit, {time.process_time() - start:.1f} s)",
                flush=True,
            )
    print(f"{total} trials, {worse} worse")
    return 1 if worse else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("better_targets.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--trials", type=int, default=100, metavar="N", help="trials a network and level (default 100)")
    add("--networks", nargs="+", default=DEFAULT, choices=sorted(NETWORKS), metavar="NAME")
    add("--levels", nargs="+", type=int, default=(2, 3), choices=range(4), metavar="N")
    add("--resources", nargs="+", default=RESOURCES, choices=RESOURCES, metavar="NAME")
    add("--seed", type=int, default=0, metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

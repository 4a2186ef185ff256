"""Compiles networks for machines and better ones, and prints how often one takes more cycles on the better machine.

    python benchmarks/better_targets.py [--sweep] [--trials N] [--networks NAME ...] [--levels N ...]
        [--resources NAME ...] [--targets NAME ...] [--seed N]

Machines are drawn at random: a preset of which up to two resources are scaled, the better one has more of one resource,
two to four times as much, or an odd step of it. With `--sweep` they are the presets with a quarter to four times of
each resource, each compared with the best of those that have less. A row for every network and level: comparisons,
those that cost cycles, the largest of these costs; and a line for each that costs any.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Iterator
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
SWEEP = tuple(map(Fraction, ("1/4", "1/2", "3/4", "1", "3/2", "2", "4")))
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


def draw(rng: random.Random, targets: tuple[str, ...] = TARGETS, resources: tuple[str, ...] = RESOURCES) -> Trial:
    """A random machine, and one with more of one of the resources."""
    name = rng.choice(targets)
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


Comparison = tuple[int | None, int | None, str]
"""Cycles on a machine and on a better one, None where the network does not fit, and in words which machines."""


def drawn(compiled: Compiled, level: int, options: argparse.Namespace, name: str) -> Iterator[Comparison]:
    """Random machines beside random better ones."""
    rng = random.Random(f"{options.seed} {name}")
    for _ in range(options.trials):
        trial = draw(rng, tuple(options.targets), tuple(options.resources))
        yield compiled.cycles(trial.target, level), compiled.cycles(trial.better, level), trial.what


def swept(compiled: Compiled, level: int, options: argparse.Namespace) -> Iterator[Comparison]:
    """The presets with ever more of one resource, each beside the best of those that have less."""
    for name, resource in itertools.product(options.targets, options.resources):
        least: int | None = None
        for factor in SWEEP:
            found = compiled.cycles(scaled(load_target(name), resource, factor), level)
            if factor != SWEEP[0]:
                yield least, found, f"{name} x {factor} {resource} after less"
            least = min((each for each in (least, found) if each is not None), default=None)


def main() -> int:
    """Print the rows; 1 if any comparison costs cycles."""
    options = arguments()
    total = worse = 0
    for name in options.networks:
        network = NETWORKS[name]
        if network.path is not None and not network.path.exists():
            print(f"{name}: skipped, its file is absent")
            continue
        compiled = Compiled(quantized(network))
        for level in options.levels:
            start, count, shares = time.process_time(), 0, list[float]()
            every = swept(compiled, level, options) if options.sweep else drawn(compiled, level, options, name)
            for before, after, what in every:
                if before is None:
                    continue
                count += 1
                if after is None or after > before:
                    shares.append(after / before - 1 if after is not None else 1.0)
                    print(f"  {name} -O{level}: {before:,} -> {after}: {what}", flush=True)
            total, worse = total + count, worse + len(shares)
            most = f", at most by {max(shares):.2%}" if shares else ""
            seconds = time.process_time() - start
            print(f"{name:20} -O{level} {count:6} comparisons, {len(shares)} worse{most} ({seconds:.1f} s)", flush=True)
    print(f"{total} comparisons, {worse} worse")
    return 1 if worse else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("better_targets.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--sweep", action="store_true", help="presets with less and more of each resource, not random machines")
    add("--trials", type=int, default=100, metavar="N", help="trials a network and level (default 100)")
    add("--networks", nargs="+", default=DEFAULT, choices=sorted(NETWORKS), metavar="NAME")
    add("--levels", nargs="+", type=int, default=(2, 3), choices=range(4), metavar="N")
    add("--resources", nargs="+", default=RESOURCES, choices=RESOURCES, metavar="NAME")
    add("--targets", nargs="+", default=TARGETS, choices=TARGETS, metavar="NAME")
    add("--seed", type=int, default=0, metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

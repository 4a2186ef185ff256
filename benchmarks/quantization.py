"""Prints what calibration and quantization cost: seconds, processor seconds and memory, pass by pass.

    python benchmarks/quantization.py [--networks NAME ...] [--level N] [--json FILE]

Every network is imported and quantized for tile32 in a process of its own, on one thread, so that processor seconds are
what a quiet core would take; a second core only helps. Memory is the largest resident size of that process. The exit
status is 1 if a network takes more processor seconds or memory than its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from catalogue import NETWORKS
from light_networks import light_path, with_random_weights
from speed import THREAD_VARIABLES

from accelc.backends.target import load_target
from accelc.compiler.driver import Settings, compile_module
from accelc.dialects.core.operation import Module
from accelc.passes.framework.base import Pass
from accelc.passes.framework.pass_manager import Instrumentation

GIBIBYTE = 1 << 30


@dataclass(frozen=True)
class Case:
    """How many samples, and what may be taken: processor seconds, and bytes."""

    samples: int
    seconds: float
    memory: float = 4 * GIBIBYTE


CASES = {
    "digits_depthwise": Case(256, 15.0),
    "resnet8": Case(256, 15.0),
    "light_squeezenet": Case(64, 180.0),
    "light_resnet50": Case(64, 180.0),
}
DEFAULT_CASES = ("resnet8", "light_resnet50")


def main() -> int:
    """Print the table, or, in the process of one network, its measurement."""
    options = arguments()
    if options.measure:
        print(json.dumps(measured(options.measure, options.level)))
        return 0
    print(f"{'network':18} samples  seconds  processor  limit  memory GiB  limit  longest passes, processor seconds")
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    rows: list[dict[str, Any]] = []
    for name in options.networks:
        line = [sys.executable, __file__, "--measure", name, "--level", str(options.level)]
        done = subprocess.run(line, capture_output=True, text=True, env=environment)
        if done.returncode:
            print(f"{name:18} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
            rows.append({"network": name, "within": False})
            continue
        row = json.loads(done.stdout)
        rows.append(row)
        longest = sorted(row["passes"].items(), key=lambda item: -item[1])[:4]
        print(
            f"{name:18} {row['samples']:7} {row['seconds']:8.1f} {row['processor']:10.1f} {row['seconds_limit']:6.0f} "
            f"{row['memory']:11.2f} {row['memory_limit']:6.0f}  "
            f"{', '.join(f'{each} {seconds:.1f}' for each, seconds in longest)}"
            f"{'' if row['within'] else '  ABOVE ITS LIMIT'}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0 if all(row["within"] for row in rows) else 1


def measured(name: str, level: int) -> dict[str, Any]:
    """The figures of one network in this process."""
    watcher, case = ProcessorSeconds(), CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        model, samples = _model(name, case.samples, Path(folder))
        target = load_target("tile32")
        settings = Settings(target, opt_level=level, calibration=samples, stop="quant", instrumentation=[watcher])
        wall, processor = time.perf_counter(), time.process_time()
        compile_module(model, settings)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "network": name,
        "samples": case.samples,
        "seconds": wall,
        "processor": processor,
        "seconds_limit": case.seconds,
        "memory": memory / GIBIBYTE,
        "memory_limit": case.memory / GIBIBYTE,
        "within": processor <= case.seconds and memory <= case.memory,
        "passes": watcher.seconds,
    }


class ProcessorSeconds(Instrumentation):
    """Of every pass."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = 0.0

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        self._start = time.process_time()

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        taken = time.process_time() - self._start
        self.seconds[running.name] = self.seconds.get(running.name, 0.0) + taken


def _model(name: str, count: int, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """The model's file and `count` samples of its training data; light models have random weights and see noise."""
    network = NETWORKS[name]
    if network.path is not None and network.calibration is not None:
        with np.load(network.calibration) as arrays:
            return network.path, {"input": arrays["input"][:count]}
    model = with_random_weights(light_path(network.light))
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    (given,) = model.graph.input
    shape = [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
    return path, {given.name: np.random.default_rng(0).standard_normal((count, *shape[1:]), np.float32)}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("quantization.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--networks", nargs="+", choices=tuple(CASES), default=DEFAULT_CASES, metavar="NAME")
    add("--level", type=int, choices=(1, 2, 3), default=2, help="optimization level (default 2)")
    add("--json", metavar="FILE", type=Path, help="write all figures as data")
    add("--measure", metavar="NAME", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

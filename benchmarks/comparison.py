"""Measures accelc and onnxruntime on the same networks and inputs, and checks that the program's bits are right."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from catalogue import NETWORKS, Network
from light_networks import light_path, with_random_weights
from machine import describe, start_seconds
from products import blas_alone
from runtime import for_any_batch, quantized, session
from stopwatch import Stopwatch, Timing, in_turns
from table import show

from accelc.backends.program import Program, load_program
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.compiler.driver import Settings, compile_module, emit, load_module
from accelc.compiler.measuring import measure
from accelc.compiler.notes import product_shapes
from accelc.compiler.progress import terminal_progress
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.passes.framework.base import Pass
from accelc.passes.framework.pass_manager import Instrumentation

TARGET = "tile32"
SYNTHETIC = 16
"""Samples of noise that stand in for calibration data, on both sides."""
CHECKED_SAMPLES = 4
FIRST_MACHINE_PASS = "lower-to-tile"


@dataclass
class Row:
    """All that is known of one network. `timings` is by what was measured, in seconds a call or a sample."""

    name: str
    calibrated: int
    batch: int
    timings: dict[str, Timing] = field(default_factory=dict)
    passes: list[tuple[str, float]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    equal: bool = False
    batched_runtime: bool = False

    def seconds(self, name: str) -> float | None:
        """The median of a measurement, None if it was not made."""
        return self.timings[name].seconds if name in self.timings else None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "calibration_samples": self.calibrated,
            "batch": self.batch,
            "onnxruntime_takes_batches": self.batched_runtime,
            "equal_to_interpreter": self.equal,
            "seconds": {name: timing.to_json() for name, timing in self.timings.items()},
            "passes": [{"name": name, "seconds": seconds} for name, seconds in self.passes],
            "report": self.report,
        }


class PassClock(Instrumentation):
    """Processor seconds of every pass with its verification."""

    def __init__(self) -> None:
        self.seconds: list[tuple[str, float]] = []
        self._start = 0.0

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        self._start = time.process_time()

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        self.seconds.append((running.name, time.process_time() - self._start))


class Keep(Instrumentation):
    """Keeps a copy of the quantized module, the last one whose meaning no machine has touched."""

    module: Module

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        if running.name == FIRST_MACHINE_PASS:
            self.module = module.clone()


def compare(names: Sequence[str], rounds: int, destination: Path | None, pinned: str) -> int:
    """Measure, print and write; exit status 1 if a program's bits are wrong or no network could be measured."""
    begin = time.process_time(), time.perf_counter()
    surroundings = describe(pinned)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            network = NETWORKS[name]
            missing = _missing(network)
            if missing:
                print(f"{name}: skipped, {missing}")
                continue
            rows.append(_measured(name, network, rounds, Path(folder)))
        if not rows:
            return 1
        share = (time.process_time() - begin[0]) / (time.perf_counter() - begin[1])
        starts = start_seconds(rounds, Path(folder))
    show(surroundings, starts, rows, rounds, share)
    if destination is not None:
        data = {
            "target": TARGET,
            "rounds": rounds,
            "share_of_core": share,
            "surroundings": surroundings,
            "start_seconds": starts,
            "networks": [row.to_json() for row in rows],
        }
        destination.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    wrong = [row.name for row in rows if not row.equal]
    if wrong:
        print(f"wrong: the program's bits are not those of the quantized network: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _missing(network: Network) -> str:
    """Why the network cannot be measured; empty if it can."""
    path = network.path or light_path(network.light)
    wanted = [file for file in (path, network.calibration, network.test) if file is not None and not file.is_file()]
    if not wanted:
        return ""
    place = "the installed onnx package" if network.path is None else "the folder shared/ beside the repository"
    return f"{wanted[0].name} is not in {place}"


def _measured(name: str, network: Network, rounds: int, folder: Path) -> Row:
    """One network: compile it `rounds` times, then run it in turns with onnxruntime."""
    path = network.path
    if path is None:
        path = folder / f"{name}.onnx"
        onnx.save(with_random_weights(light_path(network.light)), path)
    given = None if network.calibration is None else _input(network.calibration)
    row = Row(name, SYNTHETIC if given is None else len(given), network.batch)
    module = load_module(path)
    argument = module.main.arguments[0]
    noise = np.random.default_rng(0).standard_normal((SYNTHETIC, *argument.type.shape[1:]), np.float32)
    calibration = noise if given is None else given
    test = noise if network.test is None else _input(network.test)
    keep = Keep()
    settings = Settings(load_target(TARGET), calibration={str(argument.name): calibration}, instrumentation=[keep])
    program = emit(compile_module(path, settings))
    with terminal_progress(f"{name}: compiling", rounds) as advance:
        _compile_in_rounds(row, path, {str(argument.name): given}, rounds, advance)
        _load_in_rounds(row, program, test[:1], rounds, folder)
    row.report = _figures(program)
    with Stopwatch() as watch:
        integer = quantized(path, folder, calibration)
    row.timings["onnxruntime quantize_static"] = Timing([watch.processor], [watch.wall])
    row.equal = _same_bits(program, keep.module, test, network.batch)
    calls = _inference(row, program, path, integer, test)
    calls["BLAS alone"] = blas_alone(product_shapes(module).values())
    with terminal_progress(f"{name}: running", rounds * len(calls)) as advance:
        timings = in_turns(calls, rounds, advance)
    for kind, timing in timings.items():
        samples = network.batch if kind.endswith("batch") else 1
        per_sample = [[s / samples for s in seconds] for seconds in (timing.processor, timing.wall)]
        row.timings[kind] = Timing(*per_sample)
    return row


def _input(path: Path) -> np.ndarray:
    with np.load(path) as file:
        return file["input"]


def _compile_in_rounds(
    row: Row, path: Path, given: Mapping[str, np.ndarray | None], rounds: int, advance: Callable[[int], None]
) -> None:
    """Time ONNX file to program without calibration data, part by part, and with it where there is some."""
    parts = ("import", "passes", "emit", "compile")
    timings = {part: Timing() for part in parts}
    seconds: list[list[tuple[str, float]]] = []
    calibration = {name: array for name, array in given.items() if array is not None}
    if calibration:
        timings["compile calibrated"] = Timing()
    for _ in range(rounds):
        clock = PassClock()
        with Stopwatch() as whole:
            with Stopwatch() as first:
                module = load_module(path)
            with Stopwatch() as second:
                compiled = compile_module(module, Settings(load_target(TARGET), instrumentation=[clock]))
            with Stopwatch() as third:
                emit(compiled)
        for part, watch in zip(parts, (first, second, third, whole), strict=True):
            timings[part].add(watch.processor, watch.wall)
        seconds.append(clock.seconds)
        if calibration:
            with Stopwatch() as watch:
                emit(compile_module(path, Settings(load_target(TARGET), calibration=calibration)))
            timings["compile calibrated"].add(watch.processor, watch.wall)
        advance(1)
    row.timings.update(timings)
    for same in zip(*seconds, strict=True):
        row.passes.append((same[0][0], float(np.median([taken for _, taken in same]))))


def _load_in_rounds(row: Row, program: Program, sample: np.ndarray, rounds: int, folder: Path) -> None:
    """Time a program file until it is ready, and its first image, which also binds instructions to memory."""
    path = folder / f"{row.name}.accel"
    program.save(path)
    load, first = row.timings["load"], row.timings["first run"] = Timing(), Timing()
    for _ in range(rounds):
        with Stopwatch() as watch:
            simulator = Simulator(load_program(path))
        load.add(watch.processor, watch.wall)
        with Stopwatch() as watch:
            simulator.run(_named(program, sample))
        first.add(watch.processor, watch.wall)


def _named(program: Program, samples: np.ndarray) -> dict[str, np.ndarray]:
    return {program.inputs[0].name: samples}


def _same_bits(program: Program, module: Module, test: np.ndarray, batch: int) -> bool:
    """True if the simulator gives, one by one and side by side, exactly what the quantized network computes."""
    simulator = Simulator(program)
    name = program.outputs[0].name
    count = CHECKED_SAMPLES if batch else 1
    together = simulator.run(_named(program, test[: max(batch, 1)]))[name]
    for index, sample in enumerate(test[:count, None]):
        expected = run(module, _named(program, sample))[name]
        alone = simulator.run(_named(program, sample))[name]
        if not np.array_equal(alone, expected) or not np.array_equal(together[index : index + 1], expected):
            return False
    return True


def _inference(
    row: Row, program: Program, path: Path, integer: Path, test: np.ndarray
) -> dict[str, Callable[[], object]]:
    """What is measured in turns: one sample on all three, then a batch on all three that take one."""
    calls: dict[str, Callable[[], object]] = {}
    sample = test[:1]
    name = program.inputs[0].name
    calls["accelc"] = partial(Simulator(program).run, _named(program, sample))
    for kind, model in (("float32", path), ("int8", integer)):
        calls[f"onnxruntime {kind}"] = partial(session(model).run, None, {name: sample})
    if not row.batch:
        return calls
    several = test[: row.batch]
    calls["accelc batch"] = partial(Simulator(program).run, _named(program, several))
    wide = {kind: for_any_batch(model, several) for kind, model in (("float32", path), ("int8", integer))}
    row.batched_runtime = all(wide.values())
    for kind, data in wide.items():
        if data is not None:
            calls[f"onnxruntime {kind} batch"] = partial(session(data).run, None, {name: several})
    return calls


def _figures(program: Program) -> dict[str, Any]:
    """What accelc predicts for the machine, of the report's keys."""
    report = measure(program).to_json()
    kept = ("macs", "cycles", "seconds", "utilization", "bounds", "instructions", "sram", "dram_bytes")
    return {key: report[key] for key in kept}

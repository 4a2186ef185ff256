"""Measures accelc and onnxruntime on the same networks and inputs, and checks that the program's bits are right."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import processes
from catalogue import NETWORKS, Network
from depth import FEWEST_ROUNDS, STAGES, compile_seconds
from goals import Results, judged
from light_networks import light_path, with_random_weights
from machine import describe
from products import blas_alone
from row import Row
from runtime import INT8_SUFFIX, for_any_batch, quantized, session
from stopwatch import Stopwatch, Timing, in_turns
from table import show

from accelc.backends.program import Program, load_program
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.compiler.driver import Settings, compile_module, emit, load_module, save_calibration
from accelc.compiler.measuring import measure
from accelc.compiler.notes import product_shapes
from accelc.compiler.progress import terminal_progress
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.passes.framework.base import Pass
from accelc.passes.framework.pass_manager import Instrumentation

TARGET = "tile32"
NOISE = 2
"""Samples of noise that onnxruntime takes its ranges from where there is no calibration data; accelc makes its own."""
COMPILE_SECONDS = 20.0
"""Compilation is repeated until it has taken this long, at most once a round."""
CHECKED_SAMPLES = 4
FIRST_MACHINE_PASS = "lower-to-tile"
WHOLE_PROCESS = "resnet8"
"""The network whose evaluation and compilation are also measured as whole processes."""


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


def compare(names: Sequence[str], rounds: int, destination: Path | None, pinned: str, *, deep: bool) -> int:
    """Measure, print and write; exit status 1 if a program's bits are wrong or no network could be measured.

    With `deep` the compile time of ResNets of growing depth is measured too.
    """
    begin = time.process_time(), time.perf_counter()
    surroundings = describe(pinned)
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        commands = dict(processes.STARTS)
        for name in names:
            network = NETWORKS[name]
            missing = _missing(network)
            if missing:
                print(f"{name}: skipped, {missing}")
                continue
            rows[name] = _measured(name, network, rounds, folder)
            if name == WHOLE_PROCESS:
                commands |= _whole_processes(name, network, folder)
        if not rows:
            return 1
        depth: dict[int, Timing] = {}
        if deep:
            deep_rounds = max(rounds, FEWEST_ROUNDS)
            with terminal_progress("compiling deeper and deeper", deep_rounds * len(STAGES)) as advance:
                depth = compile_seconds(deep_rounds, TARGET, folder, advance)
        share = (time.process_time() - begin[0]) / (time.perf_counter() - begin[1])
        with terminal_progress("running whole processes", (rounds + 1) * len(commands)) as advance:
            taken = processes.in_turns(commands, rounds, folder, advance)
        results = Results(rows, taken, processes.loaded_by_import(), depth)
    goals = judged(results)
    show(surroundings, results, goals, rounds, share)
    if destination is not None:
        data = {
            "target": TARGET,
            "rounds": rounds,
            "share_of_core": share,
            "surroundings": surroundings,
            "goals": goals,
            "processes": {name: timing.to_json() for name, timing in taken.items()},
            "depth": {layers: timing.to_json() for layers, timing in depth.items()},
            "loaded_by_import": results.loaded,
            "networks": [row.to_json() for row in rows.values()],
        }
        destination.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    wrong = [row.name for row in rows.values() if not row.equal]
    if wrong:
        print(f"wrong: the program's bits are not those of the quantized network: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _whole_processes(name: str, network: Network, folder: Path) -> dict[str, tuple[str, ...]]:
    """Command lines: the network evaluated on its test data, and compiled from a quantized file."""
    evaluate = ("--calibration-data", str(network.calibration), "--evaluate", str(network.test), "--report")
    quantized_file = next(folder.glob(f"*{INT8_SUFFIX.format(network.path.stem if network.path else name)}"))
    return {
        f"{name} evaluated": (*processes.COMMAND, str(network.path), *evaluate),
        f"{name} from QDQ": (*processes.COMMAND, str(quantized_file), "-o", str(folder / "quantized.accel")),
    }


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
    row = Row(name, NOISE if given is None else len(given), network.batch)
    module = load_module(path)
    argument = module.main.arguments[0]
    shape = (max(network.batch, CHECKED_SAMPLES), *argument.type.shape[1:])
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    test = noise if network.test is None else _input(network.test)
    keep = Keep()
    samples = None if given is None else {str(argument.name): given}
    settings = Settings(load_target(TARGET), calibration=samples, instrumentation=[keep])
    compiled = compile_module(path, settings)
    program, ranges = emit(compiled), folder / f"{name}.ranges.json"
    save_calibration(compiled, ranges)
    with terminal_progress(f"{name}: compiling", rounds) as advance:
        _compile_in_rounds(row, path, samples, ranges, rounds, advance)
        _load_in_rounds(row, program, test[:1], rounds, folder)
    row.report = _figures(program)
    with Stopwatch() as watch:
        integer = quantized(path, folder, noise[:NOISE] if given is None else given)
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
    row: Row,
    path: Path,
    samples: Mapping[str, np.ndarray] | None,
    ranges: Path,
    rounds: int,
    advance: Callable[[int], None],
) -> None:
    """Time ONNX file to program: part by part without calibration data, with given ranges, and with samples if any."""
    parts = ("import", "passes", "emit", "compile")
    timings = {part: Timing() for part in parts}
    seconds: list[list[tuple[str, float]]] = []
    others = {"compile, ranges given": {"load_calibration": ranges}}
    if samples is not None:
        others["compile calibrated"] = {"calibration": samples}
    timings |= {name: Timing() for name in others}
    begin = time.process_time()
    for turn in range(rounds):
        if turn and time.process_time() - begin > COMPILE_SECONDS:
            break
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
        for name, given in others.items():
            with Stopwatch() as watch:
                emit(compile_module(path, Settings(load_target(TARGET), **given)))
            timings[name].add(watch.processor, watch.wall)
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
    simulator = Simulator(program, compiled=True)
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
    calls["accelc"] = partial(Simulator(program, compiled=True).run, _named(program, sample))
    for kind, model in (("float32", path), ("int8", integer)):
        calls[f"onnxruntime {kind}"] = partial(session(model).run, None, {name: sample})
    if not row.batch:
        return calls
    several = test[: row.batch]
    calls["accelc batch"] = partial(Simulator(program, compiled=True).run, _named(program, several))
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

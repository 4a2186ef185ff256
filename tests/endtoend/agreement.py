"""One network, level and target: runs every form of the program on the same samples and collects what differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod

import numpy as np
from oracle.execution import execute

from accelc.backends.emitter import emit
from accelc.backends.program import Program, program_from_bytes
from accelc.backends.simulator.hazards import check_hazards
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import Target, load_target
from accelc.compiler.importer import import_model
from accelc.compiler.measuring import measure
from accelc.compiler.report import Report
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module, Operation
from accelc.passes.framework.base import Pass
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import Instrumentation, PassManager
from accelc.passes.framework.pipeline import format_pipeline, parse_pipeline
from accelc.passes.pipelines import PIPELINES
from accelc.passes.quantization.network import FloatNetwork
from accelc.passes.registry import PASSES

from .networks import network

LEVELS = tuple(PIPELINES)
TARGETS = ("tile16", "tile32", "array32")
MACHINE_PASSES = ("pad-channels", "lower-to-tile")
"""The passes from which on a module depends on the target."""

Outputs = dict[str, np.ndarray]
Execution = Callable[[np.ndarray], Outputs]


@dataclass
class Snapshots(Instrumentation):
    """Copies of the module behind the passes of these names."""

    names: frozenset[str]
    modules: dict[str, Module] = field(default_factory=dict)

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        if running.name in self.names:
            self.modules[running.name] = module.clone()


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized module, the samples it ran on, what the oracle computes, and the first operation that differs."""

    module: Module
    samples: np.ndarray
    expected: Outputs
    macs: int
    difference: str | None


@dataclass(frozen=True)
class Agreement:
    """What came out. `differences` is empty where all forms agree and the ledger balances; else a sentence each.

    `equal` says for each form whether it equals the oracle, `distinct` how many different integers the outputs hold.
    """

    network: str
    target: str
    level: str
    samples: int
    equal: Mapping[str, bool]
    balanced: bool
    cycles: int
    utilization: float
    distinct: int
    seconds: float
    differences: tuple[str, ...]


def split_pipeline(level: str) -> tuple[str, list[Pass]]:
    """The passes that decide the integers, which no target influences, as text, and those behind them."""
    passes = parse_pipeline(PIPELINES[level], PASSES)
    cut = machine_start(passes)
    return format_pipeline(passes[:cut]), list(passes[cut:])


def machine_start(passes: Sequence[Pass]) -> int:
    """The index of the first pass that depends on the target."""
    return next(index for index, each in enumerate(passes) if each.name in MACHINE_PASSES)


@cache
def quantized(name: str, pipeline: str, count: int, precision: str = "int8") -> Quantized:
    """The quantized module of a network, executed by the oracle and, operation by operation, by the interpreter."""
    given = network(name)
    module = import_model(given.model)
    macs = multiply_accumulates(module)
    calibration = CalibrationData({given.input: given.calibration})
    environment = Environment(calibration=calibration, precision=precision)
    passes = parse_pipeline(pipeline, PASSES)
    if precision == "mixed":  # every other layer in int16
        start = next(index for index, each in enumerate(passes) if each.name == "insert-quantization")
        PassManager(passes[:start]).run(module, environment)
        promoted = frozenset(list(FloatNetwork(module.clone()).layers)[::2])
        environment, passes = replace(environment, promoted=promoted), passes[start:]
    PassManager(passes).run(module, environment)
    samples = given.samples(count)
    found = [compared(module, {given.input: sample[None]}) for sample in samples]
    difference = next((f"sample {i}: {text}" for i, (_, text) in enumerate(found) if text), None)
    return Quantized(module, samples, joined(outputs for outputs, _ in found), macs, difference)


def compared(module: Module, inputs: Outputs) -> tuple[Outputs, str | None]:
    """The oracle's outputs, and the first operation whose result in the interpreter is not the oracle's."""
    results: dict[Operation, np.ndarray] = {}
    run(module, inputs, observer=lambda op, values: results.__setitem__(op, values[0]))
    differences: list[str] = []

    def observe(op: Operation, expected: np.ndarray) -> None:
        actual = results.pop(op)
        if actual.dtype != expected.dtype or not np.array_equal(actual, expected):
            where = np.argwhere(actual != expected)
            first = f" first at {where[0].tolist()}" if len(where) else ""
            differences.append(f"'{op.name}' [{op.location.layer}]: {len(where)} of {expected.size} differ{first}")

    outputs = execute(module, inputs, observer=observe)
    return outputs, differences[0] if differences else None


def multiply_accumulates(module: Module) -> int:
    """What convolutions and matrix products of an imported module multiply, counted from shapes alone."""
    total = 0
    for op in module.walk():
        if op.name == "nn.conv2d":
            total += op.result.type.size * prod(op.operands[1].type.shape[:3])
        elif op.name == "nn.matmul":
            total += op.result.type.size * op.operands[0].type.shape[-1]
    return total


def check(
    name: str, target_name: str, level: str, *, precision: str = "int8", count: int = 8, thorough: bool = True
) -> Agreement:
    """Compile, run every form, compare bit for bit, balance the ledger.

    The scheduled tile IR and the program run on all samples. `thorough` also runs the forms between on all of them,
    otherwise on two, and not at all where there is only one sample.
    """
    start = time.perf_counter()
    given, target = network(name), load_target(target_name)
    prefix, passes = split_pipeline(level)
    reference = quantized(name, prefix, count, precision)
    total = len(reference.samples)
    between = total if thorough else min(2, total - 1)
    counts = {"pad-channels": between, "lower-to-tile": between, "plain": min(between, 1)}
    equal = {"quantized": reference.difference is None}
    differences = [] if reference.difference is None else [f"quantized: {reference.difference}"]
    skipped = frozenset(form for form, some in counts.items() if not some)
    compiled = compile_forms(reference.module, passes, target, skipped)
    hazard = hazard_in(compiled.program)
    equal["checked"] = hazard is None
    differences += [] if hazard is None else [f"checked: {hazard}"]
    for form, execution in compiled.executions(given.input):
        if form in skipped:
            continue
        chosen = evenly(total, counts.get(form, total))
        texts = list(unequal(execution(reference.samples[chosen]), reference.expected, chosen))
        equal[form] = not texts
        differences += [f"{form}: {text}" for text in texts]
    report = measure(compiled.program)
    unbalanced = list(imbalances(report, reference.macs))
    return Agreement(
        network=name,
        target=target_name,
        level=level,
        samples=total,
        equal=equal,
        balanced=not unbalanced,
        cycles=report.cycles,
        utilization=report.utilization,
        distinct=max(len(np.unique(array)) for array in reference.expected.values()),
        seconds=time.perf_counter() - start,
        differences=(*differences, *unbalanced),
    )


@dataclass(frozen=True, eq=False)
class Compiled:
    """What the passes behind the quantized module made of it: a module a stage, and the program.

    The program has been through its file format.
    """

    stages: dict[str, Module]
    program: Program

    def executions(self, name: str) -> Iterator[tuple[str, Execution]]:
        """The forms that can be executed, by name. A module is let go with its turn: of large ones few fit at once."""
        for stage in tuple(self.stages):
            yield stage, interpreter(self.stages.pop(stage), name)
        for form, mode in (("simulator", "fast"), ("plain", "plain")):
            yield form, simulator(self.program, name, mode)


def compile_forms(
    quantized_module: Module, passes: Sequence[Pass], target: Target, skipped: frozenset[str] = frozenset()
) -> Compiled:
    """Compile a quantized module, keeping the stages that are not skipped."""
    snapshots = Snapshots(frozenset(MACHINE_PASSES) - skipped)
    module = quantized_module.clone()
    PassManager(passes, instrumentation=[snapshots]).run(module, Environment(target=target))
    program = program_from_bytes(emit(module, target).to_bytes())
    return Compiled({**snapshots.modules, "insert-tokens": module}, program)


def evenly(total: int, some: int) -> np.ndarray:
    """`some` of `total` indices, the first and the last among them where there are two."""
    return np.unique(np.linspace(0, total - 1, some).round().astype(int))


def interpreter(module: Module, name: str) -> Execution:
    """Execution of a module, sample by sample."""
    return lambda samples: joined(run(module, {name: sample[None]}) for sample in samples)


def simulator(program: Program, name: str, mode: str) -> Execution:
    """Execution of a program, all samples at once."""
    return lambda samples: Simulator(program, mode=mode).run({name: samples})


def hazard_in(program: Program) -> str | None:
    """What checked mode has against the program: a read of memory never written, or accesses that no token orders."""
    try:
        check_hazards(program)
    except CompileError as error:
        return str(error)
    return None


def joined(parts: Iterator[Outputs]) -> Outputs:
    """Outputs of single samples as outputs of many."""
    found = list(parts)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def unequal(actual: Outputs, expected: Outputs, chosen: np.ndarray) -> Iterator[str]:
    """A sentence for every output that is not the oracle's, bit for bit."""
    if list(actual) != list(expected):
        yield f"outputs are {list(actual)}, expected {list(expected)}"
        return
    for name, array in expected.items():
        wanted, found = array[chosen], actual[name]
        if found.dtype != wanted.dtype or found.shape != wanted.shape:
            yield f"'{name}' is {found.dtype}{list(found.shape)}, expected {wanted.dtype}{list(wanted.shape)}"
        elif found.tobytes() != wanted.tobytes():
            where = np.argwhere(found != wanted).tolist()
            yield f"'{name}' differs in {len(where)} of {wanted.size} elements, first at {(where or ['a sign'])[0]}"


def imbalances(report: Report, macs: int) -> Iterator[str]:
    """A sentence for everything that does not add up, in exact integers."""
    machine = report.machine
    if sum(report.slots.values()) != report.cycles * machine.blocks * machine.lanes * machine.columns:
        yield f"ledger: {sum(report.slots.values())} slots in {report.cycles} cycles of {machine.slots_per_cycle}"
    if min(report.slots.values()) < 0:
        yield f"ledger: negative slots in {dict(report.slots)}"
    if report.slots["idle"]:
        yield f"ledger: {report.slots['idle']} slots without a cause"
    for cause, count in report.slots.items():
        if count != sum(layer.slots.get(cause, 0) for layer in report.layers):
            yield f"ledger: the layers do not sum to the total of {cause}"
    if report.cycles != sum(layer.cycles for layer in report.layers):
        yield "ledger: the cycles of the layers do not sum to those of the run"
    data = report.to_json()
    if sum(data["ledger"].values()) != data["cycles"] * data["blocks"]:
        yield f"ledger: {sum(data['ledger'].values())} block-cycles in {data['cycles']} cycles of {data['blocks']}"
    if report.macs != macs or sum(layer.macs for layer in report.layers) != macs:
        yield f"ledger: {report.macs} multiply-accumulates, the model has {macs}"
    if report.slots["useful_mac"] > macs:
        yield f"ledger: {report.slots['useful_mac']} useful multiply-accumulates, the model has {macs}"

"""A network end to end: the float module against onnxruntime, the program against the integer module, the ledger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np
import onnx
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from accelc.backends.emitter import emit
from accelc.backends.program import program_from_bytes
from accelc.backends.simulator.simulator import MODES, Simulator
from accelc.backends.target import load_target
from accelc.compiler.importer import import_model
from accelc.compiler.measuring import measure
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import evaluated, run
from accelc.dialects.core.operation import Constant, Function, Module, Value
from accelc.dialects.core.types import F32, Array
from accelc.dialects.core.verifier import verify
from accelc.passes.framework.base import Pass
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import Instrumentation, PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.pipelines import PIPELINES
from accelc.passes.registry import PASSES

from .blocks import HOST_OPERATORS
from .problems import MismatchError

TARGETS = ("tile16", "tile32", "tile64", "array32")
TOLERANCE = 1e-4
"""Of the largest magnitude of an output: float32 sums in another order."""
SWINGS = 4
"""Draws of numbers that are off by their last places."""
SAMPLES = 3


REFUSED = re.compile(
    "has no integer form|one slope, or one for each"
    "|holds NaN or infinity for the calibration data"
    "|bytes of SRAM in its smallest strips, target has"
)
"""What random networks may have that integers cannot express, or a target has no room for; every other error is a
mistake of the compiler."""


@dataclass
class Kept(Instrumentation):
    """The module as it goes into `lower-to-tile`: all in integers, not yet instructions."""

    module: Module | None = field(default=None)

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        if running.name == "lower-to-tile":
            self.module = module.clone()


def check_network(model: onnx.ModelProto, random: Random) -> str:
    """Raise MismatchError if two forms disagree; else what became of it: `ran`, or the reason why it was refused."""
    numbers = np.random.default_rng(random.getrandbits(32))
    # With the host allowed nothing may be refused for its operators; without it, operations of nn may have no integers.
    allow_host = random.random() < 0.3 or any(node.op_type in HOST_OPERATORS for node in model.graph.node)
    module = import_model(model, allow_host=allow_host)
    verify(module)
    inputs = {str(argument.name): argument.type for argument in module.main.arguments}
    samples = {
        name: numbers.standard_normal((SAMPLES, *kind.shape[1:]), np.float32)
        if kind.element == F32
        else numbers.integers(-4, 4, (SAMPLES, *kind.shape[1:]))
        for name, kind in inputs.items()
    }
    compare_floats(model, module, {name: array[:1] for name, array in samples.items()})
    level, target, mode = random.choice(list(PIPELINES)), load_target(random.choice(TARGETS)), random.choice(MODES)
    kept = Kept()
    try:
        passes = parse_pipeline(PIPELINES[level], PASSES)
        PassManager(passes, instrumentation=[kept]).run(
            module, Environment(target, CalibrationData(samples), allow_host=allow_host)
        )
        program = program_from_bytes(emit(module, target).to_bytes())
    except CompileError as error:
        message = error.diagnostics[0].message
        if not REFUSED.search(message):
            raise
        return message
    if kept.module is None:
        raise MismatchError("the pipeline never came to lower-to-tile")
    expected = [run(kept.module, {n: a[i : i + 1] for n, a in samples.items()}) for i in range(SAMPLES)]
    found = Simulator(program, mode=mode).run(samples)
    for name, array in found.items():
        wanted = np.concatenate([each[name] for each in expected])
        if array.dtype != wanted.dtype or array.tobytes() != wanted.tobytes():
            where = np.argwhere(array != wanted) if array.shape == wanted.shape else []
            raise MismatchError(
                f"{level} on {target.name}, {mode}: '{name}' differs from the integer module in {len(where)} of "
                f"{wanted.size} elements"
            )
    report = measure(program)
    if sum(report.slots.values()) != report.cycles * report.machine.slots_per_cycle:
        raise MismatchError(f"{level} on {target.name}: the ledger does not balance")
    return "ran"


class LRN(OpRun):
    """The operator in float64; that of the reference evaluator is right for as many channels as there are samples."""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        margins = ((0, 0), ((size - 1) // 2, size // 2), *((0, 0) for _ in x.shape[2:]))
        squares = np.pad(np.square(x, dtype=np.float64), margins)
        sums = sliding_window_view(squares, size, axis=1).sum(-1)
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


def compare_floats(model: onnx.ModelProto, module: Module, inputs: dict[str, np.ndarray]) -> None:
    """Raise MismatchError if the imported module and onnxruntime, without its fusions, disagree.

    What is off by no more than the last places of all numbers on the way move it is no mismatch. Where they do
    disagree, the reference evaluator of the onnx package decides: onnxruntime slides the sum of LRN over the channels,
    adding one square and taking one away, which cancels behind large numbers.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = dict(zip(names, session.run(names, inputs), strict=True))
    with np.errstate(all="ignore"):
        actual = run(module, inputs)
        found = _mismatch(actual, wanted, inputs)
        if found is None or _mismatch(actual, wanted, inputs, _swing(module, inputs)) is None:
            return
        others = ReferenceEvaluator(model, new_ops=[LRN]).run(names, inputs)
    again = _mismatch(actual, dict(zip(names, others, strict=True)), inputs)
    if again is not None:
        raise MismatchError(f"{found} from onnxruntime, {again} from the reference evaluator")


def _swing(module: Module, inputs: Mapping[str, Array]) -> dict[str, float]:
    """By how much outputs move where every number is off by up to four units in its last place.

    Float32 can say no more. Monte Carlo arithmetic (Parker, UCLA CSD-970002, 1997): inputs and the results of all
    operations are shaken, so that a difference of large numbers, or the normalization of an almost constant row, moves
    by what that costs. The largest of several draws.
    """
    rng, exact = np.random.default_rng(0), run(module, inputs)
    found = dict.fromkeys(exact, 0.0)
    for _ in range(SWINGS):
        shaken = _run_shaken(module.main, {name: _shaken(array, rng) for name, array in inputs.items()}, rng)
        for name, array in exact.items():
            off = np.abs(np.asarray(shaken[name], np.float64) - np.asarray(array, np.float64))
            found[name] = max(found[name], float(off[np.isfinite(off)].max(initial=0)))
    return found


def _run_shaken(function: Function, inputs: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """The outputs of a function if the result of every operation is off by its last places."""
    values = {argument: inputs[str(argument.name)] for argument in function.arguments}

    def read(value: Value) -> Array:
        return value.array if isinstance(value, Constant) else values[value]

    for op in list(function.body)[:-1]:
        results = evaluated(op, [read(value) for value in op.operands])
        values.update(zip(op.results, (_shaken(array, rng) for array in results), strict=True))
    return dict(zip(function.output_names, map(read, function.returns), strict=True))


def _shaken(array: Array, rng: np.random.Generator) -> Array:
    if np.asarray(array).dtype.kind != "f":
        return array
    return (array * (1 + rng.choice((-1, 1), np.shape(array)) * 2.0**-21)).astype(array.dtype)


def _mismatch(
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    inputs: Mapping[str, Array],
    swing: Mapping[str, float] | None = None,
) -> str | None:
    """How the first output differs that does, by more than `swing` allows it where that is given."""
    # Numbers that cancel, as in the normalization of a constant row, leave an error of the size of what cancelled.
    size = max((float(np.abs(array).max(initial=0)) for array in inputs.values()), default=0.0)
    for name, wanted in expected.items():
        array = actual[name]
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            return f"'{name}' is {array.dtype}{list(array.shape)} and differs, as {wanted.dtype}{list(wanted.shape)},"
        if not np.isfinite(wanted).all():
            continue
        limit = TOLERANCE * max(1e-3, size / 100, float(np.abs(wanted).max(initial=0)))
        limit = max(limit, (swing or {}).get(name, 0.0))
        error = float(np.abs(array - wanted).max(initial=0))
        if not error <= limit:
            return f"'{name}' differs by {error:g}, expected at most {limit:g},"
    return None

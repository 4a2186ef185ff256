"""Runs a test of the standard through accelc, as the float module and as an int8 program, and says how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from accelc.backends.emitter import emit
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.types import F32, TensorType
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.pipelines import PIPELINES
from accelc.passes.registry import PASSES

from .cases import Case, bound

INT8_ERROR = 0.05
"""Root mean square error of an int8 program's outputs, as a share of what the test expects."""

FOLDED, FLOAT, INT8, HOST = "folded", "float", "int8", "host"


@dataclass(frozen=True)
class Result:
    """`passed` are the forms that gave what the test expects; `reason` says why the next one did not.

    `folded`: everything was computed at import, from constants. `float`, `int8`: the imported module, the program.
    `host`: the imported module where the host is allowed, for what is refused otherwise. A `wrong` test was accepted
    and gave something else.
    """

    passed: tuple[str, ...]
    reason: str = ""
    wrong: bool = False


def result_of(case: Case) -> Result:
    """Run a test as it is given, and where that is refused with its weights as constants."""
    best = Result(())
    for constants in (False, True):
        prepared = bound(case, constants=constants)
        if prepared is None:
            return Result((), "an input is no tensor")
        result = _outcome(case, *prepared)
        if result.wrong or INT8 in result.passed:
            return result
        if len(result.passed) > len(best.passed) or not best.reason:
            best = result
    return best if best.passed else _on_host(case, best)


def _on_host(case: Case, refused: Result) -> Result:
    """The same with the inputs as they are given: what the host computes."""
    prepared = bound(case, constants=False)
    assert prepared is not None
    if not all(isinstance(output, (np.ndarray, np.generic)) for output in case.outputs):
        return refused
    try:
        outputs = run(import_model(prepared[0], allow_host=True), prepared[1])
    except CompileError as error:
        return Result((), f"{refused.reason}; {_reason(error)}")
    problem = _difference(case, list(outputs.values()))
    return Result((), problem, wrong=True) if problem else Result((HOST,), refused.reason)


def _outcome(case: Case, model: ModelProto, inputs: Mapping[str, np.ndarray]) -> Result:
    try:
        module = import_model(model)
        with np.errstate(all="ignore"):
            outputs = run(module, inputs)
    except CompileError as error:
        return Result((), _reason(error))
    problem = _difference(case, list(outputs.values()))
    if problem:
        return Result((), problem, wrong=True)
    if not len(module.main.body) > 1:
        return Result((FOLDED,), "nothing is left to compute")
    try:
        return Result((FLOAT, INT8)) if _is_close(case, _integers(module, inputs)) else Result((FLOAT,), "inaccurate")
    except CompileError as error:
        return Result((FLOAT,), _reason(error))


def _difference(case: Case, outputs: Sequence[Any]) -> str:
    if len(outputs) != len(case.outputs):
        return f"{len(outputs)} outputs, expected {len(case.outputs)}"
    for index, (found, expected) in enumerate(zip(outputs, case.outputs, strict=True)):
        wanted = np.asarray(expected)
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            return f"output {index} is {found.dtype}{list(found.shape)}, expected {wanted.dtype}{list(wanted.shape)}"
        if not np.allclose(found, wanted, rtol=case.rtol, atol=max(case.atol, 1e-6), equal_nan=True):
            return f"output {index} differs by {np.nanmax(np.abs(np.subtract(found, wanted, dtype=float))):g}"
    return ""


def _integers(module: Module, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of the int8 program, calibrated on the inputs of the test."""
    types = [value.type for value in (*module.main.arguments, *module.main.returns)]
    if not inputs or any(not isinstance(kind, TensorType) or kind.element != F32 for kind in types):
        raise CompileError("computes nothing on float32 inputs")
    target = load_target("tile32")
    data = CalibrationData({name: array[None] for name, array in inputs.items()})
    PassManager(parse_pipeline(PIPELINES["O2"], PASSES)).run(module, Environment(target, data))
    samples = {name: array if array.ndim else array[None] for name, array in inputs.items()}
    outputs = Simulator(emit(module, target)).run(samples)
    return list(outputs.values())


def _is_close(case: Case, outputs: Sequence[np.ndarray]) -> bool:
    for found, expected in zip(outputs, case.outputs, strict=True):
        wanted = np.asarray(expected, np.float64)
        error = np.sqrt(np.mean((found.reshape(wanted.shape) - wanted) ** 2))
        if not error <= INT8_ERROR * np.sqrt(np.mean(wanted**2)):
            return False
    return True


def _reason(error: CompileError) -> str:
    first = error.diagnostics[0]
    return first.notes[0] if "not supported" in first.message and first.notes else first.message

"""Checks every pass by running the module before and after it: `--verify-semantics`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from ...dialects.core.diagnostics import CompileError, Diagnostic
from ...dialects.core.interpreter import run
from ...dialects.core.operation import Module, Operation
from ...dialects.core.types import Array, ElementType, ScalarType, TensorType, Type
from ...dialects.nn.movement import DATA_MOVEMENT
from ...dialects.nn.onnx import HostOp, OnnxOp
from ...dialects.quant.types import is_number
from .base import Pass
from .environment import Environment
from .matching import is_float
from .pass_manager import Instrumentation
from .synthetic import synthetic_count, synthetic_samples


@runtime_checkable
class _RealElement(Protocol):
    """An element type that stands for real numbers, such as `!quant.i8<...>`."""

    def dequantize(self, stored: Array) -> Array: ...


@dataclass
class VerifySemantics(Instrumentation):
    """Runs @main on `inputs` (else one batch of calibration data, else seeded noise) and compares every output.

    Between two modules that compute in integers only, outputs must be equal, unless the pass refines them. Between two
    float modules they may differ by `float_tolerance` times the largest magnitude of the output, and where a part of a
    module computes in integers, or is refined, by `quantized_tolerance` times it. A difference is a CompileError that
    names the pass, the output and its first wrong element, and the first operation whose value disagrees with the value
    of the same ONNX nodes before the pass.
    """

    inputs: Mapping[str, Array] | None = None
    seed: int = 0
    float_tolerance: float = 1e-4
    quantized_tolerance: float = 0.1
    compared: int = 0
    _inputs: dict[str, Array] = field(default_factory=dict[str, Array])
    _outputs: dict[str, Array] = field(default_factory=dict[str, Array])
    _before: Module = field(default_factory=Module)

    def before_pipeline(self, module: Module, environment: Environment) -> None:
        self._inputs = dict(self.inputs) if self.inputs is not None else seeded_inputs(module, environment, self.seed)
        self._outputs = run(module, self._inputs)

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        self._before = module.clone()

    def after_pass(self, index: int, running: Pass, module: Module) -> None:
        try:
            outputs = run(module, self._inputs)
        except CompileError as error:
            raise error.with_note(f"the module cannot be run any more after pass '{running}'") from error
        tolerance = self._tolerance(running, module)
        old_types, new_types = _output_types(self._before), _output_types(module)
        if list(outputs) != list(self._outputs):
            raise CompileError(f"pass '{running}' changed the outputs from {list(self._outputs)} to {list(outputs)}")
        for name, expected in self._outputs.items():
            message = _difference(expected, old_types[name], outputs[name], new_types[name], tolerance)
            if message is not None:
                self._fail(running, f"output '{name}' {message}", module, tolerance)
        self._outputs = outputs
        self.compared += 1

    def _tolerance(self, running: Pass, module: Module) -> float:
        if running.refines:
            return self.quantized_tolerance
        if computes_in_integers(self._before) and not computes_in_floats(self._before):
            return 0.0
        return self.quantized_tolerance if computes_in_integers(module) else self.float_tolerance

    def _fail(self, running: Pass, message: str, module: Module, tolerance: float) -> None:
        """Run both modules once more and look for the first operation that went astray."""
        known = _values_by_node(self._before, self._inputs)
        culprit: list[tuple[Operation, str]] = []

        def observe(op: Operation, results: tuple[Any, ...]) -> None:
            found = _arrays(results)
            if culprit or not op.location.nodes or not found:
                return
            differences = [
                _difference(expected, type, found[0], op.results[0].type, tolerance)
                for node in op.location.nodes
                for expected, type in known.get(node, ())
                if expected.shape == found[0].shape and _alike(type, op.results[0].type)
            ]
            if differences and None not in differences:
                culprit.append((op, cast(str, differences[-1])))

        run(module, self._inputs, observer=observe)
        allowed = f"tolerance {tolerance:g} of the largest magnitude" if tolerance else "exactly equal is required"
        summary = f"pass '{running}' changed the meaning of the module: {message} ({allowed})"
        if not culprit:
            raise CompileError(summary)
        op, difference = culprit[0]
        raise CompileError(Diagnostic(summary, op.location, (f"first differing operation: '{op.name}' {difference}",)))


def _alike(old: Type, new: Type) -> bool:
    """True if values of two types can be compared: both stand for reals, or both are the same integers."""
    reals = [isinstance(t, TensorType) and (is_number(t.element) or _is_float(t.element)) for t in (old, new)]
    return all(reals) or old == new


def computes_in_integers(module: Module) -> bool:
    """True if the machine yields integers, a dialect type that stands for them, or bf16: one result is right then."""
    return any(
        isinstance(result.type, TensorType) and (is_number(result.type.element) or not _is_float(result.type.element))
        for op in module.main.body
        if not isinstance(op, (OnnxOp, HostOp))
        for result in op.results
    )


def _is_float(element: ElementType) -> bool:
    return isinstance(element, ScalarType) and element.is_float


def computes_in_floats(module: Module) -> bool:
    """True if an operation of the machine makes floats of floats other than by moving them."""
    return any(
        any(is_float(value) for value in op.operands) and any(is_float(result) for result in op.results)
        for op in module.main.body
        if not isinstance(op, (*DATA_MOVEMENT, HostOp))
    )


def seeded_inputs(module: Module, environment: Environment, seed: int) -> dict[str, Array]:
    """One input for @main: calibration samples where there are any, else noise from the seed.

    float32 noise is the first of the made-up samples that ranges come from without calibration data, so that it lies
    within them; integers cover their type, of 16 bits or more from -128 to 127.
    """
    inputs: dict[str, Array] = {}
    for argument in module.main.arguments:
        if not isinstance(argument.type, TensorType):
            raise CompileError(
                f"input '{argument.name}' is {argument.type}; only tensors can be made up to verify semantics"
            )
    reals = synthetic_samples(module.main, synthetic_count(module.main), seed).samples
    random = np.random.default_rng(seed)
    for argument in module.main.arguments:
        name, type = str(argument.name), cast("TensorType", argument.type)
        calibration, dtype = environment.calibration, type.element.dtype
        if calibration is not None and name in calibration.samples and type.rank:
            inputs[name] = calibration.batch(0, type.shape[0])[name].astype(dtype)
        elif dtype.kind in "iu":
            bounds = np.iinfo(dtype)
            low, high = max(bounds.min, -128), min(bounds.max, 127)
            inputs[name] = random.integers(low, high, type.shape, dtype, endpoint=True)
        elif dtype == np.float32:
            inputs[name] = reals[name][0]
        else:
            inputs[name] = np.asarray(random.standard_normal(type.shape)).astype(dtype)
    return inputs


def _output_types(module: Module) -> dict[str, Type]:
    return dict(zip(module.main.output_names, module.main.result_types, strict=True))


def _values_by_node(module: Module, inputs: Mapping[str, Array]) -> dict[str, list[tuple[Array, Type]]]:
    known: dict[str, list[tuple[Array, Type]]] = {}

    def observe(op: Operation, results: tuple[Any, ...]) -> None:
        for node in op.location.nodes:
            for value, array in zip(op.results, _arrays(results), strict=False):
                known.setdefault(node, []).append((array, value.type))

    run(module, inputs, observer=observe)
    return known


def _arrays(results: tuple[Any, ...]) -> list[Array]:
    """The results, if all of them are arrays (the tile dialect has others)."""
    arrays = [cast(Array, value) for value in results if isinstance(value, np.ndarray)]
    return arrays if len(arrays) == len(results) else []


def _real(array: Array, type: Type) -> Array:
    element = type.element if isinstance(type, TensorType) else type
    return np.asarray(element.dequantize(array) if isinstance(element, _RealElement) else array)


def _difference(old: Array, old_type: Type, new: Array, new_type: Type, tolerance: float) -> str | None:
    """How `new` differs from `old` beyond the tolerance, or None."""
    if old.shape != new.shape:
        return f"has shape {list(new.shape)}, before {list(old.shape)}"
    if old_type == new_type and tolerance == 0.0:
        expected, actual = old, new
        wrong = (actual != expected) & ~((actual != actual) & (expected != expected))
    else:
        expected = _real(old, old_type).astype(np.float64)
        actual = _real(new, new_type).astype(np.float64)
        finite = np.abs(expected[np.isfinite(expected)])
        allowed = tolerance * float(finite.max(initial=0.0))
        with np.errstate(invalid="ignore"):
            close = (np.abs(actual - expected) <= allowed) | (actual == expected)
        wrong = ~(close | (np.isnan(actual) & np.isnan(expected)))
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    element = f"element {list(index)}" if index else "the only element"
    share = f"; {count} of {wrong.size} elements differ"
    return f"differs at {element}: {actual[index]:.9g}, before {expected[index]:.9g}{share}"

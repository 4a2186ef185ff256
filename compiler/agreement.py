"""`--compare-onnxruntime`: how far a program is from onnxruntime on the same quantized model, in steps of its integers.

Twice: with onnxruntime's optimisations disabled, where it computes every float operator between DequantizeLinear and
QuantizeLinear as the standard says, and with its defaults, where it fuses them into integer kernels of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from ..backends.program import Program
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Constant, Module, Operation, Terminator, Value
from ..dialects.core.types import Array
from ..dialects.quant.types import QuantizedType
from ..passes.fold_qdq import FoldQdq
from ..passes.framework.base import Pass
from ..passes.framework.environment import Environment, Progress, silent_progress
from ..passes.framework.pass_manager import Instrumentation
from ..passes.quantization.accuracy import top1
from .driver import MACHINE_PASSES
from .importer import import_model

TRACED_RUNS = 4
"""Runs that are compared tensor by tensor; all samples are compared at the outputs."""

ONLY_INTEGERS = ("QuantizeLinear", "QLinear", "QGemm")
"""How the names of operators begin whose result is a tensor of integers."""

UNSIGNED_SHIFT = 128
"""What onnxruntime's uint8 is more than the int8 here."""


@dataclass
class KeepIntegers(Instrumentation):
    """Keeps a copy of the module as the passes for the machine find it: what `export_model` takes."""

    module: Module | None = None

    def before_pass(self, index: int, running: Pass, module: Module) -> None:
        if self.module is None and running.name in MACHINE_PASSES:
            self.module = module.clone()


def is_quantized(model: onnx.ModelProto) -> bool:
    """True if the model prescribes integers."""
    return any(_makes_integers(node) for node in model.graph.node)


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model of a file, with its external data."""
    try:
        return cast(Any, onnx).load(str(path))
    except (OSError, DecodeError) as error:
        raise CompileError(f"{path}: cannot be read: {error}") from None


def agreement(
    program: Program,
    model: onnx.ModelProto,
    samples: Mapping[str, Array],
    outputs: Mapping[str, Array],
    *,
    progress: Progress = silent_progress,
) -> dict[str, Any]:
    """Compare `outputs`, which the program computes from checked `samples`, with onnxruntime on the quantized `model`.

    The result is the report's key `onnxruntime`: `version`, `samples`; `disabled` and `enabled` (optimisations), each
    with the share of `equal` output elements, the histogram of differences in `steps` of the outputs, the `largest`
    difference and label `flips`; `tensors`, how many 8-bit tensors were compared on a few samples, the
    `first_difference` among them, and `alone`, the share of elements that differ although their operands were equal,
    with the `worst` tensor. Raises CompileError if onnxruntime is not installed or does not run the model.
    """
    runtime = _runtime()
    result: dict[str, Any] = {"version": str(runtime.__version__), "samples": len(next(iter(samples.values())))}
    types = {port.name: port.type for port in program.inputs}
    runs = list(_runs(samples, {name: type.shape[0] if type.rank else 1 for name, type in types.items()}))
    steps = {
        port.name: port.stored.element.scale
        for port in program.outputs
        if isinstance(port.stored.element, QuantizedType)
    }
    for word, optimize in (("disabled", False), ("enabled", True)):
        session = _session(runtime, model, optimize=optimize)
        with progress(f"onnxruntime, optimisations {word}", len(runs)) as advance:
            parts: list[Mapping[str, Array]] = []
            for run in runs:
                parts.append(_outputs(session, run))
                advance(1)
        expected = {name: np.concatenate([part[name] for part in parts]) for name in outputs}
        result[word] = _differences(outputs, expected, steps)
    return result | trace(runtime, model, runs[:TRACED_RUNS])


def _runtime() -> Any:
    try:
        return import_module("onnxruntime")
    except ImportError:
        raise CompileError(
            "--compare-onnxruntime needs onnxruntime, which is not installed; pip install 'accelc[onnxruntime]'"
        ) from None


def _session(runtime: Any, model: onnx.ModelProto, *, optimize: bool) -> Any:
    options: Any = runtime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except _errors(runtime) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CompileError(f"onnxruntime does not run the quantized model: {reason}") from None


def _errors(runtime: Any) -> tuple[type[Exception], ...]:
    """The exceptions of onnxruntime, which have no common class."""
    state: Any = runtime.capi.onnxruntime_pybind11_state
    members: list[Any] = [getattr(state, name) for name in dir(state)]
    return tuple(member for member in members if isinstance(member, type) and issubclass(member, Exception))


def _outputs(session: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names: list[str] = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _runs(samples: Mapping[str, Array], rows: Mapping[str, int]) -> Iterator[dict[str, Array]]:
    """The samples as the model takes them at a time; the last one fills the last run up."""
    count = min(-(-len(samples[name]) // size) for name, size in rows.items())
    for index in range(count):
        taken = {name: samples[name][index * size : (index + 1) * size] for name, size in rows.items()}
        yield {
            name: np.concatenate([part, np.repeat(part[-1:], rows[name] - len(part), axis=0)])
            for name, part in taken.items()
        }


def _differences(
    outputs: Mapping[str, Array], expected: Mapping[str, Array], steps: Mapping[str, float]
) -> dict[str, Any]:
    histogram: Counter[int] = Counter()
    for name, step in steps.items():
        count = min(len(outputs[name]), len(expected[name]))
        found = np.rint((outputs[name][:count].astype(np.float64) - expected[name][:count]) / step)
        values, counts = np.unique(found.astype(np.int64), return_counts=True)
        histogram.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    first = next(iter(outputs))
    count = min(len(outputs[first]), len(expected[first]))
    total = histogram.total()
    return {
        "equal": histogram[0] / total if total else 1.0,
        "steps": {str(step): histogram[step] for step in sorted(histogram)},
        "largest": max((abs(step) for step in histogram), default=0),
        "flips": int((top1(outputs[first][:count]) != top1(expected[first][:count])).sum()),
    }


@dataclass
class _Tensor:
    """One 8-bit tensor over the traced runs: how many elements differ in a chain, and with equal operands."""

    name: str
    node: str
    size: int = 0
    chained: Counter[int] = field(default_factory=Counter[int])
    alone: Counter[int] = field(default_factory=Counter[int])


def trace(runtime: Any, model: onnx.ModelProto, runs: list[dict[str, Array]]) -> dict[str, Any]:
    """Compare every 8-bit tensor of the model with optimisations disabled: keys `tensors`, `first_difference`, `alone`.

    Each operation is executed twice, on what the operations here computed before it and on what onnxruntime did.
    """
    revealed = onnx.ModelProto()
    revealed.CopyFrom(model)
    known = {output.name for output in model.graph.output}
    makers = {node.output[0]: node for node in model.graph.node if _makes_integers(node)}
    revealed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in makers if name not in known)
    session = _session(runtime, revealed, optimize=False)
    module = import_model(revealed, input_shapes={name: array.shape for name, array in runs[0].items()})
    FoldQdq().run(module, Environment())
    main = module.main
    tensors: dict[Value[Any], _Tensor] = {}
    for name, value in zip(main.output_names, main.returns, strict=True):
        if name in makers and not isinstance(value, Constant):
            tensors.setdefault(value, _Tensor(name, makers[name].name or makers[name].op_type))
    for inputs in runs:
        expected = _outputs(session, inputs)
        _follow(module, inputs, {value: _signed(expected[tensor.name]) for value, tensor in tensors.items()}, tensors)
    seen = [tensors[result] for op in main.body for result in op.results if result in tensors]
    first = next((tensor for tensor in seen if tensor.chained), None)
    worst = max(seen, key=lambda tensor: tensor.alone.total() / max(tensor.size, 1), default=None)
    size = sum(tensor.size for tensor in seen)
    alone = sum(tensor.alone.total() for tensor in seen)
    return {
        "tensors": len(seen),
        "first_difference": None if first is None else _facts(first, first.chained),
        "alone": {
            "share": alone / size if size else 0.0,
            "worst": None if worst is None or not worst.alone else _facts(worst, worst.alone),
        },
    }


def _follow(
    module: Module,
    inputs: Mapping[str, Array],
    expected: Mapping[Value[Any], Array],
    tensors: Mapping[Value[Any], _Tensor],
) -> None:
    """Execute @main on its own results and, beside it, on onnxruntime's wherever those are known."""
    main = module.main
    own: dict[Value[Any], Array] = {argument: inputs[str(argument.name)] for argument in main.arguments}
    theirs = dict(own)
    for op in main.body:
        if op.has_trait(Terminator):
            continue
        own[op.result], theirs[op.result] = _executed(op, own), _executed(op, theirs)
        tensor = tensors.get(op.result)
        if tensor is None:
            continue
        given = expected[op.result]
        tensor.size += given.size
        tensor.chained.update(_steps(own[op.result], given))
        tensor.alone.update(_steps(theirs[op.result], given))
        theirs[op.result] = given


def _executed(op: Operation, values: Mapping[Value[Any], Array]) -> Array:
    with np.errstate(all="ignore"):
        return op.evaluate(*(v.array if isinstance(v, Constant) else values[v] for v in op.operands))


def _steps(found: Array, expected: Array) -> Counter[int]:
    """How often each difference but 0 occurs."""
    difference = found.astype(np.int64) - expected
    values, counts = np.unique(difference[difference != 0], return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _facts(tensor: _Tensor, differences: Counter[int]) -> dict[str, Any]:
    largest = max(abs(step) for step in differences)
    return {
        "tensor": tensor.name,
        "node": tensor.node,
        "share": differences.total() / tensor.size,
        "largest": largest,
    }


def _signed(array: Array) -> Array:
    return (array.astype(np.int16) - UNSIGNED_SHIFT).astype(np.int8) if array.dtype == np.uint8 else array


def _makes_integers(node: onnx.NodeProto) -> bool:
    return node.op_type.startswith(ONLY_INTEGERS) and (node.op_type != "QGemm" or len(node.input) > 7)

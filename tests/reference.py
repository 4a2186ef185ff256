"""The outside reference for float results: onnxruntime, or the onnx evaluator where onnxruntime is too old."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.verifier import verify

TOLERANCE = 1e-4
"""Of the largest magnitude in the reference output: float32 sums in another order."""


def random_inputs(module: Module, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded normal inputs for @main."""
    rng = np.random.default_rng(seed)
    return {str(a.name): rng.standard_normal(a.type.shape).astype(np.float32) for a in module.main.arguments}


def reference_outputs(
    model: Path | onnx.ModelProto, inputs: dict[str, np.ndarray], *, optimize: bool = True
) -> dict[str, np.ndarray]:
    """The outputs of a model by onnxruntime; by onnx.reference where onnxruntime does not know the opset."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except runtime.capi.onnxruntime_pybind11_state.Fail:
        evaluator = ReferenceEvaluator(source)
        return dict(zip(evaluator.output_names, evaluator.run(None, inputs), strict=True))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def assert_close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Same names, shapes and types; values within the tolerance."""
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        assert actual[name].shape == wanted.shape, name
        assert actual[name].dtype == wanted.dtype, name
        scale = max(1e-3, float(np.abs(wanted).max(initial=0)))
        np.testing.assert_allclose(actual[name], wanted, rtol=0, atol=TOLERANCE * scale, err_msg=name)


def assert_imports_exactly(model: Path | onnx.ModelProto, *, seed: int = 0) -> Module:
    """Import, verify, run and compare with the reference; returns the module."""
    module = import_model(model)
    verify(module)
    inputs = random_inputs(module, seed)
    assert_close(run(module, inputs), reference_outputs(model, inputs))
    return module

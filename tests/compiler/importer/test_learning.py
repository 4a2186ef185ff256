"""Operators of ai.onnx.ml against onnxruntime, and what of them is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run

FEATURES, CLASSES = 5, 3
RANDOM = np.random.default_rng(0)
COEFFICIENTS = RANDOM.normal(size=CLASSES * FEATURES).tolist()
INTERCEPTS = RANDOM.normal(size=CLASSES).tolist()
LINEAR = {"coefficients": COEFFICIENTS, "intercepts": INTERCEPTS}
CLASSIFIER = {**LINEAR, "classlabels_ints": [0, 1, 2], "multi_class": 1}


def model(op_type: str, outputs: dict[str, int], **attributes: object) -> onnx.ModelProto:
    node = helper.make_node(op_type, ["x"], list(outputs), domain="ai.onnx.ml", **attributes)
    return finished([node], outputs)


def finished(nodes: list[onnx.NodeProto], outputs: dict[str, int], constants: dict[str, np.ndarray] | None = None):
    values = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, FEATURES))
    initializers = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "learned", [x], values, initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


FLOAT, LABEL = TensorProto.FLOAT, TensorProto.INT64
SCORES = {"label": LABEL, "scores": FLOAT}
CASES = {
    "scaler": model("Scaler", {"y": FLOAT}, offset=[0.5, -1.0, 0.0, 2.0, 1.0], scale=[1.0, 2.0, 0.1, -1.0, 3.0]),
    "scaler of one number": model("Scaler", {"y": FLOAT}, offset=[0.5], scale=[2.0]),
    "regressor": model("LinearRegressor", {"y": FLOAT}, targets=CLASSES, **LINEAR),
    "regressor without intercepts": model("LinearRegressor", {"y": FLOAT}, coefficients=COEFFICIENTS[:FEATURES]),
    "classifier": model("LinearClassifier", SCORES, **CLASSIFIER),
    "classifier with softmax": model("LinearClassifier", SCORES, post_transform="SOFTMAX", **CLASSIFIER),
    "classifier with sigmoids": model("LinearClassifier", SCORES, post_transform="LOGISTIC", **CLASSIFIER),
    "sums of one": model("Normalizer", {"y": FLOAT}, norm="L1"),
    "lengths of one": model("Normalizer", {"y": FLOAT}, norm="L2"),
    "labels": finished(
        [
            helper.make_node("ArgMax", ["x"], ["index"], axis=1),
            helper.make_node("ArrayFeatureExtractor", ["classes", "index"], ["found"], domain="ai.onnx.ml"),
            helper.make_node("Reshape", ["found", "shape"], ["label"]),
        ],
        {"label": LABEL},
        {"classes": np.arange(FEATURES), "shape": np.array([-1])},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_learned_model_is_what_onnxruntime_computes(name: str) -> None:
    session = onnxruntime.InferenceSession(CASES[name].SerializeToString())
    module = import_model(CASES[name])
    for sample in np.random.default_rng(1).normal(size=(4, 1, FEATURES)).astype(np.float32):
        found, expected = run(module, {"x": sample}), session.run(None, {"x": sample})
        for output, array in zip(session.get_outputs(), expected, strict=True):
            np.testing.assert_allclose(np.reshape(found[output.name], array.shape), array, rtol=1e-5, atol=1e-6)


REFUSED = {
    "the labels are [7, 8, 9], expected 0, 1": ("LinearClassifier", {**CLASSIFIER, "classlabels_ints": [7, 8, 9]}),
    "post_transform is PROBIT, expected NONE, ": ("LinearClassifier", {**CLASSIFIER, "post_transform": "PROBIT"}),
    "post_transform is SOFTMAX, expected NONE": ("LinearRegressor", {**LINEAR, "post_transform": "SOFTMAX"}),
    "15 coefficients and 3 intercepts, expected 2 rows": ("LinearRegressor", {**LINEAR, "targets": 2}),
    "norm is MAX, expected L1 or L2": ("Normalizer", {}),
    "export without it": ("ZipMap", {"classlabels_int64s": [0, 1]}),
    "only linear models are supported": ("TreeEnsembleRegressor", {}),
    "it compares with support vectors": ("SVMRegressor", {}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_no_arithmetic_is_refused(reason: str) -> None:
    op_type, attributes = REFUSED[reason]
    outputs = SCORES if op_type == "LinearClassifier" else {"y": FLOAT}
    with pytest.raises(CompileError) as caught:
        import_model(model(op_type, outputs, **attributes))
    assert reason in str(caught.value)

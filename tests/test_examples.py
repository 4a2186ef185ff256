"""The bundled networks are small, contain what they promise and recognise the held-out digits."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MODELS = {path.stem: path for path in sorted((EXAMPLES / "models").glob("digits_*.onnx"))}
NETWORKS = ("digits_cnn", "digits_depthwise", "digits_shufflenet")


def convolutions(model: onnx.ModelProto) -> list[tuple[tuple[int, ...], int]]:
    """Weight shape (O, I / groups, H, W) and groups of every convolution, in graph order."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [
        (shapes[node.input[1]], next(attribute.i for attribute in node.attribute if attribute.name == "group"))
        for node in model.graph.node
        if node.op_type == "Conv"
    ]


def operators(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in model.graph.node)


@pytest.fixture(scope="module")
def held_out():
    with np.load(EXAMPLES / "data" / "digits.test.npz") as file:
        return {name: file[name] for name in file.files}


def test_the_three_networks_ship():
    assert tuple(MODELS) == NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_size_and_interface(name):
    path = MODELS[name]
    assert path.stat().st_size < 300_000
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, [size.dim_value for size in image.type.tensor_type.shape.dim]) == ("input", [1, 1, 8, 8])
    assert (logits.name, [size.dim_value for size in logits.type.tensor_type.shape.dim]) == ("output", [1, 10])
    counts = operators(model)
    assert counts["BatchNormalization"] == counts["Conv"]


def test_cnn_has_the_awkward_convolution():
    assert ((94, 47, 3, 3), 1) in convolutions(onnx.load(MODELS["digits_cnn"]))


def test_shufflenet_has_both_kinds_of_unit():
    model = onnx.load(MODELS["digits_shufflenet"])
    assert any(shape[2:] == (1, 1) and groups > 1 for shape, groups in convolutions(model))
    counts = operators(model)
    assert counts["Split"] >= 3
    assert counts["Transpose"] == counts["Concat"] + 1
    assert counts["Reshape"] == 2 * counts["Transpose"]


def test_depthwise_has_relu6_and_residuals():
    model = onnx.load(MODELS["digits_depthwise"])
    assert any(groups == shape[0] > 1 for shape, groups in convolutions(model))
    counts = operators(model)
    assert counts["Clip"] > 0 and counts["Add"] > 0 and counts["Relu"] == 0


def test_data(held_out):
    with np.load(EXAMPLES / "data" / "digits.calibration.npz") as file:
        calibration = file["input"]
    assert calibration.shape == (256, 1, 8, 8) and held_out["input"].shape == (360, 1, 8, 8)
    assert calibration.dtype == held_out["input"].dtype == np.float32
    assert held_out["labels"].shape == (360,) and set(held_out["labels"].tolist()) == set(range(10))
    seen = {image.tobytes() for image in calibration}
    assert not any(image.tobytes() in seen for image in held_out["input"])


@pytest.mark.parametrize("name", NETWORKS)
def test_float_accuracy(name, held_out):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(MODELS[name], providers=["CPUExecutionProvider"])
    logits = [session.run(["output"], {"input": image[None]})[0][0] for image in held_out["input"]]
    assert np.mean(np.argmax(logits, axis=1) == held_out["labels"]) >= 0.97


def test_everything_fits_in_a_megabyte():
    folders = (EXAMPLES / "models", EXAMPLES / "data")
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 1_000_000

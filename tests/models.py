"""ONNX models for tests: the shared ones, the light ones of the onnx package with random weights, and single nodes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import prod, sqrt
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import helper, numpy_helper

SHARED = Path(__file__).parents[1].parent / "shared"
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
LIGHT_NAMES = tuple(sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx")))
NEWEST = onnx.defs.onnx_opset_version()


def shared_model(name: str) -> Path:
    """The path of ../shared/models/NAME.onnx; skips the test where it is absent."""
    path = SHARED / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not available: no folder shared/models beside the repository")
    return path


def light_model(name: str) -> Path:
    """The path of a light model of the onnx package, as `resnet50`; its weights are all one constant."""
    path = LIGHT / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the installed onnx package has no {path.name}")
    return path


def randomized_light_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """A light model whose constant weights are replaced by seeded random ones, with activations of about unit size.

    Weights are normal with He's variance 2 / fan-in behind a Relu (He et al. 2015), 1 / fan-in on signed data, and
    smaller in the last matrix, so that the Softmax does not saturate.
    Normalisations stay near the identity; the ones that end a residual branch are scaled down, as sums add up.
    """
    model = onnx.load(light_model(name))
    graph = model.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers = defaultdict(list)
    for node in graph.node:
        for index, value in enumerate(node.input):
            readers[value].append((node, index))
    producers = {value: node for node in graph.node for value in node.output}
    rng = np.random.default_rng(seed)
    kept, made = [], []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(n) for n in shapes[node.input[0]])
        weight = _weight(rng, shape, node.output[0], readers, producers)
        made.append(numpy_helper.from_array(weight, node.output[0]))
    used = {value for node in kept for value in node.input}
    made += [tensor for tensor in graph.initializer if tensor.name in used]
    known = {tensor.name for tensor in made}
    inputs = [value for value in graph.input if value.name in used - known]
    for field, content in (("node", kept), ("initializer", made), ("input", inputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(content)
    model.ir_version = 8  # from version 4 on, initializers need not be inputs
    return model


def _weight(
    rng: np.random.Generator, shape: tuple[int, ...], name: str, readers: Mapping, producers: Mapping
) -> np.ndarray:
    def normal(deviation: float) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(deviation)

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, shape).astype(np.float32)

    reader, index = readers[name][0]
    while reader.op_type == "Unsqueeze":
        reader, index = readers[reader.output[0]][0]
    if reader.op_type == "Conv" and index == 1:
        return normal(sqrt(_gain(reader.input[0], producers) / prod(shape[1:])))
    if reader.op_type == "Gemm" and index == 1:
        transposed = any(a.name == "transB" and a.i for a in reader.attribute)
        ends = all(n.op_type == "Softmax" for n, _ in readers[reader.output[0]])
        return normal(sqrt((0.1 if ends else 2) / shape[1 if transposed else 0]))
    if reader.op_type == "BatchNormalization" and index == 1:
        joins = any(n.op_type in ("Sum", "Add") and len(n.input) == 2 for n, _ in readers[reader.output[0]])
        return uniform(0.2, 0.3) if joins else uniform(0.8, 1.2)
    if reader.op_type == "BatchNormalization" and index == 4:
        return uniform(0.7, 1.4)
    if reader.op_type == "Mul":
        return uniform(0.8, 1.2)
    return normal(0.1)


def _gain(value: str, producers: Mapping) -> float:
    """1 / E[x^2] for data that was of unit variance before the Relu and MaxPool nodes it went through."""
    keeping = ("Reshape", "Transpose", "Dropout", "Concat", "AveragePool", "LRN")
    node = producers.get(value)
    gain = 1.0
    while node is not None and node.op_type in (*keeping, "MaxPool", "Relu"):
        if node.op_type == "Relu":
            return 2 * gain
        gain *= 0.25 if node.op_type == "MaxPool" else 1  # the largest of nine halves of normals
        node = producers.get(node.input[0])
    return 1.0


def node_model(
    op_type: str,
    inputs: Sequence[np.ndarray | np.generic | tuple[int, ...] | None],
    *,
    opset: int = 17,
    outputs: int = 1,
    **attributes: object,
) -> onnx.ModelProto:
    """A model of one node: arrays and scalars are initializers, shapes are float32 graph inputs, None is absent."""
    names = ["" if value is None else f"x{index}" for index, value in enumerate(inputs)]
    results = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(op_type, names, results, name="node", **attributes)
    return graph_model([node], dict(zip(names, inputs, strict=True)), results, opset=opset)


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray | np.generic | tuple[int | str, ...] | None],
    outputs: Sequence[str],
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of nodes; `inputs` as in `node_model`, by name. Outputs are float32 of any shape."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
            if isinstance(shape, tuple)
        ],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(np.asarray(data), name)
            for name, data in inputs.items()
            if isinstance(data, (np.ndarray, np.generic))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

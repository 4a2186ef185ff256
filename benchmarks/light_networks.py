"""Seeded random weights for the light models of the onnx package, which come without any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod, sqrt
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
LIGHT_NAMES = tuple(sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx")))


def light_path(name: str) -> Path:
    """Where the light model `name`, as `resnet50`, is if the installed onnx package has it."""
    return LIGHT / f"light_{name}.onnx"


def with_random_weights(path: Path, seed: int = 0) -> onnx.ModelProto:
    """The light model at `path` with seeded random weights for constant ones, and activations of about unit size.

    Weights are normal with He's variance 2 / fan-in behind a Relu (He et al. 2015), 1 / fan-in on signed data, and
    smaller in the last matrix, so that the Softmax does not saturate.
    Normalisations stay near the identity; the ones that end a residual branch are scaled down, as sums add up.
    """
    model = onnx.load(path)
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

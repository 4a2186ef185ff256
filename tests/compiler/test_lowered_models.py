"""Small models whose lowering needs copies: constants joined to tensors, means whose result has fewer axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelc

ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(0)


def model(nodes: list[Any], weights: dict[str, Any], shape: list[int], result: list[int]) -> Any:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)]
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def joined_constant() -> Any:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Concat", ["a", "c"], ["b"], axis=1),
        helper.make_node("Conv", ["b", "v"], ["y"]),
    ]
    shapes = {"w": (8, 3, 1, 1), "c": (1, 5, 6, 6), "v": (4, 13, 3, 3)}
    return model(nodes, {n: RNG.normal(size=s) for n, s in shapes.items()}, [1, 3, 6, 6], [1, 4, 4, 4])


def mean(axes: list[int], batch: int, result: list[int]) -> Any:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("ReduceMean", ["a"], ["y"], axes=axes, keepdims=0),
    ]
    return model(nodes, {"w": RNG.normal(size=(7, 3, 1, 1))}, [batch, 3, 6, 6], result)


def shuffle(size: int) -> Any:
    """A channel shuffle between two convolutions, on images of `size` x `size`."""
    image = [1, 2, 5, size, size]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Reshape", ["a", "split"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["c", "join"], ["d"]),
        helper.make_node("Conv", ["d", "v"], ["y"]),
    ]
    weights = {"w": RNG.normal(size=(10, 3, 1, 1)), "v": RNG.normal(size=(4, 10, 1, 1))}
    built = model(nodes, weights, [1, 3, size, size], [1, 4, size, size])
    shapes = {"split": image, "join": [1, 10, size, size]}
    built.graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in shapes.items())
    return built


MODELS = {
    "shuffled pixel": shuffle(1),
    "shuffled image": shuffle(6),
    "joined constant": joined_constant(),
    "mean over rows": mean([2], 2, [2, 7, 6]),
    "mean over rows and pixels": mean([2, 3], 3, [3, 7]),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["tile16", "tile32"])
@pytest.mark.parametrize("level", [0, 2])
def test_result_is_that_of_the_float_model(name: str, target: str, level: int) -> None:
    graph = MODELS[name]
    shape = [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
    data = {"x": RNG.normal(size=shape).astype(np.float32)}
    (expected,) = ort.InferenceSession(graph.SerializeToString()).run(None, data)
    found = accelc.compile(graph, target=target, opt_level=level, calibration=data).run(data)["y"]
    noise = float(((expected - found) ** 2).sum() / (expected**2).sum())
    assert found.shape == expected.shape
    assert noise < 1e-3

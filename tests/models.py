"""ONNX models for tests: the shared ones, the light ones of the onnx package with random weights, and single nodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from light_networks import light_path, with_random_weights
from onnx import helper, numpy_helper

SHARED = Path(__file__).parents[1].parent / "shared"
NEWEST = onnx.defs.onnx_opset_version()


def shared_model(name: str) -> Path:
    """The path of ../shared/models/NAME.onnx; skips the test where it is absent."""
    path = SHARED / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not available: no folder shared/models beside the repository")
    return path


def light_model(name: str) -> Path:
    """The path of a light model of the onnx package, as `resnet50`; its weights are all one constant."""
    path = light_path(name)
    if not path.is_file():
        pytest.skip(f"the installed onnx package has no {path.name}")
    return path


def randomized_light_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """A light model with seeded random weights."""
    return with_random_weights(light_model(name), seed)


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

"""Small transformers as exporters write them: nothing fused, shapes computed, constants in Constant nodes or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from models import graph_model
from onnx import helper, numpy_helper


class Graph:
    """Nodes and constants of a model under construction; weights are seeded and small enough to keep the scale."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.values: dict[str, Any] = {}

    def add(self, op_type: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; arrays and numbers among the inputs become initializers. Returns its output's name, or all."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        results = [f"{op_type.lower()}{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, names, results, name=results[0], **attributes))
        return results[0] if outputs == 1 else results

    def constant(self, value: Any) -> str:
        name = f"c{len(self.values)}"
        array = np.asarray(value)
        self.values[name] = array.astype(np.float32) if array.dtype == np.float64 else array
        return name

    def weights(self, *shape: int) -> np.ndarray:
        scale = shape[0] ** -0.5 if len(shape) > 1 else 0.3
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        return self.add("Add", self.weights(outputs), self.add("MatMul", x, self.weights(inputs, outputs)))

    def layer_norm(self, x: str, channels: int) -> str:
        """As PyTorch exports it before opset 17."""
        centred = self.add("Sub", x, self.add("ReduceMean", x, axes=[-1]))
        variance = self.add("ReduceMean", self.add("Pow", centred, np.float32(2)), axes=[-1])
        deviation = self.add("Sqrt", self.add("Add", variance, np.float32(1e-5)))
        scaled = self.add("Mul", self.add("Div", centred, deviation), self.weights(channels) + 1)
        return self.add("Add", scaled, self.weights(channels))

    def gelu(self, x: str, form: str) -> str:
        """By erf as PyTorch writes it, or by tanh as TensorFlow does."""
        if form == "erf":
            inner = self.add("Erf", self.add("Div", x, np.float32(2**0.5)))
            return self.add("Mul", self.add("Mul", x, self.add("Add", inner, np.float32(1))), np.float32(0.5))
        cubic = self.add("Mul", self.add("Pow", x, np.float32(3)), np.float32(0.044715))
        inner = self.add("Tanh", self.add("Mul", self.add("Add", x, cubic), np.float32((2 / np.pi) ** 0.5)))
        return self.add("Mul", np.float32(0.5), self.add("Mul", x, self.add("Add", np.float32(1), inner)))

    def heads(self, x: str, count: int, width: int) -> str:
        split = self.add("Reshape", x, np.array([0, 0, count, width]))
        return self.add("Transpose", split, perm=[0, 2, 1, 3])

    def attention(self, x: str, channels: int, count: int, mask: np.ndarray | None = None) -> str:
        """Scores scaled on both sides by the fourth root, as scaled_dot_product_attention is exported."""
        width = channels // count
        joined = self.linear(x, channels, 3 * channels)
        parts = self.add("Split", joined, np.array([channels] * 3), outputs=3, axis=-1)
        query, key, value = (self.heads(part, count, width) for part in parts)
        half = np.float32(width**-0.25)
        turned = self.add("Mul", self.add("Transpose", key, perm=[0, 1, 3, 2]), half)
        scores = self.add("MatMul", self.add("Mul", query, half), turned)
        if mask is not None:
            scores = self.add("Add", scores, mask)
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        back = self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), np.array([0, 0, channels]))
        return self.linear(back, channels, channels)

    def class_token(self, x: str, channels: int) -> str:
        """One constant token in front of the others, expanded to a batch that is read from the data."""
        batch = self.add("Gather", self.add("Shape", x), np.array(0), axis=0)
        shape = self.add("Concat", self.add("Unsqueeze", batch, np.array([0])), np.array([-1, -1]), axis=0)
        ones = self.add("ConstantOfShape", np.array([3]), value=numpy_helper.from_array(np.array([1])))
        free = self.add("Equal", shape, self.add("Mul", ones, np.array(-1)))
        target = self.add("Where", free, ones, shape)
        return self.add("Concat", self.add("Expand", self.weights(1, 1, channels), target), x, axis=1)


def keyword_transformer(
    *, frames: int = 10, features: int = 8, channels: int = 24, heads: int = 3, blocks: int = 2, form: str = "erf"
) -> onnx.ModelProto:
    """A keyword transformer (Berg et al. 2021): a token a frame, post-norm blocks, the class read from a token."""
    graph = Graph()
    x = graph.linear(graph.add("Reshape", "x", np.array([-1, frames, features])), features, channels)
    x = graph.add("Add", graph.class_token(x, channels), graph.weights(1, frames + 1, channels))
    for _ in range(blocks):
        x = graph.layer_norm(graph.add("Add", graph.attention(x, channels, heads), x), channels)
        hidden = graph.gelu(graph.linear(x, channels, 2 * channels), form)
        x = graph.layer_norm(graph.add("Add", graph.linear(hidden, 2 * channels, channels), x), channels)
    first = graph.add("Gather", x, np.array(0), axis=1)
    y = graph.add("Gemm", first, graph.weights(5, channels), graph.weights(5), transB=1)
    return graph_model(graph.nodes, {"x": (1, 1, frames, features), **graph.values}, [y])


def causal_block(*, tokens: int = 9, channels: int = 12, heads: int = 2, masked: float = -np.inf) -> onnx.ModelProto:
    """A block of a decoder: what comes later is masked by a constant that is added to the scores."""
    graph = Graph(seed=1)
    mask = np.where(np.tri(tokens, dtype=bool), 0, masked).astype(np.float32)
    x = graph.add("Add", graph.attention(graph.layer_norm("x", channels), channels, heads, mask), "x")
    y = graph.linear(graph.layer_norm(x, channels), channels, 7)
    return graph_model(graph.nodes, {"x": (1, tokens, channels), **graph.values}, [y])


def signal_network(*, steps: int, channels: int = 16, layers: int = 3) -> onnx.ModelProto:
    """Convolutions over a signal, as in front of a network for speech."""
    graph = Graph(seed=2)
    x, inputs = "x", 1
    for _ in range(layers):
        weight = graph.weights(inputs * 9, channels).T.reshape(channels, inputs, 9)
        x = graph.add("Relu", graph.add("Conv", x, weight, graph.weights(channels), pads=[4, 4]))
        inputs = channels
    return graph_model(graph.nodes, {"x": (1, 1, steps), **graph.values}, [x])

"""MobileNetV2 1.0 224 as an ONNX model with seeded random weights, for its topology."""

from __future__ import annotations

from math import sqrt

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""(expansion, channels, repetitions, first stride); Sandler et al., MobileNetV2, CVPR 2018, table 2."""

STEM, LAST, CLASSES, SIZE = 32, 1280, 1000, 224


def mobilenet_v2(seed: int = 0) -> onnx.ModelProto:
    """The network with batch normalizations folded: 3.5 million parameters, 301 million multiply-accumulates."""
    builder = ChainBuilder(seed)
    builder.convolve("stem", 3, STEM, kernel=3, stride=2)
    channels = STEM
    for stage, (expansion, width, repetitions, first) in enumerate(STAGES):
        for index in range(repetitions):
            stride = first if index == 0 else 1
            builder.bottleneck(f"stage{stage}.{index}", channels, width, expansion, stride)
            channels = width
    builder.convolve("last", channels, LAST)
    builder.classify(LAST)
    return builder.model("mobilenet_v2")


class ChainBuilder:
    """Appends nodes with seeded random weights to a chain of images of 224x224; `value` is its end."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.value = "input"
        limits = (("low", 0.0), ("high", 6.0))
        self.limits = [self._keep(numpy_helper.from_array(np.float32(limit), name)) for name, limit in limits]

    def _keep(self, tensor: onnx.TensorProto) -> str:
        self.constants.append(tensor)
        return tensor.name

    def constant(self, name: str, shape: tuple[int, ...], fan_in: int) -> str:
        weight = self.random.standard_normal(shape, np.float32) * np.float32(sqrt(2 / fan_in))
        return self._keep(numpy_helper.from_array(weight, name))

    def zeros(self, name: str, size: int) -> str:
        return self._keep(numpy_helper.from_array(np.zeros(size, np.float32), name))

    def add(self, kind: str, name: str, *others: str, **attributes: object) -> None:
        self.nodes.append(helper.make_node(kind, [self.value, *others], [f"{name}.out"], name=name, **attributes))
        self.value = f"{name}.out"

    def convolve(
        self,
        name: str,
        before: int,
        after: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        clip: bool = True,
    ) -> None:
        inputs = before // groups
        weight = self.constant(f"{name}.weight", (after, inputs, kernel, kernel), inputs * kernel * kernel)
        bias, pad = self.zeros(f"{name}.bias", after), kernel // 2
        self.add(
            "Conv", name, weight, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups
        )
        if clip:
            self.add("Clip", f"{name}.relu6", *self.limits)

    def bottleneck(self, name: str, before: int, after: int, expansion: int, stride: int) -> None:
        start, wide = self.value, before * expansion
        if expansion > 1:
            self.convolve(f"{name}.expand", before, wide)
        self.convolve(f"{name}.depthwise", wide, wide, kernel=3, stride=stride, groups=wide)
        self.convolve(f"{name}.project", wide, after, clip=False)
        if stride == 1 and before == after:
            self.add("Add", f"{name}.add", start)

    def residual(self, name: str, before: int, inner: int, after: int, stride: int) -> None:
        """A bottleneck of three layers beside a shortcut, which is a layer of its own where shapes differ."""
        start = self.value
        self.convolve(f"{name}.reduce", before, inner)
        self.convolve(f"{name}.spatial", inner, inner, kernel=3, stride=stride)
        self.convolve(f"{name}.expand", inner, after, clip=False)
        end, self.value = self.value, start
        if stride > 1 or before != after:
            self.convolve(f"{name}.shortcut", before, after, stride=stride, clip=False)
        self.add("Add", f"{name}.add", end)
        self.add("Relu", f"{name}.relu")

    def classify(self, channels: int) -> None:
        """The mean of every channel, and one product of them for each class."""
        self.add("GlobalAveragePool", "pool")
        self.add("Flatten", "flatten", axis=1)
        weight = self.constant("fc.weight", (CLASSES, channels), channels)
        self.add("Gemm", "fc", weight, self.zeros("fc.bias", CLASSES), transB=1)

    def model(self, name: str) -> onnx.ModelProto:
        """The whole as a model from `input` to the end of the chain."""
        shapes = {"input": [1, 3, SIZE, SIZE], self.value: [1, CLASSES]}
        (data, result) = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items())
        graph = helper.make_graph(self.nodes, name, [data], [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

"""Small networks of families that no file here holds: random weights, but statistics as training leaves them.

Convolutions are He-normal, and every batch normalization holds the mean and variance that its input really has, so
that signals neither die nor explode. Its scales are spread over two decades in front of what commutes with them (the
next weights make up for that, as in networks that were trained with a decaying learning rate), and lognormal elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from keyword_transformer import keyword_transformer, spectrograms
from onnx import TensorProto, helper, numpy_helper

SIZE, CLASSES = 64, 100
BRANCH = 0.3
"""What a branch adds is smaller than what it is added to, as in networks that were trained."""

FITTED = 16
"""Images that batch normalizations are fitted to."""


def images(count: int, seed: int) -> np.ndarray:
    """Float32 [count, 3, SIZE, SIZE] of about unit variance, with the spectrum of photographs."""
    random = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    frequencies[0, 0] = 1.0 / SIZE
    spectrum = np.fft.rfft2(random.standard_normal((count, 3, SIZE, SIZE))) / frequencies
    found = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
    mixed = found + found.mean(axis=1, keepdims=True)  # colours go together
    contrast = random.lognormal(0.0, 0.5, (count, 1, 1, 1))
    return (mixed / mixed.std() * contrast).astype(np.float32)


def mobilenet_v2(seed: int = 0) -> onnx.ModelProto:
    """Inverted bottlenecks with ReLU6 and linear ends (Sandler et al. 2018), at a quarter of the width."""
    net = _Builder(seed)
    net.convolve(8, kernel=3, stride=2, activation="relu6")
    for expansion, width, stride in ((1, 8, 1), (6, 12, 2), (6, 12, 1), (6, 16, 2), (6, 16, 1), (6, 24, 1), (6, 40, 2)):
        net.bottleneck(expansion * net.channels, width, stride=stride, activation="relu6")
    net.convolve(160, activation="relu6")
    return net.classifier()


def mobilenet_v3(seed: int = 0) -> onnx.ModelProto:
    """Inverted bottlenecks with hard-swish and squeeze-and-excite by hard-sigmoid (Howard et al. 2019)."""
    net = _Builder(seed)
    net.convolve(16, kernel=3, stride=2, activation="hard_swish")
    for hidden, width, kernel, stride, squeeze, activation in (
        (16, 16, 3, 2, True, "relu"),
        (72, 24, 3, 2, False, "relu"),
        (88, 24, 3, 1, False, "relu"),
        (96, 40, 5, 2, True, "hard_swish"),
        (120, 40, 5, 1, True, "hard_swish"),
        (144, 48, 5, 1, True, "hard_swish"),
    ):
        gate = "hard_sigmoid" if squeeze else ""
        net.bottleneck(hidden, width, kernel=kernel, stride=stride, activation=activation, gate=gate)
    net.convolve(144, activation="hard_swish")
    return net.classifier()


def efficientnet(seed: int = 0) -> onnx.ModelProto:
    """Inverted bottlenecks with SiLU and squeeze-and-excite by sigmoid (Tan and Le 2019)."""
    net = _Builder(seed)
    net.convolve(16, kernel=3, stride=2, activation="silu")
    for expansion, width, kernel, stride in (
        (1, 8, 3, 1),
        (6, 12, 3, 2),
        (6, 12, 3, 1),
        (6, 20, 5, 2),
        (6, 20, 5, 1),
        (6, 40, 3, 2),
    ):
        net.bottleneck(expansion * net.channels, width, kernel=kernel, stride=stride, activation="silu", gate="sigmoid")
    net.convolve(160, activation="silu")
    return net.classifier()


def squeezenet(seed: int = 0) -> onnx.ModelProto:
    """Fire modules, joined by concatenation, and a mean of convolved classes (Iandola et al. 2016), without biases."""
    net = _Builder(seed)
    net.convolve(32, kernel=3, stride=2, activation="relu")
    for squeeze, width, pooled in ((8, 32, True), (8, 32, False), (16, 64, True), (16, 64, False)):
        if pooled:
            net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2])
        net.convolve(squeeze, activation="relu")
        start, channels, undo = net.value, net.channels, net.undo
        net.convolve(width, activation="relu")
        one, first = net.value, net.undo
        net.value, net.channels, net.undo = start, channels, undo
        net.convolve(width, kernel=3, activation="relu")
        net.add("Concat", one, axis=1)
        net.channels, net.undo = 2 * width, np.concatenate([net.undo, first])
    net.convolve(CLASSES)
    net.add("Relu")
    net.add("GlobalAveragePool")
    net.add("Flatten", axis=1)
    return net.model()


TOPOLOGIES: dict[str, Callable[[], onnx.ModelProto]] = {
    "like_mobilenet_v2": mobilenet_v2,
    "like_mobilenet_v3": mobilenet_v3,
    "like_efficientnet": efficientnet,
    "like_squeezenet": squeezenet,
    "like_keyword_transformer": keyword_transformer,
}


def inputs_for(name: str, count: int, seed: int) -> np.ndarray:
    """Inputs of one of `TOPOLOGIES`, float32 [count, ...]."""
    return (spectrograms if name == "like_keyword_transformer" else images)(count, seed)


def write(name: str, folder: Path) -> Path:
    """The file of one of `TOPOLOGIES`."""
    path = folder / f"{name}.onnx"
    onnx.save(TOPOLOGIES[name](), path)
    return path


class _Builder:
    """Appends nodes to a chain that ends in `value` with `channels`; fits normalizations as they come."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.value, self.channels, self.undo = "input", 3, np.ones(3)
        self.images = images(FITTED, seed + 1)

    def constant(self, array: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def add(self, kind: str, *others: str, start: str = "", **attributes: object) -> str:
        result = f"{kind}_{len(self.nodes)}"
        inputs = [start or self.value, *others]
        self.nodes.append(helper.make_node(kind, inputs, [result], name=result, **attributes))
        if not start:
            self.value = result
        return result

    def convolve(
        self,
        width: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        activation: str = "",
        level: float = 1.0,
    ) -> None:
        """Convolution, fitted normalization to about `level`, activation."""
        inputs = 1 if depthwise else self.channels
        weight = self.random.standard_normal((width, inputs, kernel, kernel)) * np.sqrt(2 / (inputs * kernel**2))
        weight *= self.undo[:, None, None, None] if depthwise else self.undo[None, :, None, None]
        pads, groups = [kernel // 2] * 4, self.channels if depthwise else 1
        self.add(
            "Conv", self.constant(weight), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups
        )
        self.channels = width
        # A ReLU commutes with factors; what follows it takes them back.
        wide = activation == "relu"
        scale = 10.0 ** self.random.uniform(-1, 1, width) if wide else self.random.lognormal(0.0, 0.4, width)
        self.undo = 1.0 / scale if wide else np.ones(width)
        scale = scale * level
        self._normalize(scale, self.random.normal(0.0, 0.5, width) * scale)
        if activation:
            self._activate(activation)

    def _normalize(self, scale: np.ndarray, offset: np.ndarray) -> None:
        found = self._run(self.value)
        mean, variance = found.mean(axis=(0, 2, 3)), found.var(axis=(0, 2, 3)) + 1e-12
        self.add("BatchNormalization", *(self.constant(each) for each in (scale, offset, mean, variance)), epsilon=1e-9)

    def _activate(self, name: str) -> None:
        match name:
            case "relu":
                self.add("Relu")
            case "relu6":
                self.add("Clip", self.constant(np.array(0.0)), self.constant(np.array(6.0)))
            case "hard_swish":
                self.add("HardSwish")
            case "silu":
                self.add("Mul", self.add("Sigmoid", start=self.value))
            case _:
                raise ValueError(name)

    def bottleneck(
        self, hidden: int, width: int, *, kernel: int = 3, stride: int = 1, activation: str, gate: str = ""
    ) -> None:
        """Expansion, depthwise convolution, squeeze-and-excite, linear projection, and the shortcut where it fits."""
        start, before = self.value, self.channels
        if hidden != before:
            self.convolve(hidden, activation=activation)
        self.convolve(hidden, kernel=kernel, stride=stride, depthwise=True, activation=activation)
        if gate:
            self._excite(gate, max(8, hidden // 4))
        joins = stride == 1 and width == before
        self.convolve(width, level=BRANCH if joins else 1.0)
        if joins:
            self.add("Add", start)

    def _excite(self, gate: str, squeezed: int) -> None:
        pooled = self.add("GlobalAveragePool", start=self.value)
        first = self.random.standard_normal((squeezed, self.channels, 1, 1)) * np.sqrt(2 / self.channels)
        first *= self.undo[None, :, None, None]
        inner = self.add("Conv", self.constant(first), self.constant(np.zeros(squeezed)), start=pooled)
        second = self.random.standard_normal((self.channels, squeezed, 1, 1)) * np.sqrt(2 / squeezed)
        bias = self.constant(np.ones(self.channels))
        outer = self.add("Conv", self.constant(second), bias, start=self.add("Relu", start=inner))
        kind, options = ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}) if gate == "hard_sigmoid" else ("Sigmoid", {})
        self.add("Mul", self.add(kind, start=outer, **options))

    def classifier(self) -> onnx.ModelProto:
        """The network with mean and a last product, whose logits have a deviation of about 3."""
        self.add("GlobalAveragePool")
        self.add("Flatten", axis=1)
        weight = self.random.standard_normal((CLASSES, self.channels)) * np.sqrt(1 / self.channels) * self.undo
        deviation = (self._run(self.value) @ weight.T).std(axis=0).mean()
        self.add("Gemm", self.constant(weight * (3.0 / deviation)), self.constant(np.zeros(CLASSES)), transB=1)
        return self.model()

    def _run(self, name: str) -> np.ndarray:
        session = onnxruntime.InferenceSession(self.model(name, FITTED).SerializeToString())
        return np.asarray(session.run(None, {"input": self.images})[0], np.float64)

    def model(self, output: str = "", batch: int = 1) -> onnx.ModelProto:
        """The network up to `output`, its end by default."""
        data = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])
        shape = None if output else [batch, CLASSES]
        result = helper.make_tensor_value_info(output or self.value, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "topology", [data], [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

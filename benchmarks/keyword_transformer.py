"""A keyword transformer with random weights, as PyTorch exports it, and spectrograms that look like spoken words.

One token a frame of a log-mel spectrogram, a class token, layers that normalise behind each sum (Berg et al. 2021).
LayerNormalization and GELU are spelled out in elementary operators, as up to opset 16 or 19; the gains of the
normalisations are lognormal, so that some channels are much larger than others.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FRAMES, BANDS = 98, 40
WIDTH, HIDDEN, LAYERS, CLASSES = 64, 256, 3, 12
FLOOR = -6.0
"""The logarithm of the energy below which a band counts as silent."""

LOGITS = 2.0
"""Factor of the last product: logits then have a deviation of about 3."""


def spectrograms(count: int, seed: int) -> np.ndarray:
    """Float32 [count, 1, FRAMES, BANDS]: a word each, louder and softer, above a floor; smooth along both axes."""
    random = np.random.default_rng(seed)
    rough = np.hypot(4.0 * np.fft.fftfreq(FRAMES)[:, None], 2.0 * np.fft.rfftfreq(BANDS)[None]) + 0.05
    smooth = np.fft.irfft2(np.fft.rfft2(random.standard_normal((count, FRAMES, BANDS))) / rough, s=(FRAMES, BANDS))
    middle, length = random.uniform(25, 75, (count, 1)), random.uniform(8, 25, (count, 1))
    word = np.exp(-0.5 * np.square((np.arange(FRAMES) - middle) / length))[:, :, None]
    level = random.normal(0.0, 2.0, (count, 1, 1)) - np.linspace(0.0, 3.0, BANDS)
    energy = 1.5 * smooth / smooth.std() + 6.0 * word + level
    return np.maximum(energy, FLOOR)[:, None].astype(np.float32)


def keyword_transformer(seed: int = 0) -> onnx.ModelProto:
    """The model: input [1, 1, FRAMES, BANDS], output [1, CLASSES]."""
    return _Builder(seed).model()


class _Builder:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: object, dtype: type = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        result = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], name=result, **attributes))
        return result

    def linear(self, data: str, inputs: int, outputs: int, factor: float = 1.0) -> str:
        weight = self.random.standard_normal((inputs, outputs)) * factor / np.sqrt(inputs)
        bias = self.random.normal(0.0, 0.2, outputs)
        return self.add("Add", self.constant(bias), self.add("MatMul", data, self.constant(weight)))

    def normalize(self, data: str) -> str:
        centred = self.add("Sub", data, self.add("ReduceMean", data, axes=[-1]))
        power = self.add("ReduceMean", self.add("Pow", centred, self.constant(2.0)), axes=[-1])
        deviation = self.add("Sqrt", self.add("Add", power, self.constant(1e-5)))
        gain, offset = self.random.lognormal(0.0, 0.5, WIDTH), self.random.normal(0.0, 0.2, WIDTH)
        scaled = self.add("Mul", self.add("Div", centred, deviation), self.constant(gain))
        return self.add("Add", scaled, self.constant(offset))

    def gelu(self, data: str) -> str:
        error = self.add("Erf", self.add("Div", data, self.constant(np.sqrt(2.0))))
        product = self.add("Mul", data, self.add("Add", error, self.constant(1.0)))
        return self.add("Mul", product, self.constant(0.5))

    def attention(self, data: str) -> str:
        query, key, value = (self.linear(data, WIDTH, WIDTH) for _ in range(3))
        scores = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 2, 1]))
        shares = self.add("Softmax", self.add("Div", scores, self.constant(np.sqrt(WIDTH))), axis=-1)
        return self.linear(self.add("MatMul", shares, value), WIDTH, WIDTH)

    def model(self) -> onnx.ModelProto:
        frames = self.add("Reshape", "input", self.constant([1, FRAMES, BANDS], np.int64))
        tokens = self.linear(self.normalize_input(frames), BANDS, WIDTH)
        first = self.constant(self.random.standard_normal((1, 1, WIDTH)))
        value = self.add("Concat", first, tokens, axis=1)
        value = self.add("Add", value, self.constant(self.random.normal(0.0, 0.5, (1, FRAMES + 1, WIDTH))))
        for _ in range(LAYERS):
            value = self.normalize(self.add("Add", value, self.attention(value)))
            inner = self.linear(self.gelu(self.linear(value, WIDTH, HIDDEN)), HIDDEN, WIDTH)
            value = self.normalize(self.add("Add", value, inner))
        chosen = self.add("Gather", value, self.constant(0, np.int64), axis=1)
        output = self.linear(chosen, WIDTH, CLASSES, LOGITS)
        data = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, FRAMES, BANDS])
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, CLASSES])
        graph = helper.make_graph(self.nodes, "keyword_transformer", [data], [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)

    def normalize_input(self, frames: str) -> str:
        """What a front end does: about mean 0 and deviation 1."""
        return self.add("Mul", self.add("Sub", frames, self.constant(-1.0)), self.constant(0.3))

"""onnxruntime's `quantize_static` in its variants, and what float and quantized models answer to many samples."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from runtime import Samples

METHODS = {
    "min-max": (CalibrationMethod.MinMax, {}),
    "moving average": (CalibrationMethod.MinMax, {"CalibMovingAverage": True}),
    "percentile 99.99": (CalibrationMethod.Percentile, {"CalibPercentile": 99.99}),
    "percentile 99.999": (CalibrationMethod.Percentile, {"CalibPercentile": 99.999}),
    "entropy": (CalibrationMethod.Entropy, {}),
}
"""Calibration methods of onnxruntime by the name that the table shows."""


def prepared(model: Path, folder: Path) -> Path:
    """The model as onnxruntime's documentation asks for it: shapes inferred, batch normalizations folded."""
    path = folder / f"{model.stem}.prepared.onnx"
    with _silence():
        quant_pre_process(model, path, skip_symbolic_shape=True)
    return path


def quantized(model: Path, folder: Path, samples: np.ndarray, *, per_channel: bool, method: str) -> Path:
    """The prepared model in int8 as QDQ, weights and activations S8S8 (onnxruntime's default), ranges from `samples`.

    Evaluated with optimizations disabled S8S8 and U8S8 have the same meaning, and no instruction saturates.
    """
    path = folder / f"{model.stem}.{method.replace(' ', '-')}.{'channel' if per_channel else 'tensor'}.onnx"
    (name,) = (value.name for value in onnx.load(model).graph.input)
    calibrate_method, extra = METHODS[method]
    with _silence():
        quantize_static(
            model,
            path,
            Samples(name, samples),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=calibrate_method,
            extra_options=dict(extra),
        )
    return path


def answers(model: Path, samples: np.ndarray, *, optimized: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(outputs, logits) of a model for `samples` [N, ...], float64 [N, classes] each; without graph optimizations.

    The logits are what a softmax in front of the output reads, else the outputs.
    """
    loaded = onnx.load(model)
    (output,) = loaded.graph.output
    logits = _logits(loaded.graph, output.name)
    wanted = [output.name]
    if logits != output.name:
        loaded.graph.output.append(onnx.helper.make_empty_tensor_value_info(logits))
        wanted.append(logits)
    (argument,) = (value.name for value in loaded.graph.input)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(loaded.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = [session.run(wanted, {argument: sample}) for sample in samples[:, None]]
    found, real = (np.concatenate([row[i].reshape(1, -1) for row in rows]).astype(np.float64) for i in (0, -1))
    return found, real


def _logits(graph: onnx.GraphProto, output: str) -> str:
    producers = {name: node for node in graph.node for name in node.output}
    name = output
    while name in producers and producers[name].op_type in ("DequantizeLinear", "QuantizeLinear", "Reshape"):
        name = producers[name].input[0]
    node = producers.get(name)
    return node.input[0] if node is not None and node.op_type == "Softmax" else output


@contextmanager
def _silence() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)

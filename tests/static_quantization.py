"""Models quantized by onnxruntime's quantize_static, as its users make them."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from accelc.dialects.core.types import Array

STYLES: dict[str, dict[str, Any]] = {
    "qdq": {"quant_format": "QDQ", "per_channel": True},
    "qdq-uint8": {"quant_format": "QDQ", "activation_type": "QUInt8", "weight_type": "QInt8"},
    "qdq-uint8-weights": {"quant_format": "QDQ", "activation_type": "QUInt8", "weight_type": "QUInt8"},
    "qoperator": {"quant_format": "QOperator", "activation_type": "QUInt8", "weight_type": "QInt8"},
    "qdq-int16": {
        "quant_format": "QDQ",
        "activation_type": "QInt16",
        "weight_type": "QInt8",
        "per_channel": True,
        "extra_options": {"UseQDQContribOps": True, "ActivationSymmetric": True},
    },
    "qoperator-channels": {"quant_format": "QOperator", "per_channel": True},
}
"""Ways to quantize, as arguments of quantize_static."""


def statically_quantized(path: Path, samples: Array, style: str) -> onnx.ModelProto:
    """The model of `path` (one input) quantized in one of `STYLES`, with ranges from `samples`."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    enumerations = {
        "quant_format": quantization.QuantFormat,
        "activation_type": quantization.QuantType,
        "weight_type": quantization.QuantType,
    }
    options = {
        name: enumerations[name][value] if name in enumerations else value for name, value in STYLES[style].items()
    }
    stored = {tensor.name for tensor in onnx.load(path).graph.initializer}
    (name,) = (value.name for value in onnx.load(path).graph.input if value.name not in stored)
    rows = iter([{name: row[None]} for row in samples])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, Array] | None:
            return next(rows, None)

    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = Path(folder) / "quantized.onnx"
            quantization.quantize_static(str(path), str(target), Reader(), **options)
            return onnx.load(target)
    finally:
        logging.disable(logging.NOTSET)


def quantized_tensors(model: onnx.ModelProto) -> list[str]:
    """The names of the 8-bit tensors that a model computes, in order."""
    conversions = ("QuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearConcat")
    return [node.output[0] for node in model.graph.node if node.op_type in conversions]


def calibration_of(path: Path, count: int = 8) -> Array:
    """The first samples of an .npz file with one array of samples."""
    with np.load(path) as arrays:
        (name,) = (each for each in arrays.files if each != "labels")
        return arrays[name][:count]

"""onnxruntime beside accelc: sessions of one thread, float32 and int8, for one sample and for a batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

OLDEST_OPSET = 13
"""Scales per channel need it."""

TOLERANCE = 1e-3
"""Of the largest output: what a batch may differ from its samples one by one, in float."""


INT8_SUFFIX = "{}.int8.onnx"
"""The name of the file that `quantized` writes, after the model's."""


class Samples(CalibrationDataReader):
    """Calibration samples [N, ...] for the input `name`, one at a time."""

    def __init__(self, name: str, samples: np.ndarray) -> None:
        self._rest: Iterator[np.ndarray] = iter(samples[:, None])
        self._name = name

    def get_next(self) -> dict[str, np.ndarray] | None:
        sample = next(self._rest, None)
        return None if sample is None else {self._name: sample}


def session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """A session that computes in the calling thread only, with all graph optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def quantized(model: Path, folder: Path, samples: np.ndarray) -> Path:
    """The model in int8: `quantize_static`, QDQ, weights per channel, ranges from `samples` [N, ...] (min-max).

    It is prepared as onnxruntime's documentation asks: shapes inferred, batch normalizations folded. Activations are
    uint8, its faster choice on x86: ResNet-50 took 54 ms with uint8 and 77 ms with int8 on an AVX2 core.
    """
    loaded = onnx.load(model)
    (name,) = (value.name for value in loaded.graph.input)
    if max(entry.version for entry in loaded.opset_import if entry.domain == "") < OLDEST_OPSET:
        loaded = version_converter.convert_version(loaded, OLDEST_OPSET)
    converted, prepared = (folder / f"{model.stem}.{step}.onnx" for step in ("opset", "prepared"))
    result = folder / INT8_SUFFIX.format(model.stem)
    onnx.save(loaded, converted)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(converted, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            result,
            Samples(name, samples),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(before)
    return result


def for_any_batch(model: Path, samples: np.ndarray) -> bytes | None:
    """The model with a symbolic first axis, or None if its outputs for `samples` [N, ...] are then no longer right.

    A constant shape of a Reshape that starts with 1 takes the first axis of its data instead.
    """
    loaded = onnx.load(model)
    graph = loaded.graph
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        if tensor.name in shapes:
            shape = numpy_helper.to_array(tensor).copy()
            if shape.size > 1 and shape[0] == 1:
                shape[0] = 0
                tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    data = loaded.SerializeToString()
    name = graph.input[0].name
    try:
        wide, narrow = session(data), session(model)
        found = wide.run(None, {name: samples})[0]
    except Exception:  # noqa: BLE001 (onnxruntime raises many kinds; each means that this model takes no batch)
        return None
    expected = np.concatenate([narrow.run(None, {name: sample})[0] for sample in samples[:, None]])
    same = found.shape == expected.shape and np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    return data if same else None

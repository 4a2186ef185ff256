"""Runs a quantized module by the oracle's own arithmetic: the IR says what to compute, the code under test not how."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from accelc.dialects.core.operation import Constant, Module, Operation, Value
from accelc.dialects.core.types import BF16

from .floats import FLOAT_MEANINGS, patterns
from .operations import MEANINGS

MOVING = {"nn.concat", "nn.slice", "nn.pad", "nn.gather", "nn.reshape", "nn.transpose", "nn.permute_channels"}
"""What may also happen to floats, before the quantization and after the dequantization."""

Observer = Callable[[Operation, np.ndarray], None]


def execute(
    module: Module, inputs: Mapping[str, np.ndarray], *, observer: Observer | None = None
) -> dict[str, np.ndarray]:
    """The outputs of @main by name; `observer(op, result)` sees every result, stored in its element type.

    ValueError for an operation that computes in floats: there is no bit-exact meaning to compare with.
    """
    function = module.main
    values: dict[Value[Any], np.ndarray] = {argument: inputs[str(argument.name)] for argument in function.arguments}
    for op in function.body:
        if op.name == "return":
            break
        if op.name == "nn.host":
            values.update(zip(op.results, on_host(op, [values[value] for value in op.operands]), strict=True))
            continue
        operands = [_read(value, values) for value in op.operands]
        kind = op.result.type
        result = cast(*operands, kind.element.dtype) if op.name == "nn.cast" else _compute(op, operands)
        assert result.shape == kind.shape, f"{op.name}: {result.shape} is not {kind}"
        values[op.result] = stored(result) if kind.element == BF16 else result.astype(kind.element.dtype)
        if kind.element.dtype.kind == "i":
            assert np.array_equal(values[op.result], result), f"{op.name}: a result leaves {kind.element}"
        if observer is not None:
            observer(op, values[op.result])
    returned = [_read(value, values) for value in function.returns]
    return dict(zip(function.output_names, returned, strict=True))


def cast(array: np.ndarray, to: np.dtype) -> np.ndarray:
    """What the host makes of inputs and outputs: to integers the nearest in range, NaN as 0; to truth from 1/2 on."""
    if to.kind == "f":
        return array.astype(to)
    if to.kind == "b":
        return np.abs(array) >= 0.5
    known = np.where(np.isnan(array), 0, array).astype(np.float64)
    limits = np.iinfo(to)
    return np.array([min(max(round(x), limits.min), limits.max) for x in known.reshape(-1)], to).reshape(array.shape)


def _plain(array: np.ndarray) -> np.ndarray:
    """bfloat16 as float32, integers as int64."""
    if array.dtype == BF16.dtype:
        return array.astype(np.float32)
    return array.astype(np.int64) if array.dtype.kind == "i" else array


def on_host(call: Operation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What a call of the host returns: its function as one ONNX graph, by the reference evaluator of the standard."""
    function = call.module.functions[call.attributes["callee"]]
    names: dict[Value[Any], str] = {value: f"v{index}" for index, value in enumerate(function.arguments)}
    nodes, stored, opset = [], [], 17
    for op in function.body:
        if op.name == "return":
            break
        for value in op.operands:
            if value not in names:
                names[value] = f"v{len(names)}"
                stored.append(numpy_helper.from_array(np.asarray(value.array), names[value]))
        names.update({value: f"v{len(names) + index}" for index, value in enumerate(op.results)})
        inputs, outputs = ([names[value] for value in values] for values in (op.operands, op.results))
        assert op.name == "nn.onnx", f"{op.name} on the host has no meaning here"
        for position in op.attributes.get("absent_inputs", ()):
            inputs.insert(position, "")
        opset = op.attributes["opset"]
        nodes.append(helper.make_node(op.attributes["operator"], inputs, outputs, **json.loads(op.parameters)))
    wanted = [names[value] for value in function.returns]
    ends = [[onnx.ValueInfoProto(name=name) for name in each] for each in (list(names.values())[: len(arrays)], wanted)]
    graph = helper.make_graph(nodes, "host", *ends, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    feeds = dict(zip([names[value] for value in function.arguments], arrays, strict=True))
    return [np.asarray(array) for array in ReferenceEvaluator(model, new_ops=[GatherElements]).run(wanted, feeds)]


class GatherElements(OpRun):
    """The evaluator's own cannot do all of the standard: result[i, j] = data[i, indices[i, j]] along axis 1."""

    op_domain = ""

    def _run(self, data, indices, axis=None):
        result = np.empty(indices.shape, data.dtype)
        for place in np.ndindex(*indices.shape):
            source = list(place)
            source[axis or 0] = indices[place]
            result[place] = data[tuple(source)]
        return (result,)


def _read(value: Value[Any], values: Mapping[Value[Any], np.ndarray]) -> np.ndarray:
    return value.array if isinstance(value, Constant) else values[value]


def stored(reals: np.ndarray) -> np.ndarray:
    """float32 arrays of the oracle as bfloat16."""
    return patterns(reals).astype(np.uint16).view(BF16.dtype)


def _compute(op: Operation, arrays: list[np.ndarray]) -> np.ndarray:
    if BF16 in (op.operands[0].type.element, op.result.type.element):
        moves = op.name in MOVING and op.name not in FLOAT_MEANINGS
        meaning = (MEANINGS if moves else FLOAT_MEANINGS)[op.name]
        with np.errstate(all="ignore"):
            return meaning(op, *(_plain(array) for array in arrays))
    meaning = MEANINGS.get(op.name)
    computes = op.name not in MOVING and op.name not in ("quant.quantize", "quant.dequantize")
    if meaning is None or (computes and arrays[0].dtype.kind != "i"):
        raise ValueError(f"'{op.name}' on {op.operands[0].type} has no meaning in integers")
    return meaning(op, *(a.astype(np.int64) if a.dtype.kind == "i" else a for a in arrays))

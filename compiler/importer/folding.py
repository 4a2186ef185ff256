"""Evaluates nodes whose inputs are all known, with the evaluator of the onnx package: shape arithmetic and the like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ...dialects.core.types import Array
from .lowering import Known, Unsupported
from .model import Node
from .tensors import ELEMENT_LIMIT

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
HEAVY = frozenset(
    {
        "Attention",
        "AveragePool",
        "Col2Im",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "DeformConv",
        "GRU",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "GridSample",
        "LRN",
        "LSTM",
        "LpPool",
        "MaxPool",
        "MaxRoiPool",
        "MaxUnpool",
        "NonMaxSuppression",
        "QLinearConv",
        "RNN",
        "Resize",
        "RoiAlign",
        "STFT",
        "TfIdfVectorizer",
        "Upsample",
    }
)
"""Operators that the evaluator runs in Python loops; on known data they stay operations of the graph."""


def folds(node: Node, inputs: Sequence[Known | object | None]) -> bool:
    """True if the node can be evaluated now: known inputs only, at least one, and a cheap deterministic operator."""
    if node.domain or node.subgraphs or node.op_type in RANDOM | HEAVY:
        return False
    present = [value for value in inputs if value is not None]
    return bool(present) and all(isinstance(value, Known) for value in present)


def fold(node: Node, inputs: Sequence[Known | None]) -> list[Known | None]:
    """The outputs of a node on known inputs; None for absent ones.

    Raises CompileError if the node cannot be computed and Unsupported if the evaluator does not know it.
    """
    arrays = [None if value is None else value.array for value in inputs]
    _check_size(node, arrays)
    match node.op_type:
        case "Identity":
            results: list[Any] = [arrays[0]]
        case "ConstantOfShape":
            results = [_filled(node, _dimensions(node, arrays[0]))]
        case "Expand":
            data, shape = cast("tuple[Array, Array]", (arrays[0], arrays[1]))
            results = [np.broadcast_to(data, np.broadcast_shapes(data.shape, _dimensions(node, shape)))]
        case _:
            results = _evaluated(node, arrays)
    return [_known(name, result) if name else None for name, result in zip(node.outputs, results, strict=False)]


def _known(name: str, result: Any) -> Known:
    if not isinstance(result, (np.ndarray, np.generic)):
        raise Unsupported("the result on constants is not a tensor")
    return Known(name, np.asarray(cast(Any, result)))


def _evaluated(node: Node, arrays: Sequence[Array | None]) -> list[Any]:
    graph = onnx.GraphProto()
    graph.node.append(node.proto)
    graph.node[0].domain = ""
    feeds = {name: array for name, array in zip(node.inputs, arrays, strict=True) if array is not None}
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in feeds)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.outputs if name)
    try:
        evaluator: Any = ReferenceEvaluator(graph, opsets={"": node.opset})
        with np.errstate(all="ignore"):
            results = iter(cast("list[Any]", evaluator.run(None, feeds)))
    except NotImplementedError:
        raise Unsupported("the operator is not supported, not even on constants") from None
    except _EVALUATION_ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise node.error(f"cannot be computed on its constant inputs: {reason}") from None
    return [next(results) if name else None for name in node.outputs]


_EVALUATION_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _filled(node: Node, shape: tuple[int, ...]) -> Array:
    value = node.attributes.get("value")
    element = value.reshape(-1)[:1] if isinstance(value, np.ndarray) and value.size else np.zeros(1, np.float32)
    return np.broadcast_to(element.reshape(()), shape)


def _dimensions(node: Node, array: Array | None) -> tuple[int, ...]:
    shape = () if array is None else tuple(int(n) for n in array.reshape(-1))
    if any(n < 0 for n in shape):
        raise node.error(f"the shape is {list(shape)}")
    return shape


def _check_size(node: Node, arrays: Sequence[Array | None]) -> None:
    """Refuse results that a small file would make enormous."""
    present = [array for array in arrays if array is not None]
    size = 0
    match node.op_type:
        case "ConstantOfShape":
            size = math.prod(_dimensions(node, present[0]))
        case "Expand":
            size = math.prod(_dimensions(node, present[1])) * present[0].size
        case "Tile":
            size = math.prod(_dimensions(node, present[1])) * present[0].size
        case "Range":
            start, limit, step = (float(array.reshape(-1)[0]) for array in present)
            size = abs(limit - start) / abs(step) if step else 0
        case "Pad" if len(present) > 1:
            grown = np.abs(present[1].astype(np.float64)).sum() + 1
            size = present[0].size * grown
        case _:
            try:
                size = math.prod(np.broadcast_shapes(*(array.shape for array in present)))
            except ValueError:
                return
    if not size <= ELEMENT_LIMIT:
        raise node.error(
            f"the result on constants would have {size:.3g} elements, at most {ELEMENT_LIMIT} are accepted"
        )

"""Evaluates nodes whose inputs are all known, with the evaluator of the onnx package: shape arithmetic and the like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.onnx import RANDOM
from ...dialects.nn.reference import EVALUATION_ERRORS, evaluator
from .lowering import Known, Unsupported
from .model import Node
from .signature import inferred_shapes
from .tensors import ELEMENT_LIMIT

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


MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""What their handlers do to dequantized constants without losing the integers behind them."""


def folds(node: Node, inputs: Sequence[Known | object | None]) -> bool:
    """True if the node can be evaluated now: known inputs only, at least one, and a cheap deterministic operator."""
    if node.domain or node.subgraphs or node.op_type in RANDOM | HEAVY | {"DequantizeLinear"}:
        return False
    present = [value for value in inputs if value is not None]
    if present and node.op_type in MOVES and isinstance(present[0], Known) and present[0].steps is not None:
        return False
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
    feeds = {name: array for name, array in zip(node.inputs, arrays, strict=True) if array is not None}
    try:
        with np.errstate(all="ignore"):
            results = cast("list[Any]", evaluator(node.proto, node.opset).run(None, feeds))
    except NotImplementedError:
        raise Unsupported("the operator is not supported, not even on constants") from None
    except EVALUATION_ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise node.error(f"cannot be computed on its constant inputs: {reason}") from None
    names = [str(name) for name in node.proto.output if name]
    found = dict(zip(names, results, strict=True))
    return [found[name] if name else None for name in node.outputs]


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
    """Refuse results that a small file would make enormous, before anything is computed."""
    present = {name: array for name, array in zip(node.inputs, arrays, strict=True) if array is not None}
    if any(array.dtype.kind not in "biufcV" for array in present.values()):
        raise Unsupported("strings are not supported, not even on constants")
    for shape in inferred_shapes(node, present):
        if shape is None:
            if node.op_type not in SELECTIONS:
                raise Unsupported("the size of the result on constants cannot be told")
            size = sum(array.size * max(array.ndim, 1) for array in present.values())
        elif any(n < 0 for n in shape):
            raise node.error(f"the shape of the result on constants is {list(shape)}")
        else:
            size = math.prod(shape)
        if size > ELEMENT_LIMIT:
            raise node.error(
                f"the result on constants would have {size:.3g} elements, at most {ELEMENT_LIMIT} are accepted"
            )


SELECTIONS = frozenset({"Compress", "NonZero", "Unique"})
"""Operators whose values decide the size of the result; it is bounded by that of their inputs."""

"""Integers and truth values at run time: float32 numbers in the module, of which the importer keeps the ONNX type.

A kind is the name of a numpy type, None for floats.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from ...dialects.core.types import F32, ScalarType
from .lowering import Imported, Known, Unsupported
from .model import Node

_MOVEMENT = (
    *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth"),
    *("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
_ARITHMETIC = (
    *("Abs", "Add", "ArgMax", "ArgMin", "Clip", "CumSum", "Max", "Min", "Mul", "Neg", "ReduceMax", "ReduceMin"),
    *("ReduceSum", "Relu", "Shape", "Sign", "Size", "Sub", "Sum"),
)
PREDICATES = ("And", "Equal", "Greater", "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor")
"""Operators whose results are truth values."""

_ACCEPTED = frozenset((*_MOVEMENT, *_ARITHMETIC, *PREDICATES, "Cast", "CastLike", "Where"))
"""Operators that compute on integers what they compute on the same float32 numbers, as long as those are exact."""

DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.BOOL: "bool",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
}
"""The types that a cast at run time may name."""


DYNAMIC_INTEGERS, DYNAMIC_SCALE, DYNAMIC_ZERO = "dynamic integers", "dynamic scale", "dynamic zero point"
"""Kinds of what DynamicQuantizeLinear gives: its integers and products of them, its scale and products of it."""
DYNAMIC = frozenset({DYNAMIC_INTEGERS, DYNAMIC_SCALE, DYNAMIC_ZERO})

_INTEGER_PRODUCTS = frozenset({"ConvInteger", "MatMulInteger"})


def kind_of(value: Imported | None) -> str | None:
    """The kind that a value shows by itself: known data, arguments and results of the host have their own type."""
    if value is None:
        return None
    if isinstance(value, Known):
        name = value.array.dtype.name
        return None if "float" in name else name
    element = value.type.element
    if not isinstance(element, ScalarType) or element == F32 or element.is_float:
        return None
    return element.dtype.name


def check_kinds(node: Node, inputs: Sequence[Imported | None], kinds: Sequence[str | None]) -> None:
    """Raise Unsupported for a computed integer or truth value that the operator has no float32 numbers for.

    The same for integers of a type that the IR does not have, such as int2, even where they are constants. What a graph
    within the node reads is checked there.
    """
    if DYNAMIC.intersection(filter(None, kinds)):
        _check_dynamic(node, kinds)
        return
    if node.domain or node.subgraphs or node.op_type in _QUANTIZED:
        return
    for name, kind in zip(node.inputs, kinds, strict=True):
        if kind is not None and kind not in DTYPES.values():
            raise Unsupported(f"reads '{name}', which is {kind}, a type that the IR does not have")
    if node.op_type in _ACCEPTED:
        return
    for index, (value, kind) in enumerate(zip(inputs, kinds, strict=True)):
        if kind is None or value is None or isinstance(value, Known) or (node.op_type, index) in _INDICES:
            continue
        raise Unsupported(f"reads '{node.inputs[index]}', which is {kind}, expected float32")


def _check_dynamic(node: Node, kinds: Sequence[str | None]) -> None:
    """Raise Unsupported where another scale than that of the run would change a result."""
    match node.op_type:
        case op_type if node.domain or node.subgraphs:
            allowed = bool(node.subgraphs)
        case op_type if op_type in _INTEGER_PRODUCTS:
            allowed = True
        case "Cast":
            allowed = kinds[0] == DYNAMIC_INTEGERS and node.integer("to", 0) == TensorProto.FLOAT
        case "Mul":
            allowed = DYNAMIC_SCALE in kinds and DYNAMIC_ZERO not in kinds
        case op_type:
            allowed = op_type in _MOVEMENT and op_type != "Concat"
    if not allowed:
        index = next(index for index, kind in enumerate(kinds) if kind in DYNAMIC)
        raise Unsupported(
            f"reads '{node.inputs[index]}', numbers at a scale that depends on the data of a run, which only products, "
            "their Cast to float and their Mul by the scale may: give the float model, or quantize statically"
        )


_QUANTIZED = ("DequantizeLinear", "QLinearConv", "QLinearMatMul", "QuantizeLinear")
"""Operators that say for themselves which integers they read, as those of onnxruntime's domain do."""
_INDICES = frozenset({("Gather", 1), ("OneHot", 0)})


def result_kind(node: Node, kinds: Sequence[str | None]) -> str | None:
    """The kind of what a node computes from inputs of these kinds."""
    if DYNAMIC.intersection(filter(None, kinds)):
        return (None if DYNAMIC_INTEGERS in kinds else DYNAMIC_SCALE) if node.op_type == "Mul" else kinds[0]
    match node.op_type:
        case op_type if op_type in PREDICATES:
            return "bool"
        case "ArgMax" | "ArgMin" | "Shape" | "Size":
            return "int64"
        case "Cast":
            name = DTYPES.get(node.integer("to", 0), "float32")
            return None if "float" in name else name
        case "CastLike":
            return kinds[1]
        case "Gather":
            return kinds[0]
        case "Where":
            return kinds[1] or kinds[2]
        case "Add" | "Concat" | "Max" | "Min" | "Mul" | "Sub" | "Sum":
            return next(filter(None, kinds), None)
        case op_type if op_type in _ACCEPTED:
            return kinds[0]
        case _:
            return None

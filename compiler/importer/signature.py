"""The inputs of a model with every dimension settled, and what shape inference finds for its values and nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.types import F32, Array, TensorType
from ...dialects.nn.inference import infer_shapes
from .model import GraphInput, Model, Node
from .tensors import ELEMENT_LIMIT

FLOATS = ("float16", "bfloat16", "float64")
INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
"""Inputs of these types may only be asked for their shape."""


ROBUST = frozenset(
    {
        "Add",
        "And",
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Expand",
        "Gather",
        "Greater",
        "Identity",
        "Less",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Range",
        "Reshape",
        "Shape",
        "Size",
        "Slice",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""The arithmetic of shapes, whose inference does not crash and is not worth the start of a process."""


def resolve_inputs(model: Model, batch: int) -> list[GraphInput]:
    """The graph inputs with `batch` in place of a symbolic first dimension (and of its name elsewhere).

    Raises CompileError for any other symbolic dimension, an element type other than float32 (integers may stay, for
    shape arithmetic), and a batch that no input can take.
    """
    if batch < 1:
        raise CompileError(f"the batch is {batch}, expected at least 1")
    names: set[str] = set()
    symbolic = False
    resolved: list[GraphInput] = []
    batch_names = {v.shape[0] for v in model.inputs if v.shape and isinstance(v.shape[0], str)} - {"?"}
    for value in model.inputs:
        what = f"{model.source}: input '{value.name}'"
        if value.name in names:
            raise CompileError(f"{what} is declared twice")
        names.add(value.name)
        if '"' in value.name or not value.name.isprintable():
            raise CompileError(f"{model.source}: input {value.name!r} has a quote or control character in its name")
        if value.dtype in FLOATS:
            raise CompileError(f"{what} is {value.dtype}, expected float32", notes=("convert the model to float32",))
        if value.dtype != "float32" and value.dtype not in INTEGERS:
            raise CompileError(f"{what} is {value.dtype}, expected float32")
        if value.shape is None:
            raise CompileError(f"{what} has no shape", notes=("export the model with the shapes of its inputs",))
        shape: list[int | str] = []
        for axis, size in enumerate(value.shape):
            if isinstance(size, str) and (axis == 0 or size in batch_names):
                symbolic = True
                shape.append(batch)
            elif isinstance(size, str):
                name = "an unnamed dynamic dimension" if size == "?" else f"the dynamic dimension '{size}'"
                raise CompileError(
                    f"{what} has {name} at axis {axis}, only the batch (axis 0) may be dynamic",
                    notes=("export the model with a fixed size, or fix it with onnx.tools.update_model_dims",),
                )
            elif size == 0:
                raise CompileError(f"{what} is empty: its shape is {list(value.shape)}")
            else:
                shape.append(size)
        sizes = [size for size in shape if isinstance(size, int)]
        if prod(sizes) > ELEMENT_LIMIT:
            raise CompileError(f"{what} has the shape {sizes}, at most {ELEMENT_LIMIT} elements are accepted")
        resolved.append(replace(value, shape=tuple(sizes)))
    if batch != 1 and not symbolic and any(value.shape and value.shape[0] != batch for value in resolved):
        fixed = next(value for value in resolved if value.shape and value.shape[0] != batch)
        size = fixed.shape[0] if fixed.shape else 0
        raise CompileError(
            f"{model.source}: the batch of input '{fixed.name}' is fixed at {size}, it cannot be {batch}"
        )
    return resolved


def inferred_types(model: Model, inputs: Sequence[GraphInput]) -> dict[str, TensorType]:
    """The float32 values whose whole shape the shape inference of the onnx package finds; used to explain failures."""
    proto = ModelProto(ir_version=onnx.IR_VERSION)
    proto.opset_import.extend(model.proto.opset_import)
    graph = proto.graph
    # Inference gives up on the whole model where it meets a domain that is not declared.
    graph.node.extend(node.proto for node in model.nodes if not node.domain and not node.subgraphs)
    for value in inputs:
        graph.input.append(helper.make_tensor_value_info(value.name, _ELEMENTS[value.dtype], value.shape))
    for tensor in model.proto.graph.initializer:
        if model.initializers[tensor.name].size <= _SMALL and tensor.data_location != TensorProto.EXTERNAL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    try:
        inferred = infer_shapes(proto)
        if not any(_is_long(value) for value in (*proto.graph.input, *inferred.graph.value_info)):
            inferred = infer_shapes(proto, data_prop=True)
    except ValueError:
        return {}
    types: dict[str, TensorType] = {}
    for value in inferred.graph.value_info:
        tensor_type = value.type.tensor_type
        sizes = tuple(int(dim.dim_value) for dim in tensor_type.shape.dim)
        if tensor_type.elem_type == TensorProto.FLOAT and tensor_type.HasField("shape") and all(s > 0 for s in sizes):
            types[value.name] = TensorType(sizes, F32)
    return types


def inferred_shapes(node: Node, inputs: Mapping[str, Array]) -> list[tuple[int, ...] | None]:
    """The shapes of the outputs of a node on known inputs, as far as the onnx package can tell; None where it cannot.

    Nothing is computed. Inputs of more than a few elements are taken by their types only.
    """
    proto = ModelProto(ir_version=onnx.IR_VERSION)
    proto.opset_import.add(domain="", version=node.opset)
    proto.graph.node.append(node.proto)
    proto.graph.node[0].domain = ""
    for name, array in inputs.items():
        if array.size <= _SMALL:
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
        else:
            element = helper.np_dtype_to_tensor_dtype(array.dtype)
            proto.graph.input.append(helper.make_tensor_value_info(name, element, array.shape))
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.outputs if name)
    try:
        infer: Any = shape_inference.infer_shapes if node.op_type in ROBUST else infer_shapes
        outputs = infer(proto).graph.output
    except (RuntimeError, ValueError, shape_inference.InferenceError):
        outputs = proto.graph.output
    shapes: list[tuple[int, ...] | None] = []
    for output in outputs:
        kind = output.type.tensor_type
        told = kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)
        shapes.append(tuple(int(dim.dim_value) for dim in kind.shape.dim) if told else None)
    return shapes


def _is_long(value: onnx.ValueInfoProto) -> bool:
    """True for a vector whose elements inference must not keep track of: it spends hundreds of bytes on each."""
    dims = value.type.tensor_type.shape.dim
    return len(dims) == 1 and dims[0].dim_value > _LONG


_LONG = 2**16

_SMALL = 1024
"""Initializers up to this size may hold a shape that inference needs; larger ones are only declared."""

_ELEMENTS = {name: int(getattr(TensorProto, name.upper())) for name in INTEGERS} | {"float32": int(TensorProto.FLOAT)}

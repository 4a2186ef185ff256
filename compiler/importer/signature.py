"""The inputs of a model with every dimension settled, and what shape inference finds for its values and nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from operator import index
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.types import F32, Array, TensorType
from ...dialects.nn.inference import infer_shapes
from .model import GraphInput, Model, Node
from .tensors import ELEMENT_LIMIT

OTHERS = (
    *("float16", "float64"),
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""Inputs of these types are cast to float32 where numbers are computed, or asked for their shape."""

UNNAMED = "?"
"""Stands for a symbolic dimension without a name."""


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


def resolve_inputs(model: Model, batch: int, shapes: Mapping[str, Sequence[int]] | None = None) -> list[GraphInput]:
    """The graph inputs with a size for every dimension.

    An input that `shapes` names has that shape; a symbolic dimension of another one has the size that its name has
    there, or is the batch: a first dimension, and its name elsewhere.

    Raises CompileError for any other symbolic dimension, an element type that nothing casts to float32, a batch that no
    input can take, and shapes that do not fit.
    """
    if batch < 1:
        raise CompileError(f"the batch is {batch}, expected at least 1")
    given = _given_shapes(model, shapes or {})
    named = _named_sizes(model, given, batch)
    names: set[str] = set()
    resolved: list[GraphInput] = []
    for value in model.inputs:
        what = f"{model.source}: input '{value.name}'"
        if value.name in names:
            raise CompileError(f"{what} is declared twice")
        names.add(value.name)
        if '"' in value.name or not value.name.isprintable():
            raise CompileError(f"{model.source}: input {value.name!r} has a quote or control character in its name")
        if value.dtype == "bfloat16":
            raise CompileError(f"{what} is {value.dtype}, expected float32", notes=("convert the model to float32",))
        if value.dtype != "float32" and value.dtype not in OTHERS:
            raise CompileError(f"{what} is {value.dtype}, expected float32")
        sizes = given.get(value.name) or _settled(what, value, named, batch)
        if prod(sizes) > ELEMENT_LIMIT:
            raise CompileError(f"{what} has the shape {list(sizes)}, at most {ELEMENT_LIMIT} elements are accepted")
        resolved.append(replace(value, shape=sizes))
    _check_batch(model, batch, given, resolved)
    return resolved


def _given_shapes(model: Model, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """`shapes` as tuples; CompileError for a name that is no input, and what the model has fixed otherwise."""
    inputs = {value.name: value for value in model.inputs}
    given: dict[str, tuple[int, ...]] = {}
    for name, sizes in shapes.items():
        try:
            shape = tuple(index(size) for size in sizes)
        except TypeError:
            problem = f"the shape {sizes!r} is given for input '{name}', expected whole numbers, as in (1, 3, 224, 224)"
            raise CompileError(f"{model.source}: {problem}") from None
        what = f"{model.source}: the shape {list(shape)} is given for input '{name}'"
        if name not in inputs:
            known = ", ".join(f"'{each}'" for each in inputs) or "none"
            raise CompileError(f"{what}, which the model does not have; its inputs: {known}")
        if min(shape, default=1) < 1:
            raise CompileError(f"{what}, expected sizes of at least 1")
        declared = inputs[name].shape
        fits = declared is None or (
            len(declared) == len(shape)
            and all(isinstance(own, str) or own == size for own, size in zip(declared, shape, strict=True))
        )
        if not fits:
            raise CompileError(f"{what}, the model has {_shape_text(declared or ())}")
        given[name] = shape
    return given


def _named_sizes(model: Model, given: Mapping[str, tuple[int, ...]], batch: int) -> dict[str, int]:
    """The size of every symbolic dimension with a name, by name; CompileError where two shapes disagree about one."""
    named: dict[str, int] = {}
    for value in model.inputs:
        for own, size in zip(value.shape or (), given.get(value.name, ()), strict=False):
            if isinstance(own, str) and own != UNNAMED and named.setdefault(own, size) != size:
                raise CompileError(
                    f"{model.source}: the shape {list(given[value.name])} given for input '{value.name}' makes "
                    f"dimension '{own}' {size}, which is {named[own]} elsewhere"
                )
    for value in model.inputs:
        first = value.shape[0] if value.shape else UNNAMED
        if isinstance(first, str) and first != UNNAMED and value.name not in given:
            named.setdefault(first, batch)
    return named


def _settled(what: str, value: GraphInput, named: Mapping[str, int], batch: int) -> tuple[int, ...]:
    """The shape of an input that none is given for; CompileError if a dimension is left open or 0."""
    hint = (
        "give its shape, as in --input-shape '{}={}' (from Python: input_shapes), or export the model with a fixed one"
    )
    if value.shape is None:
        raise CompileError(f"{what} has no shape", notes=(hint.format(value.name, "1,3,224,224"),))
    sizes: list[int] = []
    for axis, size in enumerate(value.shape):
        if size == 0:
            raise CompileError(f"{what} is empty: its shape is {_shape_text(value.shape)}")
        if isinstance(size, int):
            sizes.append(size)
        elif size in named or axis == 0:
            sizes.append(named.get(size, batch))
        else:
            name = "an unnamed dynamic dimension" if size == UNNAMED else f"the dynamic dimension '{size}'"
            first = value.shape[0]
            example = [str(named.get(first, batch) if isinstance(first, str) else first)]
            example += [str(named.get(d, "N") if isinstance(d, str) else d) for d in value.shape[1:]]
            raise CompileError(
                f"{what} has {name} at axis {axis}, only the batch (axis 0) has a size without being given one",
                notes=(hint.format(value.name, ",".join(example)),),
            )
    return tuple(sizes)


def _check_batch(model: Model, batch: int, given: Collection[str], resolved: Sequence[GraphInput]) -> None:
    """Raise CompileError if a batch is asked for that no input has."""
    others = [value for value in resolved if value.shape and value.shape[0] != batch]
    symbolic = any(value.shape and isinstance(value.shape[0], str) for value in model.inputs)
    if batch != 1 and others and (not symbolic or len(others) == len(resolved)):
        first = others[0]
        size = first.shape[0] if first.shape else 0
        how = "given as" if first.name in given else "fixed at"
        raise CompileError(f"{model.source}: the batch of input '{first.name}' is {how} {size}, it cannot be {batch}")


def _shape_text(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"


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

_NAMES = {"float32": "FLOAT", "float64": "DOUBLE"}
_ELEMENTS = {name: int(getattr(TensorProto, _NAMES.get(name, name.upper()))) for name in ("float32", *OTHERS)}

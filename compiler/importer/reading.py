"""Reads an ONNX file, bytes or message into a `Model`; everything that is untyped in the onnx package stays here."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, checker, defs, inliner

from ...dialects.core.diagnostics import CompileError
from .model import Attribute, Attributes, Graph, GraphInput, Model, Node
from .tensors import array_of, check_sparse, dense_array, dtype_name

FIRST_OPSET = 7
"""From opset 7 on, broadcasting follows numpy."""
EXPORTED = "accelc"
"""The domain of the functions in models that this compiler exports."""
LAST_OPSET = int(defs.onnx_opset_version())
"""The newest opset that the installed onnx package knows."""


def read_model(source: Path | bytes | ModelProto) -> Model:
    """Decode a model. Raises CompileError if it is unreadable, not ONNX, or of an opset outside the range."""
    proto, name, folder = _load(source)
    if not proto.HasField("graph"):
        raise CompileError(f"{name}: not an ONNX model: it has no graph")
    if not proto.graph.output:
        raise CompileError(f"{name}: the graph has no outputs")
    opsets = {_domain(str(entry.domain)): int(entry.version) for entry in proto.opset_import}
    opset = opsets.setdefault("", 1)
    if not FIRST_OPSET <= opset <= LAST_OPSET:
        raise CompileError(f"{name}: opset {opset} is not supported, expected {FIRST_OPSET} to {LAST_OPSET}")
    if proto.functions:
        proto = _inlined(proto, name)
    try:
        return _decoded(proto, name, folder, opsets)
    except UnicodeDecodeError:
        raise CompileError(f"{name}: damaged: a name is not UTF-8 text") from None


def _decoded(proto: ModelProto, name: str, folder: Path | None, opsets: dict[str, int]) -> Model:
    graph = proto.graph
    initializers = {_text(tensor.name): array_of(tensor, name, folder) for tensor in graph.initializer}
    check_sparse([*graph.sparse_initializer, *_sparse_attributes(graph)], name)
    for sparse in graph.sparse_initializer:
        initializers[_text(sparse.values.name)] = dense_array(sparse, name, folder)
    return Model(
        source=name,
        opset=opsets[""],
        nodes=tuple(_node(node, opsets, name, folder) for node in graph.node),
        inputs=tuple(_graph_input(value, name) for value in graph.input if value.name not in initializers),
        outputs=tuple(_text(value.name) for value in graph.output),
        initializers=initializers,
        output_types={
            _text(value.name): dtype_name(value.type.tensor_type.elem_type)
            for value in graph.output
            if value.type.tensor_type.elem_type
        },
        folder=folder,
        proto=proto,
    )


def read_graph(node: Node, name: str, model: Model) -> Graph:
    """Decode the graph that an attribute of a node holds. Raises CompileError if the node has no such graph."""
    found = [each.g for each in node.proto.attribute if each.name == name and each.type == AttributeProto.GRAPH]
    if not found:
        raise node.error(f"the attribute '{name}' is missing")
    graph = found[0]
    if graph.sparse_initializer:
        raise node.error(f"'{name}' has sparse initializers, expected none")
    opsets = {_domain(str(entry.domain)): int(entry.version) for entry in model.proto.opset_import}
    opsets.setdefault("", model.opset)
    try:
        return Graph(
            nodes=tuple(_node(each, opsets, model.source, model.folder) for each in graph.node),
            inputs=tuple(_text(value.name) for value in graph.input),
            outputs=tuple(_text(value.name) for value in graph.output),
            initializers={_text(each.name): array_of(each, model.source, model.folder) for each in graph.initializer},
        )
    except UnicodeDecodeError:
        raise node.error(f"'{name}' is damaged: a name in it is not UTF-8 text") from None


def _sparse_attributes(graph: onnx.GraphProto) -> list[onnx.SparseTensorProto]:
    attributes = (attribute for node in graph.node for attribute in node.attribute)
    return [each.sparse_tensor for each in attributes if each.type == AttributeProto.SPARSE_TENSOR]


def _text(value: str | bytes) -> str:
    """A string field; protobuf hands out bytes where it is not valid UTF-8."""
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _load(source: Path | bytes | ModelProto) -> tuple[ModelProto, str, Path | None]:
    if isinstance(source, ModelProto):
        return source, "model", None
    name, folder = "model", None
    if isinstance(source, Path):
        name, folder = str(source), source.parent
        try:
            data = source.read_bytes()
        except OSError as error:
            raise CompileError(f"{name}: cannot be read: {error.strerror or error}") from None
    else:
        data = source
    if not data:
        raise CompileError(f"{name}: not an ONNX model: it is empty")
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise CompileError(f"{name}: not an ONNX model, or a damaged one: it cannot be decoded") from None
    return proto, name, folder


def _inlined(proto: ModelProto, name: str) -> ModelProto:
    """Without the functions that the model defines, but for those of the exporter, which are operators here."""
    own = [(function.domain, function.name) for function in proto.functions if function.domain == EXPORTED]
    try:
        return inliner.inline_selected_functions(proto, own, exclude=True)
    except (ValueError, RuntimeError, checker.ValidationError) as error:
        raise CompileError(f"{name}: model functions cannot be inlined: {str(error).splitlines()[0]}") from None


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _graph_input(value: onnx.ValueInfoProto, source: str) -> GraphInput:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise CompileError(
            f"{source}: input '{value.name}' is {'untyped' if kind is None else kind}, expected a tensor"
        )
    tensor = value.type.tensor_type
    shape: tuple[int | str, ...] | None = None
    if tensor.HasField("shape"):
        shape = tuple(
            int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else (_text(dim.dim_param) or "?")
            for dim in tensor.shape.dim
        )
    return GraphInput(_text(value.name), dtype_name(tensor.elem_type), shape)


def _node(proto: onnx.NodeProto, opsets: dict[str, int], source: str, folder: Path | None) -> Node:
    graphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    domain = _domain(_text(proto.domain))
    return Node(
        op_type=_text(proto.op_type),
        domain=domain,
        name=_text(proto.name),
        inputs=tuple(_text(name) for name in proto.input),
        outputs=tuple(_text(name) for name in proto.output),
        attributes=Attributes({_text(a.name): _attribute(a, source, folder) for a in proto.attribute}),
        opset=opsets.get(domain, 1),
        subgraphs=tuple(attribute.name for attribute in proto.attribute if attribute.type in graphs),
        proto=proto,
    )


def _attribute(attribute: AttributeProto, source: str, folder: Path | None) -> Attribute:
    match attribute.type:
        case AttributeProto.INT:
            return int(attribute.i)
        case AttributeProto.FLOAT:
            return float(attribute.f)
        case AttributeProto.STRING:
            return attribute.s.decode("utf-8", "replace")
        case AttributeProto.INTS:
            return tuple(int(item) for item in attribute.ints)
        case AttributeProto.FLOATS:
            return tuple(float(item) for item in attribute.floats)
        case AttributeProto.STRINGS:
            return tuple(item.decode("utf-8", "replace") for item in attribute.strings)
        case AttributeProto.TENSOR:
            return array_of(attribute.t, source, folder)
        case AttributeProto.SPARSE_TENSOR:
            return dense_array(attribute.sparse_tensor, source, folder)
        case _:
            return None

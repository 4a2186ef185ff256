"""What the ONNX standard says of an operator: since when it exists, and whether a node is well formed."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, checker, defs, helper

from .lowering import Lowering, Unsupported
from .model import Attribute, Node


def exists(op_type: str, opset: int) -> bool:
    """True if that opset of the standard has the operator."""
    return defs.has(op_type, opset, "")


def opset_of_operator(op_type: str) -> int | None:
    """The first opset that has the operator; None where the standard does not know it."""
    return _first_opsets().get(op_type)


@cache
def _first_opsets() -> dict[str, int]:
    first: dict[str, int] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            since = int(schema.since_version)
            first[schema.name] = min(since, first.get(schema.name, since))
    return first


def check_node(node: Node) -> None:
    """Compare a node of the default domain with the schema of its opset; raises CompileError in one line."""
    if node.domain:
        return
    problem = _problem(node, defs.get_schema(node.op_type, node.opset, ""))
    if problem is not None:
        raise node.error(problem)
    if node.subgraphs:  # the checker does not know what is around them
        return
    context: Any = type(checker.DEFAULT_CONTEXT)()
    context.ir_version = onnx.IR_VERSION
    context.opset_imports = {"": node.opset, "ai.onnx": node.opset}
    try:
        checker.check_node(node.proto, context)
    except checker.ValidationError as error:
        raise node.error(str(error).splitlines()[0].rstrip(".")) from None


def check_all_read(lowering: Lowering, ignored: Collection[str]) -> None:
    """Raise Unsupported for an attribute or input that has had no effect though it is not the default.

    Handlers read what they know. What a newer opset adds, or what a form of the operator does not heed, is refused
    here, but for what is `ignored` because it changes nothing.
    """
    node = lowering.node
    if node.domain:
        return
    schema: Any = defs.get_schema(node.op_type, node.opset, "")
    for name, value in node.attributes.unread().items():
        declared = schema.attributes.get(name)
        if name in ignored or declared is None:
            continue
        default = helper.get_attribute_value(declared.default_value) if declared.default_value.name else None
        if not _is_default(value, default):
            expected = f"expected {_plain(default)}" if default is not None else "expected none"
            raise Unsupported(f"the attribute '{name}' is {value}, {expected}")
    for index, value in enumerate(lowering.inputs):
        name = schema.inputs[min(index, len(schema.inputs) - 1)].name
        if value is not None and index not in lowering.read and name not in ignored:
            raise Unsupported(f"the input '{name}' is not supported")


def _is_default(value: Attribute, default: Any) -> bool:
    if isinstance(value, tuple):
        return default is not None and list(value) == [_plain(item) for item in default]
    return default is not None and not isinstance(value, np.ndarray) and value == _plain(default)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _problem(node: Node, schema: Any) -> str | None:
    """The mistakes that are met most, in words; the checker of the onnx package finds these and others."""
    for what, found, low, high in (
        ("inputs", len(node.proto.input), schema.min_input, schema.max_input),
        ("outputs", len(node.proto.output), schema.min_output, schema.max_output),
    ):
        if not low <= found <= high:
            return f"has {found} {what}, expected {low if low == high else f'{low} to {high}'}"
    for index, (name, formal) in enumerate(zip(node.proto.input, schema.inputs, strict=False)):
        if not name and formal.option.name == "Single":
            return f"input {index} is missing"
    for attribute in node.proto.attribute:
        declared = schema.attributes.get(attribute.name)
        if declared is None:
            near = difflib.get_close_matches(attribute.name, schema.attributes, n=1)
            return f"unknown attribute '{attribute.name}'" + (f"; did you mean '{near[0]}'?" if near else "")
        expected = declared.type.name
        if attribute.type != getattr(AttributeProto, expected):
            found = AttributeProto.AttributeType.Name(attribute.type)
            return f"attribute '{attribute.name}' is {found}, expected {expected}"
    missing = [n for n, a in schema.attributes.items() if a.required and n not in node.attributes]
    return f"attribute '{missing[0]}' is missing" if missing else None

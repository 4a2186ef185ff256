"""What the ONNX standard says of an operator: since when it exists, and whether a node is well formed."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

import onnx
from onnx import AttributeProto, checker, defs

from .model import Node


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
    context: Any = type(checker.DEFAULT_CONTEXT)()
    context.ir_version = onnx.IR_VERSION
    context.opset_imports = {"": node.opset, "ai.onnx": node.opset}
    try:
        checker.check_node(node.proto, context)
    except checker.ValidationError as error:
        raise node.error(str(error).splitlines()[0].rstrip(".")) from None


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

"""Nodes that no operation of nn computes become operations of the host: nn.onnx, with any numeric types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Block, Module, Operation, Value
from ...dialects.core.types import F32, scalar_type
from ...dialects.nn.cast import CastOp
from ...dialects.nn.onnx import OnnxOp, check_host_node
from ...dialects.nn.onnx_attributes import written_parameters
from ...dialects.quant.ops import DequantizeOp
from ...dialects.quant.types import QuantizedType
from .lowering import Imported, Known, Unsupported, printable
from .model import Node


def lower_to_host(
    node: Node, inputs: Sequence[Imported | None], kinds: Sequence[str | None], block: Block, module: Module
) -> Sequence[Imported | None]:
    """Append nn.onnx for a node of the standard; Unsupported with the reason where the host cannot run it either.

    Reals that are stored as integers are dequantized, and float32 numbers that are of another type in ONNX (`kinds`)
    become that; known data keeps its type.
    """
    try:
        attributes: dict[str, Any] = {
            "operator": node.op_type,
            "opset": node.opset,
            "parameters": written_parameters(node.attributes),
        }
    except ValueError as error:
        raise Unsupported(f"the host cannot run it: {error}") from None
    absent = tuple(index for index, value in enumerate(inputs) if value is None)
    unread = tuple(index for index, name in enumerate(node.outputs) if not name)
    if absent:
        attributes["absent_inputs"] = absent
    if unread:
        attributes["absent_outputs"] = unread
    before = block.last
    try:
        operands = [
            _operand(value, kind, node, block, module)
            for value, kind in zip(inputs, kinds, strict=True)
            if value is not None
        ]
        op = _operation(node, operands, attributes)
    except Unsupported:
        erase_behind(before, block)
        raise
    block.append(op)
    found = iter(op.results)
    return [next(found) if name else None for name in node.outputs]


def _operand(value: Imported, kind: str | None, node: Node, block: Block, module: Module) -> Value[Any]:
    if isinstance(value, Known):
        if value.array.dtype.kind not in "biuf":
            raise Unsupported(f"the host cannot run it: '{value.name}' is {value.array.dtype}")
        return module.add_constant(printable(value.name), np.ascontiguousarray(value.array).reshape(value.shape))
    if isinstance(value.type.element, QuantizedType):
        return block.append(DequantizeOp.build(value, location=node.location)).result
    if kind is not None and value.type.element == F32:
        return block.append(CastOp.build(value, to=scalar_type(kind).name, location=node.location)).result
    return value


def _operation(node: Node, operands: Sequence[Value[Any]], attributes: Mapping[str, Any]) -> OnnxOp:
    """The operation, not in a block yet; Unsupported if the standard or the evaluator has no such node."""
    op = OnnxOp(operands, (), attributes, node.location)
    try:
        types = op.inferred(sum(bool(name) for name in node.outputs))
        op.set_operands(())
        op = OnnxOp(operands, types, attributes, node.location)
        check_host_node(op)
    except CompileError as error:
        op.set_operands(())
        message = error.diagnostics[0].message.removeprefix(f"'{OnnxOp.name}': ")
        raise Unsupported(f"the host cannot run it: {message}") from None
    return op


def erase_behind(last: Operation | None, block: Block) -> None:
    """Erase the operations of a block behind `last` (None: all)."""
    while block.last is not last and block.last is not None:
        block.last.erase()

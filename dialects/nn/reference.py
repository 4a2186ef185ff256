"""The reference evaluator of the onnx package, for one node at a time."""

from __future__ import annotations

from typing import Any

EVALUATION_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the evaluator raises where a node cannot be computed on its inputs."""


def evaluator(node: Any, opset: int) -> Any:
    """An evaluator of one ONNX node of the standard's domain; NotImplementedError if the package has none."""
    import onnx  # slow to import, and few models need it
    from onnx.reference import ReferenceEvaluator

    graph = onnx.GraphProto()
    graph.node.append(node)
    graph.node[0].domain = ""
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    return ReferenceEvaluator(graph, opsets={"": opset})

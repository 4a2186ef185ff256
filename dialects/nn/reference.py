"""The reference evaluator of the onnx package, for one node at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.types import Array

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


def gather_elements(data: Array, indices: Array, axis: int) -> Array:
    """ONNX GatherElements: along `axis` the element of each index, elsewhere that at the index's own place."""
    axis %= data.ndim
    beside = tuple(slice(None if a == axis else size) for a, size in enumerate(indices.shape))
    return np.take_along_axis(data[beside], indices.astype(np.int64), axis)


def evaluator(node: Any, opset: int) -> Any:
    """An evaluator of one ONNX node of the standard's domain; NotImplementedError if the package has none."""
    import onnx  # slow to import, and few models need it
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):
        """The package's own takes at most 64 elements, and none beside an axis that the indices cut short."""

        op_domain = ""

        def _run(self, data: Array, indices: Array, axis: int | None = None) -> tuple[Array]:
            return (gather_elements(data, indices, axis or 0),)

    graph = onnx.GraphProto()
    graph.node.append(node)
    graph.node[0].domain = ""
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    return ReferenceEvaluator(graph, opsets={"": opset}, new_ops=[GatherElements])

"""A module of integers as an ONNX model of opset 17 that onnxruntime runs, and that imports to the same integers.

Convolutions, products, sums, means, pools, LRN and softmax are float operators between DequantizeLinear and
QuantizeLinear, which is what onnxruntime fuses: their results may differ by one step next to a tie (see numerics.md).
Data movement works on the integers and is exact, and so is a table, which is a function of the model itself.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from ...dialects.core.diagnostics import CompileError, Diagnostic
from ...dialects.core.files import write_atomically
from ...dialects.core.operation import Constant, Module, Terminator
from ...dialects.core.types import BF16, F32, TensorType
from ...dialects.quant.types import QuantizedType
from ..importer.reading import EXPORTED
from .graph import GraphWriter
from .operators import EXPORTERS

OPSET = 17
IR_VERSION = 8
"""The IR version of opset 17, the first with functions of a model."""

PRODUCER = "accelc"

NO_BF16 = "onnxruntime's CPU provider casts and moves bfloat16 but computes nothing in it"
"""As of version 1.32: Conv and pools refuse the type, MatMul, Add, Mul and Softmax have no implementation."""


def export_model(module: Module, name: str = "model") -> onnx.ModelProto:
    """The ONNX model of a module whose @main computes in 8-bit integers between quantize and dequantize.

    Inputs and outputs keep names, shapes and type float32. Raises one CompileError that lists every operation without a
    form in ONNX, and for a module that is not at that level.
    """
    main = module.main
    missing = [op for op in main.body if type(op) not in EXPORTERS and not op.has_trait(Terminator)]
    if missing:
        raise CompileError([Diagnostic(f"'{op.name}': has no form in ONNX", op.location) for op in missing])
    for op in main.body:
        for value in op.results:
            element = value.type.element if isinstance(value.type, TensorType) else None
            if element == BF16:
                message = f"the result is bf16, expected 8-bit integers: {NO_BF16}"
                raise op.error(message, notes=("export integers: --precision int8",))
            if isinstance(element, QuantizedType) and element.dtype.itemsize != 1:
                raise op.error(f"the result is {element}, only 8-bit integers are exported")
    graph = GraphWriter()
    for argument in main.arguments:
        if argument.type.element != F32:
            raise CompileError(f"input '{argument.name}' is {argument.type}, expected f32")
        graph.store(argument, graph.fresh(str(argument.name)))
    for op in main.body:
        if not op.has_trait(Terminator):
            EXPORTERS[type(op)](op, graph)
    end = main.body.terminator
    outputs: list[onnx.ValueInfoProto] = []
    for output, value in zip(main.output_names, main.returns, strict=True):
        if isinstance(value, Constant) or value.type.element != F32:
            raise CompileError(f"output '{output}' is {value.type}, expected floats that the module computes")
        graph.nodes.append(
            helper.make_node("Identity", [graph.stored(end, value)], [output], name=f"{output}/Identity")
        )
        outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, value.type.shape))
    inputs = [helper.make_tensor_value_info(str(a.name), TensorProto.FLOAT, a.type.shape) for a in main.arguments]
    body = helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.initializers.values()))
    opsets = [helper.make_opsetid("", OPSET)]
    functions = [_lookup_function()] if any(node.domain == EXPORTED for node in graph.nodes) else []
    if functions:
        opsets.append(helper.make_opsetid(EXPORTED, 1))
    return helper.make_model(
        body, opset_imports=opsets, functions=functions, ir_version=IR_VERSION, producer_name=PRODUCER
    )


def export(module: Module, path: Path) -> None:
    """Write the ONNX model of a module, whole or not at all; see `export_model`."""
    data = export_model(module, path.stem).SerializeToString()
    write_atomically(path, lambda file: file.write(data))


def _lookup_function() -> onnx.FunctionProto:
    """Lookup(data, table) = table[data + 128]; the attributes say what the result stands for."""
    nodes = [
        helper.make_node("Cast", ["data"], ["wide"], to=TensorProto.INT32),
        helper.make_node("Constant", [], ["offset"], value=helper.make_tensor("offset", TensorProto.INT32, [], [128])),
        helper.make_node("Add", ["wide", "offset"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["result"]),
    ]
    return helper.make_function(
        EXPORTED,
        "Lookup",
        ["data", "table"],
        ["result"],
        nodes,
        [helper.make_opsetid("", OPSET)],
        attributes=["scale", "zero_point"],
    )

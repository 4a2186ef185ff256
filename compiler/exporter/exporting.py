"""A module of integers as an ONNX model that onnxruntime runs; one of 8 bits imports to the same integers.

It is of opset 17, and of opset 21, the first with 16-bit QuantizeLinear, where activations have 16 bits.
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
from ...dialects.core.operation import Constant, Module, Terminator, Value
from ...dialects.core.types import BF16, TensorType
from ...dialects.quant.indices import INDEX_TYPE
from ...dialects.quant.types import QuantizedType
from ..importer.reading import EXPORTED
from .graph import GraphWriter
from .operators import EXPORTERS

OPSET, WIDE_OPSET = 17, 21
"""The opsets of models of 8-bit integers, and of those that 16-bit ones are among."""

IR_VERSIONS = {OPSET: 8, WIDE_OPSET: 10}
"""The IR version that came with each opset; 8 is the first with functions of a model."""

PRODUCER = "accelc"

NO_BF16 = "onnxruntime's CPU provider casts and moves bfloat16 but computes nothing in it"
"""As of version 1.32: Conv and pools refuse the type, MatMul, Add, Mul and Softmax have no implementation."""


def export_model(module: Module, name: str = "model") -> onnx.ModelProto:
    """The ONNX model of a module whose @main computes in integers between quantize and dequantize.

    Inputs and outputs keep names, shapes and types. Raises one CompileError that lists every operation without a
    form in ONNX, and for a module that is not at that level.
    """
    main = module.main
    missing = [op for op in main.body if type(op) not in EXPORTERS and not op.has_trait(Terminator)]
    if missing:
        raise CompileError([Diagnostic(f"'{op.name}': has no form in ONNX", op.location) for op in missing])
    opset = OPSET
    for op in main.body:
        for value in op.results:
            element = value.type.element if isinstance(value.type, TensorType) else None
            if element == BF16:
                message = f"the result is bf16, expected 8-bit integers: {NO_BF16}"
                raise op.error(message, notes=("export integers: --precision int8",))
            if isinstance(element, QuantizedType) and element.dtype.itemsize != 1 and element != INDEX_TYPE:
                opset = WIDE_OPSET
    graph = GraphWriter(opset)
    for argument in main.arguments:
        graph.store(argument, graph.fresh(str(argument.name)))
    for op in main.body:
        if not op.has_trait(Terminator):
            EXPORTERS[type(op)](op, graph)
    end = main.body.terminator
    outputs: list[onnx.ValueInfoProto] = []
    for output, value in zip(main.output_names, main.returns, strict=True):
        if isinstance(value, Constant) or isinstance(value.type.element, QuantizedType):
            raise CompileError(f"output '{output}' is {value.type}, expected numbers that the module computes")
        graph.nodes.append(
            helper.make_node("Identity", [graph.stored(end, value)], [output], name=f"{output}/Identity")
        )
        outputs.append(_information(output, value))
    inputs = [_information(str(argument.name), argument) for argument in main.arguments]
    body = helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.initializers.values()))
    opsets = [helper.make_opsetid("", opset)]
    functions = [_lookup_function(opset)] if any(node.domain == EXPORTED for node in graph.nodes) else []
    if functions:
        opsets.append(helper.make_opsetid(EXPORTED, 1))
    return helper.make_model(
        body, opset_imports=opsets, functions=functions, ir_version=IR_VERSIONS[opset], producer_name=PRODUCER
    )


def _information(name: str, value: Value[TensorType]) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(value.type.element.dtype)
    return helper.make_tensor_value_info(name, element, value.type.shape)


def export(module: Module, path: Path) -> None:
    """Write the ONNX model of a module, whole or not at all; see `export_model`."""
    data = export_model(module, path.stem).SerializeToString()
    write_atomically(path, lambda file: file.write(data))


def _lookup_function(opset: int) -> onnx.FunctionProto:
    """Lookup(data, table) = table[data + entries / 2]; the attributes say what the result stands for."""
    nodes = [
        helper.make_node("Cast", ["data"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Size", ["table"], ["entries"]),
        helper.make_node("Constant", [], ["two"], value=helper.make_tensor("two", TensorProto.INT64, [], [2])),
        helper.make_node("Div", ["entries", "two"], ["offset"]),
        helper.make_node("Add", ["wide", "offset"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["result"]),
    ]
    return helper.make_function(
        EXPORTED,
        "Lookup",
        ["data", "table"],
        ["result"],
        nodes,
        [helper.make_opsetid("", opset)],
        attributes=["scale", "zero_point"],
    )

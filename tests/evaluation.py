"""One operation as a whole module: built, verified, printed, parsed again and executed, so tests see what users run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from accelc.dialects.builtin import ReturnOp
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module, Operation
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.printer import elided_constants, print_module
from accelc.dialects.core.types import I8, ElementType, TensorType, scalar_type
from accelc.dialects.core.verifier import verify
from accelc.dialects.quant.types import QuantizedType
from accelc.dialects.registry import CONTEXT


@dataclass(frozen=True)
class Operand:
    """An array as an operand: an argument or a constant, of its own element type or of a given one."""

    array: np.ndarray
    element: ElementType | None = None
    constant: bool = False


def i8(scale: float, zero_point: int) -> QuantizedType:
    """An 8-bit type."""
    return QuantizedType(I8, scale, zero_point)


def constant(array: Any) -> Operand:
    """A constant operand."""
    return Operand(np.asarray(array), constant=True)


def evaluate(
    op_class: type[Operation], *operands: np.ndarray | Operand, out: ElementType | None = None, **attributes: Any
) -> np.ndarray:
    """The result of one operation; `out` is the result's element type where operands do not determine it."""
    module, op = module_of(op_class, *operands, out=out, **attributes)
    verify(module)
    again = parse_module(print_module(module), CONTEXT, constants=elided_constants(module))
    verify(again)
    assert print_module(again) == print_module(module)
    arrays = [operand.array if isinstance(operand, Operand) else operand for operand in operands]
    result = run(again, {f"x{i}": a for i, a in enumerate(arrays) if not _is_constant(operands[i])})["output0"]
    assert result.shape == op.result.type.shape
    assert result.dtype == op.result.type.element.dtype
    return result


def module_of(
    op_class: type[Operation], *operands: np.ndarray | Operand, out: ElementType | None = None, **attributes: Any
) -> tuple[Module, Operation]:
    """A module whose @main is one operation, and that operation; not verified."""
    module = Module()
    items = [operand if isinstance(operand, Operand) else Operand(operand) for operand in operands]
    types = [TensorType(i.array.shape, i.element or scalar_type(i.array.dtype)) for i in items]
    arguments = [(f"x{i}", t) for i, t in enumerate(types) if not items[i].constant]
    function = module.add_function("main", arguments, ())
    named = {argument.name: argument for argument in function.arguments}
    values = [
        module.add_constant(f"c{i}", item.array, types[i]) if item.constant else named[f"x{i}"]
        for i, item in enumerate(items)
    ]
    result_types = None
    if out is not None:
        probe = op_class(values, (), attributes)
        result_types = [TensorType(probe.expected_shape(), out)]
    op = function.body.append(op_class.build(*values, result_types=result_types, **attributes))
    function.body.append(ReturnOp.build(op.result))
    function.result_types = (op.result.type,)
    return module, op


def onnx_result(kind: str, *inputs: np.ndarray, opset: int = 17, **attributes: Any) -> np.ndarray:
    """What onnxruntime computes for one ONNX node; the first input is fed, the others are initializers."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(kind, names, ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        kind,
        [helper.make_tensor_value_info("x0", helper.np_dtype_to_tensor_dtype(inputs[0].dtype), inputs[0].shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in list(zip(names, inputs, strict=True))[1:]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x0": inputs[0]})[0]


def nchw(image: np.ndarray) -> np.ndarray:
    """NHWC to NCHW."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


def nhwc(image: np.ndarray) -> np.ndarray:
    """NCHW to NHWC."""
    return np.ascontiguousarray(image.transpose(0, 2, 3, 1))


def half_even(numerator: int, denominator: int) -> int:
    """The integer nearest to an exact fraction, ties to even, without any float."""
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))


def _is_constant(operand: np.ndarray | Operand) -> bool:
    return isinstance(operand, Operand) and operand.constant

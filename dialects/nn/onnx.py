"""Operators of the ONNX standard that only the host computes, and calls of the functions that hold them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np

from ..core.diagnostics import CompileError
from ..core.fields import attribute, list_attribute, variadic_operand, variadic_result
from ..core.interpreter import run_function
from ..core.operation import Constant, Function, Operation, Pure
from ..core.types import Array, ScalarType, TensorType, scalar_type
from .inference import infer_shapes
from .onnx_attributes import HOST_LIMIT, check_extents, read_parameters
from .reference import EVALUATION_ERRORS, evaluator

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators whose results differ from run to run."""

_REFUSED = RANDOM | {"Dropout", "ImageDecoder"}

_GRAPHS = frozenset({"GRAPH", "GRAPHS"})

_SMALL = 1024
"""Constants up to this size may hold a shape that inference needs; larger ones are only declared."""


class OnnxOp(Operation):
    """One node of the ONNX standard, computed by the reference evaluator of the onnx package.

    `parameters` are its attributes as a JSON object of numbers, texts and lists of them. The positions of the node's
    inputs and outputs that are absent stand in `absent_inputs` and `absent_outputs`; all others are here in order, of
    any numeric type. The result types are exactly those that the standard's shape inference finds from the types of the
    operands and the data of small constants: a node whose shapes depend on other data cannot be written down.
    """

    name = "nn.onnx"
    traits = frozenset({Pure})

    inputs = variadic_operand(TensorType)
    operator = attribute(str)
    opset = attribute(int)
    parameters = attribute(str, default="{}")
    absent_inputs = list_attribute(int, default=())
    absent_outputs = list_attribute(int, default=())
    outputs = variadic_result(TensorType)

    def verify(self) -> None:
        expected = self.inferred(len(self.results))
        actual = tuple(value.type for value in self.outputs)
        if actual != expected:
            found, wanted = (", ".join(map(str, types)) for types in (actual, expected))
            raise self.error(f"results are ({found}), expected ({wanted})")

    def inferred(self, count: int) -> tuple[TensorType, ...]:
        """The result types if it has so many; a located CompileError where they cannot be told."""
        known = tuple(
            (str(value.array.dtype), value.array.shape, value.array.tobytes())
            if isinstance(value, Constant) and value.array.size <= _SMALL
            else None
            for value in self.inputs
        )
        types = tuple(value.type for value in self.inputs)
        try:
            return _inferred(self._node, types, known, count)
        except ValueError as error:
            raise self.error(str(error)) from None

    def evaluate(self, *arrays: Array) -> tuple[Array, ...]:
        names = [name for name in _names("i", self._node[3], len(arrays)) if name]
        try:
            with np.errstate(all="ignore"):
                found = _evaluator(self._node, len(arrays), len(self.results)).run(
                    None, dict(zip(names, arrays, strict=True))
                )
        except EVALUATION_ERRORS as error:
            raise ValueError(f"{self.operator}: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
        return tuple(self._checked(array, result.type) for array, result in zip(found, self.outputs, strict=True))

    @property
    def _node(self) -> tuple[str, int, str, tuple[int, ...], tuple[int, ...]]:
        return self.operator, self.opset, self.parameters, self.absent_inputs, self.absent_outputs

    def _checked(self, result: Any, type: TensorType) -> Array:
        array = np.asarray(result)
        if array.shape != type.shape or array.dtype.kind != type.element.dtype.kind:
            raise ValueError(f"{self.operator} gives {array.dtype}{list(array.shape)}, expected {type}")
        return np.ascontiguousarray(array, type.element.dtype).reshape(type.shape)


class HostOp(Operation):
    """Runs another function of the module on the host: operands are its arguments, results what it returns."""

    name = "nn.host"
    traits = frozenset({Pure})

    inputs = variadic_operand(TensorType)
    callee = attribute(str)
    outputs = variadic_result(TensorType)

    def verify(self) -> None:
        if self.parent is None:
            return
        function = self.module.functions.get(self.callee)
        if function is None or function is self.function:
            raise self.error(f"calls @{self.callee}, expected another function of the module")
        expected = tuple(argument.type for argument in function.arguments), function.result_types
        actual = tuple(v.type for v in self.inputs), tuple(v.type for v in self.outputs)
        if actual != expected:
            takes, gives = (", ".join(map(str, types)) for types in expected)
            raise self.error(f"@{self.callee} takes ({takes}) and returns ({gives})")
        check_host_function(function)

    def evaluate(self, *arrays: Array) -> tuple[Array, ...]:
        return call_host(self.module.functions[self.callee], arrays)


def call_host(function: Function, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The results of a host function on its arguments in order."""
    names = [str(argument.name) for argument in function.arguments]
    with np.errstate(all="ignore"):
        return tuple(run_function(function, dict(zip(names, arrays, strict=True))).values())


def host_word(op: Operation) -> str:
    """An operation of the host in the user's words: the ONNX operator and the node."""
    kind = op.operator if isinstance(op, OnnxOp) else op.name.removeprefix("nn.")
    return f"{kind} '{op.location.layer}'" if op.location.nodes else kind


def check_host_function(function: Function) -> None:
    """Raise CompileError unless a function holds float nn operations of bounded size only: what the host may run."""
    for op in function.body:
        if not op.name.startswith(("nn.", "return")) or isinstance(op, HostOp):
            raise op.error("stands in a function of the host, expected nn operations only")
        for value in (*op.operands, *op.results):
            if not isinstance(value.type, TensorType) or not isinstance(value.type.element, ScalarType):
                raise op.error(f"works on {value.type} in a function of the host, expected tensors of numbers")
            if value.type.size > HOST_LIMIT:
                raise op.error(f"works on {value.type} on the host, at most {HOST_LIMIT} elements are accepted")


def _names(letter: str, absent: Sequence[int], count: int) -> list[str]:
    """Names of `count` values that are present, empty ones between them at the positions that are absent."""
    names: list[str] = []
    gaps = frozenset(absent)
    while count or len(names) in gaps:
        names.append("" if len(names) in gaps else f"{letter}{len(names)}")
        count -= bool(names[-1])
    return names


@lru_cache(maxsize=1024)
def _proto(node: tuple[str, int, str, tuple[int, ...], tuple[int, ...]], inputs: int, outputs: int) -> Any:
    """The ONNX node; ValueError if the standard has no such node, or the host may not run it."""
    import onnx  # slow to import, and few modules need it

    operator, opset, parameters, absent_inputs, absent_outputs = node
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise ValueError(f"opset {opset} is unknown, expected 1 to {newest}")
    try:
        schema: Any = onnx.defs.get_schema(operator, opset, "")
    except (onnx.defs.SchemaError, TypeError):  # TypeError: the name has no UTF-8 form
        raise ValueError(f"ONNX has no operator '{operator}' in opset {opset}") from None
    kinds = {name: str(declared.type.name) for name, declared in schema.attributes.items()}
    if operator in _REFUSED or schema.deprecated or not _GRAPHS.isdisjoint(kinds.values()):
        raise ValueError(f"the host does not run '{operator}'")
    try:
        given = read_parameters(parameters, kinds)
    except ValueError as error:
        raise ValueError(f"'{operator}': {error}") from None
    attributes = [
        onnx.helper.make_attribute(name, value, attr_type=getattr(onnx.AttributeProto, kinds[name]))
        for name, value in given.items()
    ]
    names = (_names("i", absent_inputs, inputs), _names("o", absent_outputs, outputs))
    for what, found, low, high in (
        ("inputs", len(names[0]), schema.min_input, schema.max_input),
        ("outputs", len(names[1]), schema.min_output, schema.max_output),
    ):
        if not low <= found <= high:
            raise ValueError(f"'{operator}' has {found} {what}, expected {low if low == high else f'{low} to {high}'}")
    proto = onnx.helper.make_node(operator, *names)
    proto.attribute.extend(attributes)
    return proto


@lru_cache(maxsize=256)
def _evaluator(node: tuple[Any, ...], inputs: int, outputs: int) -> Any:
    return evaluator(_proto(cast(Any, node), inputs, outputs), node[1])


@lru_cache(maxsize=1024)
def _inferred(
    node: tuple[str, int, str, tuple[int, ...], tuple[int, ...]],
    types: tuple[TensorType, ...],
    known: tuple[tuple[str, tuple[int, ...], bytes] | None, ...],
    count: int,
) -> tuple[TensorType, ...]:
    """The result types of a node; ValueError with the reason where they cannot be told."""
    import onnx
    from onnx import helper, numpy_helper

    proto = _proto(node, len(types), count)
    try:
        check_extents({each.name: helper.get_attribute_value(each) for each in proto.attribute}, types)
    except ValueError as error:
        raise ValueError(f"'{node[0]}': {error}") from None
    model = onnx.ModelProto(ir_version=onnx.IR_VERSION)
    model.opset_import.add(domain="", version=node[1])
    model.graph.name = "node"
    model.graph.node.append(proto)
    present = [name for name in proto.input if name]
    for name, type, data in zip(present, types, known, strict=True):
        if data is None:
            element = helper.np_dtype_to_tensor_dtype(type.element.dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, element, type.shape))
        else:
            array = np.frombuffer(data[2], np.dtype(data[0])).reshape(data[1])
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output if name)
    try:
        found = infer_shapes(model, strict=True).graph.output
    except ValueError as error:
        raise ValueError(f"'{node[0]}': {error}") from None
    return tuple(_type_of(node[0], output) for output in found)


def _type_of(operator: str, output: Any) -> TensorType:
    from onnx import helper

    kind = output.type.tensor_type
    dims = kind.shape.dim
    if not kind.HasField("shape") or not all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in dims):
        raise ValueError(f"the size of the result of '{operator}' depends on data, or is 0")
    shape = tuple(int(dim.dim_value) for dim in dims)
    try:
        element = scalar_type(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"the result of '{operator}' is not a tensor of numbers") from None
    if math.prod(shape) > HOST_LIMIT:
        raise ValueError(f"the result of '{operator}' has {math.prod(shape)} elements, at most {HOST_LIMIT}")
    return TensorType(shape, element)


def check_host_node(op: OnnxOp) -> None:
    """Raise CompileError if the reference evaluator cannot run this operation."""
    try:
        _evaluator(op._node, len(op.operands), len(op.results))  # pyright: ignore[reportPrivateUsage]
    except (NotImplementedError, *EVALUATION_ERRORS):
        raise CompileError(f"'{op.operator}' is not in the reference evaluator of the onnx package") from None

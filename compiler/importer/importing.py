"""The importer: an ONNX model becomes a module whose @main computes it with nn operations on float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from ...dialects.builtin import ReturnOp
from ...dialects.core.diagnostics import CompileError, Diagnostic
from ...dialects.core.operation import BlockArgument, Function, Module, Value
from ...dialects.core.types import F32, Array, TensorType, scalar_type
from ...dialects.nn.cast import CastOp
from .binding import bind_inputs
from .branches import with_branch
from .folding import fold, folds
from .hosting import erase_behind, lower_to_host
from .kinds import check_kinds, kind_of, result_kind
from .lowering import ConstantPool, Imported, Known, Lowering, Unsupported
from .model import GraphInput, Model, Node
from .ordering import ordered_nodes
from .reading import read_model
from .refusals import REASONS, reason_of
from .schema import check_all_read, check_node, opset_of_operator
from .signature import inferred_types, resolve_inputs
from .table import CONTROL_FLOW, find_operator
from .tensors import ELEMENT_LIMIT


def import_model(
    source: Path | bytes | ModelProto,
    *,
    batch: int = 1,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_values: Mapping[str, Any] | None = None,
    allow_host: bool = False,
) -> Module:
    """Import a model; inputs have the `input_shapes` given by name, other symbolic first dimensions become `batch`.

    Those in `input_values` are no inputs but constants. Of an If whose condition is known the branch that it takes is
    imported.

    @main takes the model's inputs and returns its outputs under their names, shapes and layouts (attribute `outputs`).
    Every operation carries the ONNX node it came from. All operations are float32 on NHWC images, with transposes
    around each where ONNX has NCHW. With `allow_host` nodes that are not supported become nn.onnx, of any number types.

    Raises CompileError with one message: for an unreadable or malformed model where the fault is, for unsupported
    nodes a list of all of them with their reasons.
    """
    model = bind_inputs(read_model(source), input_values or {})
    inputs = resolve_inputs(model, batch, input_shapes)
    return _Importer(model, inputs, allow_host).run()


_FLOATS = frozenset({"float16", "bfloat16", "float64"})
"""What an output may be declared as while it is computed in float32."""

FOLDED_LIMIT, FOLDED_FACTOR = 2**30, 8
"""Results on constants may take 1 GiB and 8 times the model's initializers in all."""


class _Importer:
    """One import: what every ONNX name stands for, and what could not be imported."""

    def __init__(self, model: Model, inputs: Sequence[GraphInput], allow_host: bool) -> None:
        self.model = model
        self.allow_host = allow_host
        self.inputs = inputs
        self.module = Module()
        self.pool = ConstantPool(self.module)
        arguments = [(value.name, TensorType(_sizes(value), scalar_type(value.dtype))) for value in inputs]
        self.function: Function = self.module.add_function("main", arguments, (), {"outputs": model.outputs})
        self.values: dict[str, Imported | None] = {
            name: Known(name, array) for name, array in model.initializers.items()
        }
        self.values.update({str(argument.name): argument for argument in self.function.arguments})
        self.kinds: dict[str, str] = {}
        """The numpy types of computed float32 values that are integers or truth values in ONNX, by name."""
        self.stored = sum(array.nbytes for array in model.initializers.values())
        self.folded = 0
        self.failures: list[tuple[Node, str]] = []
        self.hostable = 0
        """How many of the failures would be none if the host was allowed."""

    def run(self) -> Module:
        """Lower all nodes that the outputs need, then end the function."""
        done: set[int] = set()
        while not self.lower_until_branch(done):
            pass
        if self.failures:
            raise self.failure()
        outputs = self.model.outputs
        if twice := next((name for index, name in enumerate(outputs) if name in outputs[:index]), None):
            raise CompileError(f"{self.model.source}: output '{twice}' is declared twice")
        returned = [self.returned(name) for name in outputs]
        self.function.result_types = tuple(value.type for value in returned)
        self.function.body.append(ReturnOp.build(*returned))
        self.module.drop_unused_constants()
        return self.module

    def lower_until_branch(self, done: set[int]) -> bool:
        """Lower what is not `done` yet, up to an If that its branch takes the place of; True if there was none."""
        nodes = ordered_nodes(self.model)
        used = {name for node in nodes for name in node.inputs} | set(self.model.outputs)
        for node in nodes:
            if id(node) in done:
                continue
            if node.op_type == "If" and not node.domain and len(node.inputs) == 1:
                condition = self.values[node.inputs[0]]
                if isinstance(condition, Known):
                    known = self.model.initializers
                    self.model = with_branch(self.model, node, condition.array)
                    added = [name for name in self.model.initializers if name not in known]
                    self.values.update({name: Known(name, self.model.initializers[name]) for name in added})
                    return False
            self.values.update(zip(node.outputs, self.outputs_of(_with_used_outputs(node, used)), strict=False))
            done.add(id(node))
        return True

    def outputs_of(self, node: Node) -> Sequence[Imported | None]:
        """What the outputs of a node stand for; for a failed node, stand-ins that let the next ones be checked."""
        try:
            return self.lowered(node)
        except Unsupported as reason:
            self.failures.append((node, str(reason)))
        except CompileError:
            # After a failure the inputs are stand-ins, and what follows from them is not the user's fault.
            if not self.failures:
                raise
        return self.stand_ins(node)

    def lowered(self, node: Node) -> Sequence[Imported | None]:
        """Fold or lower one node."""
        inputs = [self.values[name] if name else None for name in node.inputs]
        unknown = any(name and value is None for name, value in zip(node.inputs, inputs, strict=True))
        block = self.function.body
        last = block.last
        try:
            return self.lowered_to_nn(node, inputs, unknown)
        except Unsupported as reason:
            if unknown or node.domain or node.subgraphs:
                raise
            erase_behind(last, block)
            try:
                results = lower_to_host(node, inputs, self.kinds_of(node, inputs), block, self.module)
            except Unsupported as why:
                raise Unsupported(f"{reason}; {why}" if self.allow_host else str(reason)) from None
            if self.allow_host:
                return results
            erase_behind(last, block)
            self.hostable += 1
            raise

    def lowered_to_nn(self, node: Node, inputs: Sequence[Imported | None], unknown: bool) -> Sequence[Imported | None]:
        """Fold a node or lower it to nn operations; `unknown` if an input is not even known by type."""
        _check_supported(node)
        operator = find_operator(node.op_type, node.domain)
        if not unknown and folds(node, inputs):
            check_node(node)
            known = [value if isinstance(value, Known) else None for value in inputs]
            try:
                return self.counted(node, fold(node, known))
            except Unsupported:
                if operator is None:
                    raise
        if operator is None:
            raise Unsupported(reason_of(node.op_type))
        if not operator.first <= node.opset <= operator.last:
            raise Unsupported(f"opset {node.opset} is not supported, expected {operator.opsets}")
        check_node(node)
        if unknown:
            return self.stand_ins(node)
        kinds = self.kinds_of(node, inputs)
        check_kinds(node, inputs, kinds)
        lowering = Lowering(node, inputs, self.function.body, self.pool, kinds)
        node.attributes.forget()
        result = operator.lower(lowering)
        check_all_read(lowering, operator.ignored)
        kind = result_kind(node, kinds)
        if kind is not None:
            self.kinds.update(dict.fromkeys(filter(None, node.outputs), kind))
        return result if isinstance(result, Sequence) else [result]

    def kinds_of(self, node: Node, inputs: Sequence[Imported | None]) -> list[str | None]:
        """The kind of every input of a node."""
        return [self.kinds.get(name) or kind_of(value) for name, value in zip(node.inputs, inputs, strict=True)]

    def counted(self, node: Node, results: Sequence[Known | None]) -> Sequence[Known | None]:
        """The results of folding, unless all of them together take more memory than a model can have a use for."""
        self.folded += sum(each.array.nbytes for each in results if each and 0 not in each.array.strides)
        if self.folded > FOLDED_LIMIT + FOLDED_FACTOR * self.stored:
            raise node.error(f"takes {self.folded} bytes for the constants computed so far, too many for the model")
        return results

    def returned(self, name: str) -> Value[Any]:
        """The value of an output; known data becomes a constant of its own type."""
        value = self.values[name]
        if isinstance(value, Known):
            return self.module.add_constant(name, _with_one_nan(value.array))
        if value is None:
            raise CompileError(f"{self.model.source}: output '{name}' is not available")
        declared, made = self.model.output_types.get(name), value.type.element.dtype.name
        wanted = declared or self.kinds.get(name) or made
        if value.type.element == F32 and wanted != made and (wanted in _FLOATS or name in self.kinds):
            cast = CastOp.build(value, to=scalar_type(wanted).name)
            cast.location = value.defining_op.location if value.defining_op else cast.location
            return self.function.body.append(cast).result
        if declared not in (None, made):
            raise CompileError(f"{self.model.source}: output '{name}' is {declared}, expected {made}, which it becomes")
        return value

    def stand_ins(self, node: Node) -> Sequence[Imported | None]:
        """Values of the types that shape inference finds, None where it finds none or one that no value may have."""
        types = {name: type for name, type in self.types.items() if type.size <= ELEMENT_LIMIT}
        return [BlockArgument(types[name], name) if name in types else None for name in node.outputs]

    @cached_property
    def types(self) -> dict[str, TensorType]:
        """The types of values by shape inference; only computed after a failure."""
        return inferred_types(self.model, self.inputs)

    def failure(self) -> CompileError:
        """One error that lists every failed node."""
        count = len(self.failures)
        text = "1 node is not supported" if count == 1 else f"{count} nodes are not supported"
        notes = tuple(f"{node.op_type} '{node.label}': {reason}" for node, reason in self.failures)
        if self.hostable:
            which = "it" if count == 1 else "them" if self.hostable == count else f"{self.hostable} of them"
            notes = (*notes, f"--allow-host runs {which} on the host, in float")
        return CompileError(Diagnostic(f"{self.model.source}: {text}", notes=notes))


def _check_supported(node: Node) -> None:
    """What can be said of a node without its inputs."""
    if node.domain:
        if find_operator(node.op_type, node.domain) is None:
            reason = REASONS.get(node.op_type, f"the operator domain '{node.domain}' is not supported")
            raise Unsupported(reason)
        return
    if node.op_type in CONTROL_FLOW:
        raise Unsupported(reason_of(node.op_type))
    if node.subgraphs:
        raise Unsupported(f"the attribute '{node.subgraphs[0]}' holds a graph, which is not supported")
    since = opset_of_operator(node.op_type)
    if since is None:
        raise Unsupported("the operator is not part of the ONNX standard")
    if since > node.opset:
        raise Unsupported(f"the operator exists from opset {since} on, the model uses {node.opset}")


def _with_used_outputs(node: Node, used: set[str]) -> Node:
    """The node with empty names for outputs that nothing reads."""
    outputs = tuple(name if name in used else "" for name in node.outputs)
    return node if outputs == node.outputs else node.with_outputs(outputs)


def _sizes(value: GraphInput) -> tuple[int, ...]:
    return tuple(size for size in value.shape or () if isinstance(size, int))


def _with_one_nan(array: Array) -> Array:
    """The data with every NaN the one that text stands for: which one a computation gives depends on the CPU."""
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return array
    return np.where(np.isnan(array), array.dtype.type(np.nan), array)

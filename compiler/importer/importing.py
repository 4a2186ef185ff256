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
from ...dialects.core.types import F32, Array, TensorType, is_scalar, scalar_type
from ...dialects.nn.cast import CastOp
from .binding import bind_inputs
from .folding import fold, folds
from .hosting import erase_behind, lower_to_host
from .kinds import DYNAMIC, check_kinds, kind_of, result_kind
from .lowering import ConstantPool, Imported, Known, Lowering, Meaning, Run, Surroundings, Unsupported
from .model import Graph, GraphInput, Model, Node
from .reading import read_graph, read_model
from .refusals import FOLDED_ONLY, REASONS, reason_of
from .schema import check_all_read, check_node, exists, opset_of_operator
from .scopes import Scope
from .signature import inferred_types, resolve_inputs
from .table import find_operator
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
    imported, of a Loop whose course is known every iteration.

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


UNROLLED_LIMIT = 20_000
"""The most nodes that all branches and iterations may have together."""


class _Incomplete(Exception):  # noqa: N818 - the failure that it follows from is told
    """A graph within a node could not be imported."""


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
        self.stored = sum(array.nbytes for array in model.initializers.values())
        self.folded = 0
        self.failures: list[tuple[Node, str]] = []
        self.hostable = 0
        """How many of the failures would be none if the host was allowed."""
        self.unrolled = 0

    def run(self) -> Module:
        """Lower all nodes that the outputs need, then end the function."""
        arguments = {str(argument.name): Meaning(argument) for argument in self.function.arguments}
        graph = Graph(self.model.nodes, tuple(arguments), self.model.outputs, self.model.initializers)
        scope = Scope(graph, arguments)
        for name in graph.outputs:
            if not scope.defines(name):
                raise CompileError(f"{self.model.source}: output '{name}' is not defined by any node")
        self.lower(scope, graph.outputs)
        if self.failures:
            raise self.failure()
        outputs = self.model.outputs
        if twice := next((name for index, name in enumerate(outputs) if name in outputs[:index]), None):
            raise CompileError(f"{self.model.source}: output '{twice}' is declared twice")
        returned = [self.returned(name, scope.meaning(name)) for name in outputs]
        self.function.result_types = tuple(value.type for value in returned)
        self.function.body.append(ReturnOp.build(*returned))
        self.module.drop_unused_constants()
        return self.module

    def lower(self, scope: Scope, names: Sequence[str]) -> None:
        """Import what `names` need of a graph and of those around it, where it is not imported yet."""
        if scope.outer is not None:
            self.lower(scope.outer, [name for name in names if not scope.has(name)])
        for node in scope.missing(names):
            if id(node) in scope.done:
                continue
            if id(node) in scope.begun:
                raise node.error("depends on itself: its graph reads what it gives")
            scope.begun.add(id(node))
            if scope.outer is not None:
                self.lower(scope.outer, [name for name in node.inputs if name and not scope.has(name)])
            used = _with_used_outputs(node, scope.used)
            scope.bind(used, self.outputs_of(used, scope))
            scope.done.add(id(node))

    def outputs_of(self, node: Node, scope: Scope) -> Sequence[Meaning]:
        """What the outputs of a node stand for; for a failed node, stand-ins that let the next ones be checked."""
        try:
            return self.lowered(node, scope)
        except Unsupported as reason:
            if (failure := (node, str(reason))) not in self.failures:
                self.failures.append(failure)
        except _Incomplete:
            pass
        except CompileError:
            # After a failure the inputs are stand-ins, and what follows from them is not the user's fault.
            if not self.failures:
                raise
        return self.stand_ins(node)

    def lowered(self, node: Node, scope: Scope) -> Sequence[Meaning]:
        """Fold or lower one node."""
        meanings = [scope.meaning(name) if name else None for name in node.inputs]
        inputs = [each and each.value for each in meanings]
        kinds = [each and (each.kind or kind_of(each.value)) for each in meanings]
        unknown = any(each is not None and each.value is None for each in meanings)
        block = self.function.body
        last = block.last
        try:
            return self.lowered_to_nn(node, inputs, kinds, unknown, scope)
        except Unsupported as reason:
            if unknown or node.domain or node.subgraphs or DYNAMIC.intersection(filter(None, kinds)):
                raise
            erase_behind(last, block)
            try:
                results = lower_to_host(node, inputs, kinds, block, self.module)
            except Unsupported as why:
                raise Unsupported(f"{reason}; {why}" if self.allow_host else str(reason)) from None
            if self.allow_host:
                return [Meaning(value) for value in results]
            erase_behind(last, block)
            self.hostable += 1
            raise

    def runs(self, node: Node, scope: Scope) -> Run:
        """What imports a graph of the node, within the scope around it."""
        graphs: dict[str, Graph] = {}

        def run(name: str, inputs: Sequence[Meaning]) -> list[Meaning]:
            graph = graphs.setdefault(name, graphs.get(name) or read_graph(node, name, self.model))
            if len(graph.inputs) != len(inputs):
                raise node.error(f"'{name}' has {len(graph.inputs)} inputs, expected {len(inputs)}")
            self.unrolled += max(1, len(graph.nodes))
            if self.unrolled > UNROLLED_LIMIT:
                raise Unsupported(f"all iterations of loops take more than {UNROLLED_LIMIT} nodes")
            inner = Scope(graph, dict(zip(graph.inputs, inputs, strict=True)), scope)
            for output in graph.outputs:
                if not inner.defines(output):
                    raise node.error(f"output '{output}' of '{name}' is not defined by any node")
            self.lower(inner, graph.outputs)
            results = [inner.meaning(output) for output in graph.outputs]
            if any(result.value is None for result in results):
                raise _Incomplete
            return results

        return run

    def lowered_to_nn(
        self, node: Node, inputs: Sequence[Imported | None], kinds: Sequence[str | None], unknown: bool, scope: Scope
    ) -> Sequence[Meaning]:
        """Fold a node or lower it to nn operations; `unknown` if an input is not even known by type."""
        _check_supported(node)
        operator = find_operator(node.op_type, node.domain)
        if not unknown and folds(node, inputs):
            check_node(node)
            known = [value if isinstance(value, Known) else None for value in inputs]
            try:
                return [Meaning(each) for each in self.counted(node, fold(node, known))]
            except Unsupported:
                if operator is None:
                    raise
        if operator is None and unknown and node.op_type in FOLDED_ONLY:
            return self.stand_ins(node)
        if operator is None:
            raise Unsupported(reason_of(node.op_type))
        if not operator.first <= node.opset <= operator.last:
            raise Unsupported(f"opset {node.opset} is not supported, expected {operator.opsets}")
        check_node(node)
        if unknown:
            return self.stand_ins(node)
        check_kinds(node, inputs, kinds)
        around = Surroundings(frozenset(scope.graph.outputs), self.runs(node, scope))
        lowering = Lowering(node, inputs, self.function.body, self.pool, kinds, around)
        node.attributes.forget()
        found = operator.lower(lowering)
        results = found if isinstance(found, Sequence) else [found]
        if node.subgraphs and len(results) < len(node.outputs):
            raise node.error(f"has {len(node.outputs)} outputs, its graph gives {len(results)}")
        check_all_read(lowering, operator.ignored)
        kind = result_kind(node, kinds)
        return [each if isinstance(each, Meaning) else Meaning(each, kind) for each in results]

    def counted(self, node: Node, results: Sequence[Known | None]) -> Sequence[Known | None]:
        """The results of folding, unless all of them together take more memory than a model can have a use for."""
        self.folded += sum(each.array.nbytes for each in results if each and 0 not in each.array.strides)
        if self.folded > FOLDED_LIMIT + FOLDED_FACTOR * self.stored:
            raise node.error(f"takes {self.folded} bytes for the constants computed so far, too many for the model")
        return results

    def returned(self, name: str, meaning: Meaning) -> Value[Any]:
        """The value of an output; known data becomes a constant of its own type."""
        value, kind = meaning.value, meaning.kind
        if isinstance(value, Known):
            return self.module.add_constant(name, _with_one_nan(value.array))
        if value is None:
            raise CompileError(f"{self.model.source}: output '{name}' is not available")
        if kind in DYNAMIC:
            raise CompileError(
                f"{self.model.source}: output '{name}' has a scale that depends on the data of a run, expected numbers"
            )
        declared, made = self.model.output_types.get(name), value.type.element.dtype.name
        if declared is not None and not is_scalar(declared):
            raise CompileError(f"{self.model.source}: output '{name}' is {declared}, expected {kind or made}")
        wanted = declared or kind or made
        if value.type.element == F32 and wanted != made and (wanted in _FLOATS or kind is not None):
            cast = CastOp.build(value, to=scalar_type(wanted).name)
            cast.location = value.defining_op.location if value.defining_op else cast.location
            return self.function.body.append(cast).result
        if declared not in (None, made):
            raise CompileError(f"{self.model.source}: output '{name}' is {declared}, expected {made}, which it becomes")
        return value

    def stand_ins(self, node: Node) -> Sequence[Meaning]:
        """Values of the types that shape inference finds, None where it finds none or one that no value may have."""
        types = {name: type for name, type in self.types.items() if type.size <= ELEMENT_LIMIT}
        return [Meaning(BlockArgument(types[name], name) if name in types else None) for name in node.outputs]

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
    if node.subgraphs and find_operator(node.op_type) is None:
        what = f"the attribute '{node.subgraphs[0]}' holds a graph, which is not supported"
        raise Unsupported(REASONS.get(node.op_type, what))
    if exists(node.op_type, node.opset):
        return
    since = opset_of_operator(node.op_type)
    if since is None:
        raise Unsupported(
            "the operator is not part of the ONNX standard: the exporter left it as it was, replace the layer it is "
            "from"
        )
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

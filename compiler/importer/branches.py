"""An If whose condition is known at import: the nodes of the branch that it takes stand in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnx import AttributeProto, GraphProto, NodeProto, helper

from ...dialects.core.types import Array
from .model import Model, Node
from .reading import read_nodes
from .tensors import array_of


def with_branch(model: Model, node: Node, condition: Array) -> Model:
    """The model with an If replaced by the branch for `condition`, of whose values some get other names.

    Names stay as they are unless the model has them already. Raises CompileError for a condition that is no truth value
    and a branch that does not fit the node.
    """
    if condition.size != 1 or condition.dtype != bool:
        shape = list(condition.shape)
        raise node.error(f"the condition is {condition.dtype}{shape}, expected bool[] or bool[1]")
    kind = "then_branch" if condition.reshape(-1)[0] else "else_branch"
    found = [each.g for each in node.proto.attribute if each.name == kind and each.type == AttributeProto.GRAPH]
    if not found:
        raise node.error(f"the attribute '{kind}' is missing")
    branch = GraphProto()
    branch.CopyFrom(found[0])
    outputs = [str(value.name) for value in branch.output]
    if len(outputs) != len(node.outputs):
        raise node.error(f"'{kind}' has {len(outputs)} outputs, the node {len(node.outputs)}")
    if branch.input or branch.sparse_initializer:
        raise node.error(f"'{kind}' has {'inputs' if branch.input else 'sparse initializers'}, expected none")
    names = _fresh_names(model, node, branch)
    _rename(branch, names)
    ends = [
        helper.make_node("Identity", [names.get(inner, inner)], [outer], name=f"{node.label}/{outer}")
        for inner, outer in zip(outputs, node.outputs, strict=True)
        if outer
    ]
    initializers = {str(each.name): array_of(each, model.source, model.folder) for each in branch.initializer}
    nodes = read_nodes([*branch.node, *ends], model)
    place = next(index for index, each in enumerate(model.nodes) if each is node)
    return replace(
        model,
        nodes=(*model.nodes[:place], *nodes, *model.nodes[place + 1 :]),
        initializers={**model.initializers, **initializers},
    )


def _fresh_names(model: Model, node: Node, branch: GraphProto) -> dict[str, str]:
    """New names for what the branch defines under a name that the model has: both branches may use the same ones."""
    taken = {*model.initializers, *(value.name for value in model.inputs)}
    taken.update(name for each in model.nodes for name in each.outputs)
    defined = [*(str(tensor.name) for tensor in branch.initializer), *(n for each in branch.node for n in each.output)]
    names: dict[str, str] = {}
    for name in map(str, filter(None, defined)):
        fresh, count = name, 0
        while fresh in taken:
            count += 1
            fresh = f"{node.label}/{name}.{count}"
        if fresh != name:
            names[name] = fresh
    return names


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename values everywhere in a graph and in the graphs of its nodes, which see them too."""
    if not names:
        return
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in graph.output:
        value.name = names.get(value.name, value.name)
    for each in graph.node:
        _rename_node(each, names)


def _rename_node(node: NodeProto, names: Mapping[str, str]) -> None:
    for field in (node.input, node.output):
        field[:] = [names.get(name, name) for name in field]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            _rename(graph, names)

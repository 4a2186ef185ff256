"""Which nodes a model needs, in an order in which every value is defined before it is read."""

from __future__ import annotations

from ...dialects.core.diagnostics import CompileError, Diagnostic, Location
from .model import Model, Node


def ordered_nodes(model: Model) -> list[Node]:
    """The nodes that the outputs depend on, in the order of the file where that is possible.

    Raises CompileError for a value that is defined twice, read but never defined, or defined through itself.
    """
    given = {*model.initializers, *(value.name for value in model.inputs)}
    producer = _producers(model, given)
    position = {id(node): index for index, node in enumerate(model.nodes)}
    order: list[Node] = []
    state: dict[int, bool] = {}  # False: being visited, True: placed
    for output in model.outputs:
        if output not in given and output not in producer:
            raise CompileError(f"{model.source}: output '{output}' is not defined by any node")
        stack = [producer[output]] if output in producer else []
        while stack:
            node = stack[-1]
            if id(node) in state:
                stack.pop()
                if not state[id(node)]:
                    state[id(node)] = True
                    order.append(node)
                continue
            state[id(node)] = False
            for name in filter(None, node.inputs):
                source = producer.get(name)
                if source is None:
                    if name not in given:
                        raise node.error(f"reads '{name}', which nothing defines")
                elif id(source) not in state:
                    stack.append(source)
                elif not state[id(source)]:
                    raise _cycle(node, producer)
    # A dependence order; where the file is sorted already, its own order is one as well and is kept.
    by_file = sorted(order, key=lambda node: position[id(node)])
    return by_file if _is_sorted(by_file, given) else order


def _producers(model: Model, given: set[str]) -> dict[str, Node]:
    producer: dict[str, Node] = {}
    for node in model.nodes:
        for name in filter(None, node.outputs):
            if name in given:
                raise node.error(f"defines '{name}', which is an input or initializer of the model")
            if name in producer:
                raise node.error(f"defines '{name}', which node '{producer[name].label}' defines already")
            producer[name] = node
    return producer


def _is_sorted(nodes: list[Node], given: set[str]) -> bool:
    known = set(given)
    for node in nodes:
        if any(name and name not in known for name in node.inputs):
            return False
        known.update(node.outputs)
    return True


def _cycle(start: Node, producer: dict[str, Node]) -> CompileError:
    """The error for a cycle that `start` is on: walk backwards until a node comes again."""
    paths: list[tuple[Node, list[Node]]] = [(start, [start])]
    seen: set[int] = set()
    while paths:
        node, path = paths.pop()
        for name in node.inputs:
            source = producer.get(name)
            if source is start:
                labels = tuple(step.label for step in reversed(path))
                text = " -> ".join([*labels, labels[0]])
                return CompileError(
                    Diagnostic(f"'{start.op_type}': depends on itself: {text}", Location((start.label,)))
                )
            if source is not None and id(source) not in seen:
                seen.add(id(source))
                paths.append((source, [*path, source]))
    return start.error("depends on itself")

"""Which nodes of a graph its values need, in an order in which every value is defined before it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ...dialects.core.diagnostics import CompileError, Diagnostic, Location
from .model import Node


def ordered_nodes(
    nodes: Sequence[Node], wanted: Iterable[str], producer: Mapping[str, Node], given: Callable[[str], bool]
) -> list[Node]:
    """The nodes that `wanted` depend on, in the order of the file where that is possible.

    `given` are the names that need no node. Raises CompileError for a value that nothing defines, or that is defined
    through itself.
    """
    needed: list[Node] = []
    state: dict[int, bool] = {}  # False: being visited, True: placed
    for name in wanted:
        stack = [] if given(name) else [producer[name]]
        while stack:
            node = stack[-1]
            if id(node) in state:
                stack.pop()
                if not state[id(node)]:
                    state[id(node)] = True
                    needed.append(node)
                continue
            state[id(node)] = False
            for read in filter(None, node.inputs):
                if given(read):
                    continue
                source = producer.get(read)
                if source is None:
                    raise node.error(f"reads '{read}', which nothing defines")
                if id(source) not in state:
                    stack.append(source)
                elif not state[id(source)]:
                    raise _cycle(node, producer)
    # A dependence order; where the file is sorted already, its own order is one as well and is kept.
    position = {id(node): index for index, node in enumerate(nodes)} if len(needed) > 1 else {}
    by_file = sorted(needed, key=lambda node: position.get(id(node), 0))
    return by_file if _is_sorted(by_file, given) else needed


def producers(nodes: Sequence[Node], given: Callable[[str], bool]) -> dict[str, Node]:
    """The node that defines each name. Raises CompileError for a name that has two definitions."""
    producer: dict[str, Node] = {}
    for node in nodes:
        for name in filter(None, node.outputs):
            if given(name):
                raise node.error(f"defines '{name}', which is an input or initializer of the model")
            if name in producer:
                raise node.error(f"defines '{name}', which node '{producer[name].label}' defines already")
            producer[name] = node
    return producer


def names_read(nodes: Sequence[Node], outputs: Sequence[str], producer: Mapping[str, Node]) -> set[str]:
    """What `outputs` and the nodes behind them read; what the graphs of a node may read counts as read."""
    read = set(outputs)
    stack = [producer[name] for name in outputs if name in producer]
    seen = set(map(id, stack))
    while stack:
        node = stack.pop()
        for name in (*node.inputs, *node.captured):
            read.add(name)
            source = producer.get(name)
            if source is not None and id(source) not in seen:
                seen.add(id(source))
                stack.append(source)
    return read


def _is_sorted(nodes: list[Node], given: Callable[[str], bool]) -> bool:
    known: set[str] = set()
    for node in nodes:
        if any(name and name not in known and not given(name) for name in node.inputs):
            return False
        known.update(node.outputs)
    return True


def _cycle(start: Node, producer: Mapping[str, Node]) -> CompileError:
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

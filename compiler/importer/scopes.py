"""What the names of a graph stand for: the model's own graph, or one within a node, which sees those around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .lowering import Known, Meaning
from .model import Graph, Node
from .ordering import names_read, ordered_nodes, producers


class Scope:
    """One import of a graph: a loop imports its body once for every iteration, with other meanings of its inputs."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Meaning], outer: Scope | None = None) -> None:
        self.graph = graph
        self.outer = outer
        self.meanings: dict[str, Meaning] = {
            name: Meaning(Known(name, array)) for name, array in graph.initializers.items()
        }
        self.meanings.update(inputs)
        self.producer = producers(graph.nodes, self.meanings.__contains__)
        self.used = names_read(graph.nodes, graph.outputs, self.producer)
        self.begun: set[int] = set()
        self.done: set[int] = set()

    def meaning(self, name: str) -> Meaning:
        """What a name stands for here; the innermost graph that defines it counts."""
        own = self.meanings.get(name)
        if own is not None or self.outer is None:
            return self.meanings[name]
        return self.outer.meaning(name)

    def bind(self, node: Node, meanings: Sequence[Meaning]) -> None:
        """Give the outputs of a node their meaning."""
        self.meanings.update(zip(node.outputs, meanings, strict=False))

    def has(self, name: str) -> bool:
        """True if the name is one of this graph's own."""
        return name in self.meanings or name in self.producer

    def defines(self, name: str) -> bool:
        """True if this graph or one around it gives the name a meaning."""
        return self.has(name) or (self.outer is not None and self.outer.defines(name))

    def given(self, name: str) -> bool:
        """True for what no node of this graph has to be imported for."""
        return name in self.meanings or (name not in self.producer and self.defines(name))

    def missing(self, names: Sequence[str]) -> list[Node]:
        """The nodes of this graph that must be imported for `names`, in order."""
        return ordered_nodes(self.graph.nodes, names, self.producer, self.given)

"""An ONNX model as plain data: nodes with decoded attributes, initializers as arrays, inputs with their dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...dialects.core.diagnostics import CompileError, Diagnostic, Location
from ...dialects.core.types import Array

Attribute = int | float | str | Array | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | None
"""A decoded attribute; None stands for a kind nothing reads (graphs, types)."""


class Attributes(Mapping[str, Attribute]):
    """The attributes of a node, which remember what was asked for: the rest has had no effect."""

    def __init__(self, values: Mapping[str, Attribute]) -> None:
        self._values = dict(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Attribute:
        self.read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def unread(self) -> dict[str, Attribute]:
        """What nothing has asked for since the last `forget`."""
        return {name: value for name, value in self._values.items() if name not in self.read}

    def forget(self) -> None:
        """Start anew: nothing is read."""
        self.read.clear()


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the default domain or of another; empty names mark absent inputs and outputs.

    `subgraphs` names the attributes that hold graphs. `proto` is the original, for the checker and the evaluator.
    """

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    opset: int
    subgraphs: tuple[str, ...] = ()
    proto: Any = field(default=None, compare=False, repr=False)

    @property
    def captured(self) -> tuple[str, ...]:
        """What the graphs of the node read that they do not define; names of the graphs around it, if it is sound."""
        found: dict[str, None] = {}
        for attribute in self.proto.attribute if self.subgraphs else ():
            for graph in (attribute.g, *attribute.graphs):
                found.update(dict.fromkeys(_free_names(graph)))
        return tuple(found)

    @property
    def label(self) -> str:
        """The node's name, or `OpType:first_output` where it has none."""
        return self.name or f"{self.op_type}:{next(filter(None, self.outputs), '')}"

    @property
    def location(self) -> Location:
        """The location every operation made from this node carries."""
        return Location((self.label,))

    def with_outputs(self, outputs: tuple[str, ...]) -> Node:
        """The same node, under the same label, with other output names."""
        return replace(self, name=self.label, outputs=outputs)

    def error(self, message: str) -> CompileError:
        """A located error: this node is malformed."""
        return CompileError(Diagnostic(f"'{self.op_type}': {message}", self.location))

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def number(self, name: str, default: float) -> float:
        """A float attribute."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, (int, float)) else default

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, str) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, or None where the attribute is absent."""
        value = self.attributes.get(name)
        return tuple(int(item) for item in value) if isinstance(value, tuple) else None


def _free_names(graph: Any) -> dict[str, None]:
    """The names that a graph, and those of its nodes, read and do not define."""
    read: dict[str, None] = {}
    for node in graph.node:
        read.update(dict.fromkeys(map(str, node.input)))
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                read.update(_free_names(inner))
    read.update(dict.fromkeys(str(value.name) for value in graph.output))
    own = {str(each.name) for each in (*graph.input, *graph.initializer)}
    own.update(str(name) for node in graph.node for name in node.output)
    return {name: None for name in read if name and name not in own}


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph of a model or of a node: `inputs` and `outputs` are names, `initializers` its constants."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    initializers: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class GraphInput:
    """A graph input: numpy type name and dimensions; a symbolic dimension is its name or '?'. None: no shape given."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True)
class Model:
    """A whole model: `source` is the word for it in messages (the path, or 'model').

    `output_types` are numpy type names, of the outputs that declare one; `folder` is where external data may lie.
    """

    source: str
    opset: int
    nodes: tuple[Node, ...]
    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]
    initializers: Mapping[str, Array]
    output_types: Mapping[str, str]
    folder: Path | None = None
    proto: Any = field(default=None, compare=False, repr=False)

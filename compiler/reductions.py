"""Smaller versions of an ONNX model or of IR text: what `accelc-reduce` tries, largest steps first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ..dialects.nn.inference import infer_shapes
from .shrinking import with_smaller_sizes

Values = dict[str, ValueInfoProto]


def onnx_size(model: ModelProto) -> tuple[int, int, int]:
    """What a reduction makes smaller: nodes, then elements of inputs and initializers, then bytes."""
    graph = model.graph
    elements = sum(int(np.prod(tensor.dims, dtype=np.int64)) for tensor in graph.initializer)
    elements += sum(dim.dim_value for value in graph.input for dim in value.type.tensor_type.shape.dim)
    return len(graph.node), elements, model.ByteSize()


def onnx_candidates(model: ModelProto) -> Iterator[ModelProto]:
    """Valid smaller models: cut behind or in front, nodes bypassed, fewer outputs, smaller sizes, plain constants."""
    types = _types(model)
    base = _copy(model)
    for output in base.graph.output:
        # Exporters may leave it out, the checker wants it.
        if not output.type.tensor_type.HasField("shape") and output.name in types:
            output.CopyFrom(types[output.name])
    for candidate in _onnx_changes(base, types):
        _drop_unused(candidate.graph)
        if candidate.graph.node and onnx_size(candidate) < onnx_size(model) and is_valid(candidate):
            yield candidate


def is_valid(model: ModelProto) -> bool:
    """True if the onnx package finds nothing wrong: what fails on a broken model tells nothing of the whole one."""
    try:
        infer_shapes(model, strict=True, check=True)
    except ValueError:
        return False
    return True


def _onnx_changes(model: ModelProto, types: Values) -> Iterator[ModelProto]:
    graph = model.graph
    computed = [name for node in graph.node for name in node.output if name in types]
    # Behind a value in the middle and in front of one: halves the model where it can.
    for name in _spread(computed):
        changed = _copy(model)
        del changed.graph.output[:]
        changed.graph.output.append(types[name])
        yield changed
    for name in _spread(computed):
        changed = _copy(model)
        for node in changed.graph.node:
            node.output[:] = ["" if output == name else output for output in node.output]
        changed.graph.input.append(types[name])
        _drop_dead(changed.graph)
        yield changed
    for index in range(len(graph.output) if len(graph.output) > 1 else 0):
        changed = _copy(model)
        del changed.graph.output[index]
        yield changed
    for index, node in enumerate(graph.node):
        for source in node.input:
            if source in types and node.output[0] in types and _same_type(types[source], types[node.output[0]]):
                yield _bypassed(model, index, source)
        for position in range(len(node.attribute)):
            changed = _copy(model)
            del changed.graph.node[index].attribute[position]
            yield changed
        if len(node.input) > 1:
            changed = _copy(model)
            del changed.graph.node[index].input[-1]
            yield changed
    yield from with_smaller_sizes(model)
    yield from _smaller_inputs(model)
    yield from _plain_constants(model)


def _spread(names: Sequence[str]) -> list[str]:
    """The names from the middle outwards in halving steps: 1/2, 1/4, 3/4 and so on."""
    order: list[str] = []
    parts = [(0, len(names))]
    for low, high in parts:
        if low < high:
            middle = (low + high) // 2
            order.append(names[middle])
            parts += [(low, middle), (middle + 1, high)]
    return order


def _bypassed(model: ModelProto, index: int, source: str) -> ModelProto:
    changed = _copy(model)
    node = changed.graph.node[index]
    old = node.output[0]
    for other in changed.graph.node:
        other.input[:] = [source if name == old else name for name in other.input]
    for output in changed.graph.output:
        if output.name == old:
            output.name = source
    del changed.graph.node[index]
    return changed


def _smaller_inputs(model: ModelProto) -> Iterator[ModelProto]:
    for position, value in enumerate(model.graph.input):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            for size in dict.fromkeys((1, dim.dim_value // 2, dim.dim_value - 1)):
                if 0 < size < dim.dim_value:
                    changed = _copy(model)
                    changed.graph.input[position].type.tensor_type.shape.dim[axis].dim_value = size
                    del changed.graph.value_info[:]
                    for output in changed.graph.output:
                        for unknown in output.type.tensor_type.shape.dim:
                            unknown.Clear()
                    yield changed


def _plain_constants(model: ModelProto) -> Iterator[ModelProto]:
    """Initializers of equal numbers, which take few bytes as a ConstantOfShape."""
    for index, tensor in enumerate(model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < 32:
            continue
        for number in (0.0, 1.0):
            changed = _copy(model)
            del changed.graph.initializer[index]
            shape = numpy_helper.from_array(np.array(array.shape, np.int64), f"{tensor.name}.shape")
            value = helper.make_tensor("value", TensorProto.FLOAT, [1], [number])
            changed.graph.initializer.append(shape)
            node = helper.make_node("ConstantOfShape", [shape.name], [tensor.name], value=value)
            nodes = [node, *changed.graph.node]
            del changed.graph.node[:]
            changed.graph.node.extend(nodes)
            yield changed


def _types(model: ModelProto) -> Values:
    """The types of all values that shape inference finds, tensors of known shape only."""
    try:
        graph = infer_shapes(model, data_prop=True).graph
    except ValueError:
        graph = model.graph
    found = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        found[tensor.name] = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
    return {name: value for name, value in found.items() if value.type.HasField("tensor_type")}


def _same_type(left: ValueInfoProto, right: ValueInfoProto) -> bool:
    return bool(left.type == right.type)


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _drop_dead(graph: GraphProto) -> None:
    for node in [node for node in graph.node if not any(node.output)]:
        graph.node.remove(node)


def _drop_unused(graph: GraphProto) -> None:
    """Remove nodes, initializers and inputs that no output needs."""
    needed = {output.name for output in graph.output}
    kept: list[Any] = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output if name):
            kept.append(node)
            needed.update(node.input)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del graph.node[:]
    graph.node.extend(nodes)
    lists: list[Any] = [graph.initializer, graph.input, graph.value_info]
    for values in lists:
        for value in [value for value in values if value.name not in needed]:
            values.remove(value)


# IR text: one line an operation, as the printer writes it

_OPERATION = re.compile(r"^  (?P<results>%[^=]+) = .* -> (?P<type>\S.*?)(?: loc\(.*\))?$")
_WORD = re.compile(r'[%@](?:"(?:[^"\\]|\\.)*"|[\w.$/:-]*[\w.$/-])')


def text_size(text: str) -> tuple[int, int]:
    """What a reduction makes smaller: lines, then characters."""
    return text.count("\n"), len(text)


def text_candidates(text: str) -> Iterator[str]:
    """Smaller texts of a module with one function: operations become arguments, values in the middle are returned."""
    lines = text.rstrip("\n").split("\n")
    values = _text_types(lines)
    for index in _spread([str(index) for index in values]):
        yield from _text_changes(lines, int(index), values)


def _text_types(lines: Sequence[str]) -> dict[int, tuple[str, str]]:
    """(name, type) of the result of every line that has one."""
    found: dict[int, tuple[str, str]] = {}
    for index, line in enumerate(lines):
        match = _OPERATION.match(line)
        if match and "," not in match["results"]:
            found[index] = match["results"].strip(), match["type"]
    return found


def _text_changes(lines: Sequence[str], index: int, values: Mapping[int, tuple[str, str]]) -> Iterator[str]:
    name, kind = values[index]
    head = next((i for i, line in enumerate(lines) if line.startswith("func ")), None)
    tail = next((i for i, line in enumerate(lines) if line.startswith("  return ")), None)
    if head is None or tail is None or not head < index < tail:
        return
    start = lines[head].partition("(")[0]
    arguments = re.findall(rf"({_WORD.pattern}: (?:[^,()<]|<[^()]*?>)+)(?=, [%]|\) ->)", lines[head])
    shown = ", ".join(arguments)
    # Return this value, and nothing else.
    ended = [
        *lines[:head],
        f"{start}({shown}) -> {kind} {{",
        *lines[head + 1 : index + 1],
        f"  return {name} : {kind} -> ()",
        "}",
    ]
    yield _without_unused(ended)
    # Take this value from outside.
    taken = f"{shown}, {name}: {kind}" if shown else f"{name}: {kind}"
    header = lines[head].replace(f"({shown}) ->", f"({taken}) ->", 1)
    yield _without_unused([*lines[:head], header, *lines[head + 1 : index], *lines[index + 1 :]])
    # Take one of its operands in its place.
    for other, (operand, operand_type) in values.items():
        if other < index and operand_type == kind and operand in _WORD.findall(lines[index]):
            yield _without_unused([*lines[:index], *(_renamed(line, name, operand) for line in lines[index + 1 :])])


def _renamed(line: str, old: str, new: str) -> str:
    return _WORD.sub(lambda match: new if match[0] == old else match[0], line)


def _without_unused(lines: Sequence[str]) -> str:
    """The text without operations and constants that nothing reads."""
    kept = list(lines)
    while True:
        uses: dict[str, int] = {}
        for line in kept:
            for word in _WORD.findall(line):
                uses[word] = uses.get(word, 0) + 1
        left = [line for line in kept if not _is_unused(line, uses)]
        if len(left) == len(kept):
            return "\n".join(left) + "\n"
        kept = left


def _is_unused(line: str, uses: Mapping[str, int]) -> bool:
    words = _WORD.findall(line)
    defines = bool(_OPERATION.match(line)) or line.startswith("const ")
    return defines and uses[words[0]] == 1

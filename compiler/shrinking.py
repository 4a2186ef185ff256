"""Smaller sizes throughout an ONNX model: channels, heads and pixels that belong together shrink together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, numpy_helper

Resize = Callable[[int], int]


def with_smaller_sizes(model: ModelProto) -> Iterator[ModelProto]:
    """Models in which one size is smaller wherever it occurs; whether they hold together is for the caller to find out.

    First all even sizes are halved at once. Then every size d, those with most elements first, becomes 1 or d / 2:
    wherever exactly d occurs, or with its multiples m d, as joined and flattened tensors have them. Sizes occur in
    the shapes of inputs and initializers, whose first elements are kept, and in integers: small initializers,
    constants and attributes, so that shapes for Reshape and numbers of groups follow.
    """
    yield _resized(model, lambda n: n // 2 if n % 2 == 0 and n > 1 else n)
    for size in _sizes(model.graph):
        for smaller in dict.fromkeys((1, size // 2)):
            for with_multiples in (False, True):
                yield _resized(model, _replacing(size, smaller, with_multiples=with_multiples))


def _replacing(size: int, smaller: int, *, with_multiples: bool) -> Resize:
    def resize(n: int) -> int:
        if n == size:
            return smaller
        return n // size * smaller if with_multiples and n > 0 and n % size == 0 else n

    return resize


def _sizes(graph: GraphProto) -> list[int]:
    """The sizes above 1 of inputs and initializers, those of the largest tensors first."""
    weight: Counter[int] = Counter()
    shapes = [[int(n) for n in tensor.dims] for tensor in graph.initializer]
    shapes += [[int(dim.dim_value) for dim in value.type.tensor_type.shape.dim] for value in graph.input]
    for shape in shapes:
        for size in set(shape):
            weight[size] += int(np.prod(shape, dtype=np.int64))
    return [size for size, _ in weight.most_common() if size > 1]


def _resized(model: ModelProto, resize: Resize) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        kept = array[tuple(slice(0, resize(n) if axis < 2 else n) for axis, n in enumerate(array.shape))]
        if kept.dtype == np.int64 and kept.size <= _SHORT:
            kept = np.array([resize(int(n)) for n in kept.reshape(-1)], np.int64).reshape(kept.shape)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(kept).reshape(kept.shape), tensor.name))
    for value in graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value > 1:
                dim.dim_value = resize(int(dim.dim_value))
    for node in graph.node:
        for attribute in node.attribute:
            _resize_attribute(node.op_type, attribute, resize)
    del graph.value_info[:]
    for output in graph.output:
        for unknown in output.type.tensor_type.shape.dim:
            unknown.Clear()
    return changed


def _resize_attribute(op_type: str, attribute: AttributeProto, resize: Resize) -> None:
    """Sizes among the attributes of a node: numbers of groups and parts, and constants."""
    if attribute.type == AttributeProto.INT and attribute.name in ("group", "num_groups"):
        attribute.i = resize(int(attribute.i))
    elif attribute.type == AttributeProto.INTS and attribute.name in ("split", "value_ints"):
        attribute.ints[:] = [resize(int(n)) for n in attribute.ints]
    elif attribute.type == AttributeProto.TENSOR and op_type == "Constant":
        array = numpy_helper.to_array(attribute.t)
        if array.dtype == np.int64 and array.size <= _SHORT:
            numbers = np.array([resize(int(n)) for n in array.reshape(-1)], np.int64).reshape(array.shape)
            attribute.t.CopyFrom(numpy_helper.from_array(numbers, attribute.t.name))


_SHORT = 16
"""Longer lists of integers are indices rather than shapes."""

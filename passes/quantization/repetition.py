"""Operations that are repetitions of each other: the steps of a recurrent layer, the iterations of a loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import DATA_MOVEMENT
from ...dialects.quant.ops import DequantizeOp, QuantizeOp


def repetitions(operations: Iterable[Operation]) -> list[list[Operation]]:
    """Operations of the same ONNX nodes that compute the same of other data, in program order.

    Products of one node with the same weights are repetitions, and so is what reads their results: the k-th reader of
    a kind of one result is the k-th of another. What a quantized model has decided types for is none.
    """
    place = {op: index for index, op in enumerate(operations)}
    classes = {op: [op] for op in place}
    waiting: list[list[Operation]] = []

    def unite(same: Iterable[Operation]) -> None:
        parts = list({id(classes[op]): classes[op] for op in same}.values())
        if len(parts) > 1:
            united = sorted((op for part in parts for op in part), key=place.__getitem__)
            classes.update(dict.fromkeys(united, united))
            waiting.append(united)

    products: dict[tuple[Any, ...], list[Operation]] = {}
    for op in place:
        if isinstance(op, (Conv2dOp, MatmulOp)) and isinstance(op.operands[1], Constant) and op.location.nodes:
            products.setdefault(_kind(op), []).append(op)
    for each in products.values():
        unite(each)
    while waiting:
        readers: dict[tuple[Any, ...], list[Operation]] = {}
        for op in waiting.pop():
            for key, reader in _readers(op, place):
                readers.setdefault(key, []).append(reader)
        for each in readers.values():
            unite(each)
    found = {id(each): each for each in classes.values() if len(each) > 1}
    return [each for each in found.values() if not any(map(_is_decided, each))]


def is_repeated(product: Operation) -> bool:
    """True for a product whose weights another one of the same ONNX nodes has as well."""
    others = (op for op in product.operands[1].users if op is not product)
    return any(op.location == product.location and op.name == product.name for op in others)


def tied_values(operations: Iterable[Operation]) -> Iterator[tuple[Value[Any], Value[Any]]]:
    """Pairs of values that are the same in two repetitions: operands and results, without constants."""
    for first, *others in repetitions(operations):
        if isinstance(first, DATA_MOVEMENT):
            continue  # share a type with what they read
        for other in others:
            pairs = zip((*first.operands, *first.results), (*other.operands, *other.results), strict=True)
            yield from ((one, two) for one, two in pairs if not isinstance(one, Constant) and one is not two)


def _kind(op: Operation) -> tuple[Any, ...]:
    """What two operations must have in common to be repetitions of each other."""
    operands = tuple(v if isinstance(v, Constant) else v.type for v in op.operands)
    return op.name, op.location.nodes, operands, tuple(sorted(op.attributes.items())), op.result.type


def _readers(op: Operation, place: Mapping[Operation, int]) -> Iterator[tuple[tuple[Any, ...], Operation]]:
    """The readers of a result, each with its kind, which operand reads, and how many of the same came before."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for reader, index in sorted((use for use in op.result.uses if use[0] in place), key=lambda use: place[use[0]]):
        key = (*_kind(reader), index)
        counts[key] += 1
        yield (*key, counts[key]), reader


def _is_decided(op: Operation) -> bool:
    producers = (value.defining_op for value in op.operands)
    return any(isinstance(each, (DequantizeOp, QuantizeOp)) for each in (*producers, *op.result.users))

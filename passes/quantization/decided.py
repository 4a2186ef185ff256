"""Where integers that a module already has meet the float operations that are quantized now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...dialects.core.operation import Constant, Function, Operation, Pure, Value
from ...dialects.nn.indexing import ArgMaxOp, EmbeddingOp
from ...dialects.quant.indices import INDEX_TYPE
from ...dialects.quant.ops import DequantizeOp, QuantizeOp
from ...dialects.quant.types import QuantizedType, quantized_element
from .conversion import Conversion
from .grouping import TypeGroups
from .stored import is_fixed


def dequantized_inputs(operations: Iterable[Operation]) -> dict[Value[Any], QuantizedType]:
    """The reals that float operations read from integers, with the type of these integers."""
    found: dict[Value[Any], QuantizedType] = {}
    for op in operations:
        for value in op.operands:
            producer = value.defining_op
            if isinstance(producer, DequantizeOp) and not is_fixed(value):
                found[value] = quantized_element(producer.data.type)
    return found


def decided_types(
    groups: TypeGroups, inputs: Sequence[Value[Any]], given: dict[Value[Any], QuantizedType]
) -> dict[Value[Any], QuantizedType]:
    """The types, by representative, of the groups that the module decides.

    Indices, of tables or of largest elements, are `INDEX_TYPE`. Of other groups that is the type that a member is
    quantized to by the first `quant.quantize` that reads one, else the type of the integers it moves, if all that it
    moves are integers of one type (`given`, from `dequantized_inputs`).
    """
    decided: dict[Value[Any], QuantizedType] = {}
    computed = set(map(groups.group, groups.sources(inputs)))
    for op in groups.operations:
        if isinstance(op, EmbeddingOp):
            decided[groups.group(op.indices)] = INDEX_TYPE
        elif isinstance(op, ArgMaxOp):
            decided[groups.group(op.out)] = INDEX_TYPE
    for value in [*inputs, *(op.result for op in groups.operations)]:
        for user in value.users:
            if isinstance(user, QuantizeOp):
                decided.setdefault(groups.group(value), quantized_element(user.out.type))
    moved: dict[Value[Any], set[QuantizedType]] = {}
    for value, element in given.items():
        moved.setdefault(groups.group(value), set()).add(element)
    for root, elements in moved.items():
        if root not in computed and len(elements) == 1:
            decided.setdefault(root, *elements)
    return decided


def is_own(op: Operation) -> bool:
    """True for an operation whose weights were quantized here, so that they may be rounded otherwise."""
    return isinstance(op.operands[1], Constant)


def give_readers_integers(conversion: Conversion, operations: Iterable[Operation]) -> None:
    """Replace `quant.quantize` of what was converted by the integers, requantized where they have another type."""
    for op in operations:
        twin = conversion.twins[op.result]
        for user in op.result.users:
            if isinstance(user, QuantizeOp):
                same = user.out.type == twin.type
                integers = twin if same else conversion.rescale(user, twin, quantized_element(user.out.type))
                user.result.replace_all_uses_with(integers)
                user.erase()


def erase_unused(function: Function) -> None:
    """Remove the pure operations that nothing reads."""
    for op in reversed(function.body):
        if op.has_trait(Pure) and op.results and all(result.is_unused for result in op.results):
            op.erase()

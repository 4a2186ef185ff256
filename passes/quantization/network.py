"""A network as insert-quantization sees it: what becomes integers, whose ranges that takes, and the rewrite."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Function, Module, Operation, Value
from ...dialects.core.types import F32, TensorType
from ...dialects.quant.ops import DequantizeOp, QuantizeOp, ScaleOp
from ...dialects.quant.types import QuantizedType
from .conversion import Conversion
from .decided import decided_types, dequantized_inputs, erase_unused, give_readers_integers, is_own
from .formats import INT8, Format
from .grouping import TypeGroups
from .host import epilogue, prologue
from .legality import check_convertible, check_integer, float_operations
from .ranges import Range, range_of


class FloatNetwork:
    """@main of a module, split into what the host does at both ends and the `operations` that become integers.

    `sources` are the values whose ranges are to be found: inputs of the integer part and what it computes, without
    those whose types the module has decided already; their order is the same for every copy of the module. Raises
    CompileError listing the operations that have no integer form. `format` are the integers to compute in.
    """

    def __init__(self, module: Module, format: Format = INT8) -> None:
        self.module, self.format = module, format
        main = module.main
        self.prologue, self._epilogue = prologue(main), epilogue(main)
        self.operations = float_operations(main)
        check_convertible(self.operations)
        self.groups = TypeGroups(self.operations)
        self._inputs = _inputs(main, self.operations)
        given = dequantized_inputs(self.operations)
        self._decided = decided_types(self.groups, self._inputs, given)
        self._given = {value: range_of(element) for value, element in given.items()}
        self.sources = [
            value for value in self.groups.sources(self._inputs) if self.groups.group(value) not in self._decided
        ]

    def integer_value(self, value: Value[Any]) -> Value[Any]:
        """What the host makes the returned `value` of, by transposes and reshapes."""
        while (op := value.defining_op) is not None and op in self._epilogue and op not in self.prologue:
            value = op.operands[0]
        return value

    def types(self, ranges: Mapping[Value[Any], Range]) -> dict[Value[Any], QuantizedType]:
        """The type of every value, every source having its range."""
        return self.groups.types({**self._given, **ranges}, self._decided, self.format.activation)

    def quantize(self, ranges: Mapping[Value[Any], Range]) -> Conversion:
        """Rewrite the module in place, every source having its range; returns what was done.

        The conversion's tables name operations of the module before, which are erased; `layers` has those whose
        weights were quantized here.
        """
        main = self.module.main
        conversion = Conversion(self.module, self.types(ranges), self.format)
        first = main.body.first or main.body.terminator
        for value in self._inputs:
            _quantize(value, conversion, main, first)
        for op in self.operations:
            conversion.convert(op)
        conversion.layers = {wide: op for wide, op in conversion.layers.items() if is_own(op)}
        give_readers_integers(conversion, self.operations)
        _dequantize(main, conversion, self.operations)
        for op in reversed(self.operations):
            op.erase()
        erase_unused(main)
        self.module.drop_unused_constants()
        check_integer(main, {**self.prologue, **self._epilogue})
        return conversion

    def trial(self, ranges: Mapping[Value[Any], Range]) -> Module:
        """The integer module that `quantize` would make of these ranges; this network stays as it is."""
        copy = FloatNetwork(self.module.clone(), self.format)
        twins = zip(copy.sources, self.sources, strict=True)
        copy.quantize({twin: ranges[source] for twin, source in twins})
        return copy.module


def _quantize(value: Value[Any], conversion: Conversion, main: Function, anchor: Operation) -> None:
    """Quantize an input of the integer part directly behind its definition, an argument before `anchor`."""
    op = QuantizeOp((value,), (TensorType(value.type.shape, conversion.types[value]),))
    definition = value.defining_op
    if definition is not None:
        op.location = definition.location
        main.body.insert_after(definition, op)
    else:
        op.location = value.users[0].location
        main.body.insert_before(anchor, op)
    conversion.twins[value] = op.result


def _inputs(main: Function, operations: Collection[Operation]) -> list[Value[Any]]:
    """The float values that the integer part reads but does not compute: arguments and results of the prologue."""
    inside = set(operations)
    outside = [op for op in main.body if op not in inside and not isinstance(op, (DequantizeOp, ScaleOp))]
    candidates: list[Value[Any]] = [*main.arguments, *(result for op in outside for result in op.results)]
    read = {value for op in operations for value in op.operands}
    found = [value for value in candidates if value in read]
    for value in found:
        if value.type.element != F32:
            raise CompileError(f"input of the integer part is {value.type}, expected f32")
    return found


def _dequantize(main: Function, conversion: Conversion, operations: Collection[Operation]) -> None:
    """Give the float readers outside of the integer part (epilogue, return) the dequantized value."""
    inside = set(operations)
    for op in list(operations):
        value = op.result
        outside = [(user, index) for user, index in value.uses if user not in inside]
        if not outside:
            continue
        twin = conversion.twins[value]
        first = min((user for user, _ in outside), key=list(main.body).index)
        restored = main.body.insert_before(first, DequantizeOp.build(twin, location=op.location))
        restored.result.name = value.name
        for user, index in outside:
            user.set_operand(index, restored.result)

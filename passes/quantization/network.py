"""A network as insert-quantization sees it: what becomes integers, whose ranges that takes, and the rewrite."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Function, Module, Operation, Value
from ...dialects.core.types import F32, I16, ScalarType, TensorType
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.normalization import BatchNormOp
from ...dialects.quant.ops import DequantizeOp, QuantizeOp, ScaleOp
from ...dialects.quant.types import QuantizedType
from .conversion import Conversion
from .converters import convert
from .decided import decided_types, dequantized_inputs, erase_unused, give_readers_integers, is_own
from .formats import FORMATS, INT8, Format
from .grouping import MOVING, TypeGroups
from .host import epilogue, prologue
from .legality import check_convertible, check_integer, float_operations
from .ranges import Range, range_of
from .stored import is_fixed
from .visibility import visible_bounds
from .weights import QuantizedWeights


class FloatNetwork:
    """@main of a module, split into what the host does at both ends and the `operations` that become integers.

    `sources` are the values whose ranges are to be found: inputs of the integer part and what it computes, without
    those whose types the module has decided already; their order is the same for every copy of the module. Raises
    CompileError listing the operations that have no integer form.

    `format` are the integers to compute in. With `promoted`, names of `layers`, those work in int16 and the others in
    `format`; a tensor is as wide as the widest layer that computes or reads it.
    """

    def __init__(self, module: Module, format: Format = INT8, promoted: Collection[str] = ()) -> None:
        self.module, self.format, self.promoted = module, format, frozenset(promoted)
        self._weights: dict[tuple[Any, ...], QuantizedWeights] = {}
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
        """The type of every value, every source having its range.

        16 bits have headroom, as far as the readers of a value can see it.
        """
        wide = self._wide_groups()

        def storage(root: Value[Any]) -> ScalarType:
            return I16 if root in wide else self.format.activation

        roomy = {
            value: interval.widened.clamped(*visible_bounds(value))
            if storage(self.groups.group(value)) == I16
            else interval
            for value, interval in ranges.items()
        }
        found = self.groups.types({**self._given, **roomy}, self._decided, storage)
        decided = {value: self._decided.get(self.groups.group(value)) for value in self._inputs if value not in found}
        return {**found, **{value: element for value, element in decided.items() if element is not None}}

    @cached_property
    def layers(self) -> dict[str, list[Operation]]:
        """The operations by layer: each product with what follows it up to the next ones; a name is the ONNX nodes'."""
        found: dict[str, list[Operation]] = {}
        names: dict[Value[Any], str] = {}
        for op in self.operations:
            behind = [names[value] for value in op.operands if value in names]
            if isinstance(op, (Conv2dOp, MatmulOp, BatchNormOp)) or not behind:
                name = op.location.layer or op.name
                name = name if name not in found else f"{name}#{len(found)}"
            else:
                name = max(behind, key=list(found).index)
            found.setdefault(name, []).append(op)
            names[op.result] = name
        return found

    def _promoted_operations(self) -> frozenset[Operation]:
        """The operations of promoted layers; raises CompileError for a name that no layer has."""
        for name in sorted(self.promoted - self.layers.keys()):
            known = ", ".join(f"'{known}'" for known in self.layers)
            raise CompileError(f"no layer is called '{name}', expected some of {known}")
        return frozenset(op for name in self.promoted for op in self.layers[name])

    def _wide_groups(self) -> set[Value[Any]]:
        """The groups of values that promoted layers compute or read."""
        computing = [op for op in self._promoted_operations() if not isinstance(op, MOVING)]
        values = [value for op in computing for value in (*op.operands, op.result) if not is_fixed(value)]
        return {self.groups.group(value) for value in values}

    def quantize(self, ranges: Mapping[Value[Any], Range]) -> Conversion:
        """Rewrite the module in place, every source having its range; returns what was done.

        The conversion's tables name operations of the module before, which are erased; `layers` has those whose
        weights were quantized here.
        """
        main = self.module.main
        conversion = Conversion(self.module, self.types(ranges), self.format, weights=self._weights)
        if self.promoted:
            conversion.precision, conversion.promoted = FORMATS["int16"], self._promoted_operations()
            conversion.narrow = self.groups.types({**self._given, **ranges}, self._decided)
        first = main.body.first or main.body.terminator
        for value in self._inputs:
            _quantize(value, conversion, main, first)
        for op in self.operations:
            convert(op, conversion)
        conversion.layers = {wide: op for wide, op in conversion.layers.items() if is_own(op)}
        give_readers_integers(conversion, self.operations)
        _dequantize(main, conversion, self.operations)
        for op in reversed(self.operations):
            op.erase()
        erase_unused(main)
        self.module.drop_unused_constants()
        check_integer(main, {**self.prologue, **self._epilogue})
        return conversion

    def trial(self, ranges: Mapping[Value[Any], Range], promoted: Collection[str] | None = None) -> Module:
        """The integer module that `quantize` would make of these ranges; this network stays as it is.

        `promoted` replaces the layers that work in int16.
        """
        copy = FloatNetwork(self.module.clone(), self.format, self.promoted if promoted is None else promoted)
        copy._weights = self._weights
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

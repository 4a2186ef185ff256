"""Values that share one quantized type: the operation between them only moves numbers, or they repeat each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import I8, Array, ScalarType
from ...dialects.nn.activation import HardSigmoidOp, PReluOp, SigmoidOp, TanhOp
from ...dialects.nn.chain import ChainOp
from ...dialects.nn.comparison import COMPARISONS
from ...dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from ...dialects.nn.indexing import EmbeddingOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.movement import DATA_MOVEMENT, PadOp
from ...dialects.nn.normalization import LrnOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import MaskedSoftmaxOp, SoftmaxOp
from ...dialects.quant.ops import DequantizeOp
from ...dialects.quant.tables import softmax_type
from ...dialects.quant.types import QuantizedType, quantized_element
from ..framework.matching import COMPARISON_STEPS, is_truth
from .ranges import Range, activation_type
from .repetition import tied_values
from .stored import fixed_array, is_fixed

_TRUTH = Range(0.0, 1.0)
_NATURAL: dict[type[Operation], Range] = {
    SigmoidOp: Range(0.0, 1.0),
    HardSigmoidOp: Range(0.0, 1.0),
    TanhOp: Range(-1.0, 1.0),
    SoftmaxOp: Range(0.0, 255 / 256),
    MaskedSoftmaxOp: Range(0.0, 255 / 256),
    **dict.fromkeys(COMPARISONS, _TRUTH),
}

LARGEST_RATIO = 2.0**20
"""An operation's real multiplier is at most this; multipliers must be below 2^21."""

MOVING = (*DATA_MOVEMENT, MaxPoolOp)
"""Operations whose result holds nothing but what they read: operands and result share a type."""


def natural_range(op: Operation | None) -> Range | None:
    """The range of a result that is the same for every input: not calibrated, hence never clipped; else None.

    Truth values are 0 or 1, whether calibration has met both or not; so are their products and sums of at most 1, and
    their products with constants are 0 or these.
    """
    if op is None or type(op) in _NATURAL:
        return None if op is None else _NATURAL[type(op)]
    if isinstance(op, ChainOp):
        return _TRUTH if op.steps[-1].startswith(COMPARISON_STEPS) else None
    if isinstance(op, AddOp) and (op.clamp_min, op.clamp_max) == (0.0, 1.0):
        return _TRUTH if all(map(is_truth, op.operands)) else None
    if isinstance(op, MulOp) and any(map(is_truth, op.operands)):
        others = [value for value in op.operands if not is_truth(value)]
        if not others:
            return _TRUTH
        if is_fixed(others[0]):
            array = fixed_array(others[0])
            return Range(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
    return None


def compares(op: Operation) -> bool:
    """True for a comparison, alone or in a chain."""
    if isinstance(op, ChainOp):
        return any(step.startswith(COMPARISON_STEPS) for step in op.steps)
    return isinstance(op, COMPARISONS)


class TypeGroups:
    """A union-find over the values of the integer part of a function."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = tuple(operations)
        self._parents: dict[Value[Any], Value[Any]] = {}
        for op in self.operations:
            if isinstance(op, MOVING):
                for value in op.operands:
                    if not is_fixed(value):
                        self._union(value, op.result)
        for one, other in tied_values(self.operations):
            self._union(one, other)

    def group(self, value: Value[Any]) -> Value[Any]:
        """The representative of the values that share a type with `value`."""
        root = value
        while (parent := self._parents.get(root, root)) is not root:
            root = parent
        while value is not root:
            self._parents[value], value = root, self._parents.get(value, value)
        return root

    def sources(self, inputs: Iterable[Value[Any]]) -> list[Value[Any]]:
        """The values whose range calibration must find; those of moved values, tables and natural ranges follow."""
        results = [op.result for op in self.operations if not isinstance(op, (*MOVING, EmbeddingOp))]
        return [*inputs, *(value for value in results if natural_range(value.op) is None)]

    def types(
        self,
        ranges: Mapping[Value[Any], Range],
        decided: Mapping[Value[Any], QuantizedType] | None = None,
        storage: Callable[[Value[Any]], ScalarType] = lambda root: I8,
    ) -> dict[Value[Any], QuantizedType]:
        """The quantized type of every value: that of its group, whose range is the hull of all it must represent.

        `decided` holds the types of groups, by representative, that are not chosen here; others are stored as `storage`
        says of their representative. A group that holds nothing but softmax results has the softmax type. Where
        operands are so much larger than the result (a sum of millions clamped to [0, 0.5]) that no multiplier expresses
        the ratio of their scales, the scale of the result is raised, at the price of its resolution.
        """
        settled = dict(decided or {})
        values = dict.fromkeys([*ranges, *(op.result for op in self.operations)])
        hulls: dict[Value[Any], Range] = {}
        pinned: dict[Value[Any], bool] = {}
        for value in values:
            root, op = self.group(value), value.defining_op
            if root in settled:
                continue
            computes = value in ranges or natural_range(op) is not None
            if computes:
                pinned[root] = pinned.get(root, True) and isinstance(op, (SoftmaxOp, MaskedSoftmaxOp))
            for interval in [_clamped(value, ranges)] if computes else _constants(op):
                hulls[root] = hulls[root].hull(interval) if root in hulls else interval
                pinned[root] = pinned.get(root, True) and computes
        floors = dict.fromkeys(hulls, 0.0)
        while True:
            types = settled | {
                root: softmax_type(storage(root))
                if pinned[root]
                else activation_type(hull, smallest_scale=floors[root], storage=storage(root))
                for root, hull in hulls.items()
            }
            raised = False
            for op in self.operations:
                root = self.group(op.result)
                floor = self._smallest_scale(op, types, types[root].storage)
                if root not in settled and floor > types[root].scale * 1.001 and not pinned[root]:
                    floors[root], raised = floor, True
            if not raised:
                return {value: types[self.group(value)] for value in values}

    def _smallest_scale(self, op: Operation, types: Mapping[Value[Any], QuantizedType], storage: ScalarType) -> float:
        def scale(value: Value[Any]) -> float:
            producer = value.defining_op
            if isinstance(producer, DequantizeOp):
                return quantized_element(producer.data.type).scale
            return (constant_type(fixed_array(value), storage) if is_fixed(value) else types[self.group(value)]).scale

        match op:
            case AddOp() | SubOp():
                return max(scale(op.lhs), scale(op.rhs)) / LARGEST_RATIO
            case MulOp():
                return scale(op.lhs) * scale(op.rhs) / LARGEST_RATIO
            case DivOp():
                return scale(op.lhs) / (scale(op.rhs) * LARGEST_RATIO)
            case ReduceMeanOp():
                return scale(op.data) * max(1.0, op.factor) / LARGEST_RATIO
            case AveragePoolOp():
                return scale(op.data) / LARGEST_RATIO
            case PReluOp():
                assert isinstance(op.slope, Constant)
                return scale(op.data) * max(1.0, float(np.abs(op.slope.array).max(initial=0.0))) / LARGEST_RATIO
            case LayerNormOp():
                parameters = (op.scale, op.bias)
                gain, offset = (float(np.abs(fixed_array(each)).max(initial=0.0)) for each in parameters)
                return max(gain, offset / 2**9) / LARGEST_RATIO
            case LrnOp():
                return scale(op.data) * op.bias**-op.beta / LARGEST_RATIO
            case _:
                return 0.0

    def _union(self, first: Value[Any], second: Value[Any]) -> None:
        one, other = self.group(first), self.group(second)
        if one is not other:
            self._parents[other] = one


def constant_type(array: Array, storage: ScalarType = I8) -> QuantizedType:
    """The type of a constant operand of element-wise arithmetic; ValueError if it holds NaN or infinity."""
    return activation_type(Range(float(array.min(initial=0.0)), float(array.max(initial=0.0))), storage=storage)


def _clamped(value: Value[Any], ranges: Mapping[Value[Any], Range]) -> Range:
    op = value.defining_op
    if op is None:
        return ranges[value]
    interval = natural_range(op) or ranges[value]
    return interval.clamped(getattr(op, "clamp_min", None), getattr(op, "clamp_max", None))


def _constants(op: Operation | None) -> list[Range]:
    """The ranges that a moving operation adds to what it moves: constants beside it, the value it pads with."""
    assert op is not None
    if isinstance(op, PadOp):
        return [Range(op.value, op.value)] if any((*op.low, *op.high)) else []
    arrays = [fixed_array(value) for value in op.operands if is_fixed(value)]  # of an embedding the table
    return [Range(float(array.min(initial=0.0)), float(array.max(initial=0.0))) for array in arrays]

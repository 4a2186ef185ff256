"""Which channels of which values must be scaled by one common factor, so that the network computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Function, Operation, Terminator, Value
from ...dialects.core.tensor import TensorOperation
from ...dialects.core.types import Array
from ...dialects.nn.activation import ClipOp, LeakyReluOp, PReluOp, ReluOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import AddOp, DivOp, MulOp, SubOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import DATA_MOVEMENT, PadOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp

FIXED = 0
"""The class of channels that keep their scale: inputs, outputs, and what is not positively homogeneous."""

_HOMOGENEOUS = (ReluOp, LeakyReluOp, ClipOp, MaxPoolOp, AveragePoolOp)


class ChannelClasses:
    """Divides the channels (last axis) of all values of a float function into classes; class `FIXED` keeps its scale.

    Let f be the function, and multiply every channel of every value by a positive factor of its class, 1 for `FIXED`.
    f still computes the same if the weights and biases of convolutions and products take up the factors, because all
    other operations either commute with them (ReLU, PRelu and max pool are positively homogeneous, data movement only
    moves them, a sum commutes where its operands share them) or touch `FIXED` channels only. A clamp at a bound that is
    neither 0 nor infinite commutes with no factor, but is harmless to channels that stay clear of it: see `bounds`.
    """

    def __init__(self, function: Function) -> None:
        self._parents: list[int] = [FIXED]
        self._labels: dict[Value[Any], Array] = {}
        self.layers: list[Conv2dOp | MatmulOp] = []
        """The operations with constant weights that can take up factors, in order."""
        self.addends: dict[Operation, int] = {}
        """Sums with a constant, which takes up the factors of the result, and the index of that operand."""
        self.bounds: list[tuple[Value[Any], float, float]] = []
        """Values clamped to [low, high], of which a bound is finite and not 0."""
        for argument in function.arguments:
            self._label(argument, None)
        for op in function.body:
            if op.has_trait(Terminator):
                self._fix(*op.operands)
            else:
                self._visit(op)

    def of(self, value: Value[Any]) -> Array:
        """The class of every channel of `value`, int [channels]."""
        return np.array([self._root(label) for label in self._labels[value].tolist()], np.intp)

    @property
    def count(self) -> int:
        """Classes are numbered below this."""
        return len(self._parents)

    @property
    def values(self) -> list[Value[Any]]:
        """All values that have channels, in order of definition."""
        return list(self._labels)

    def _visit(self, op: Operation) -> None:
        match op:
            case Conv2dOp() | MatmulOp() if self._takes_factors(op):
                self.layers.append(op)
                self._label(op.out, self._fresh(op.out.type.shape[-1]))
            case AddOp() | SubOp():
                self._sum(op)
            case MulOp() | DivOp():
                self._product(op)
            case PReluOp() if isinstance(op.slope, Constant):
                self._label(op.out, self._labels.get(op.data))
            case ReduceMeanOp() if op.data.type.rank - 1 not in op.axes and op.out.type.shape[-1:]:
                self._label(op.out, self._labels.get(op.data))
            case PadOp() if op.value == 0.0 and not (op.low[-1] or op.high[-1]):
                self._label(op.out, self._labels.get(op.data))
            case _ if isinstance(op, _HOMOGENEOUS):
                self._label(op.result, self._labels.get(op.operands[0]))
            case TensorOperation() if isinstance(op, DATA_MOVEMENT) and not isinstance(op, PadOp):
                self._move(op)
            case _:
                self._fix(*op.operands)
                for result in op.results:
                    self._label(result, None)
        self._note_bounds(op)

    def _takes_factors(self, op: Conv2dOp | MatmulOp) -> bool:
        weight, bias = op.operands[1], op.bias
        known = isinstance(weight, Constant) and (bias is None or isinstance(bias, Constant))
        return known and weight.type.rank == (4 if isinstance(op, Conv2dOp) else 2) and op.operands[0] in self._labels

    def _sum(self, op: AddOp | SubOp) -> None:
        channels = op.out.type.shape[-1:]
        constants = [index for index, value in enumerate(op.operands) if isinstance(value, Constant)]
        others = [value for value in op.operands if not isinstance(value, Constant)]
        if any(value.type.shape[-1:] != channels for value in others) or len(others) == 0:
            self._fix(*others)
            self._label(op.out, None)
            return
        if constants:
            self.addends[op] = constants[0]
        else:
            self._unite(self._labels[op.lhs], self._labels[op.rhs])
        self._label(op.out, self._labels[others[0]])

    def _product(self, op: MulOp | DivOp) -> None:
        """A product takes the factors of the operand that has its shape, if those of the other are 1."""
        carrier = op.lhs
        if isinstance(op, MulOp) and (isinstance(op.lhs, Constant) or op.lhs.type.shape != op.out.type.shape):
            carrier = op.rhs
        self._fix(*(value for value in op.operands if value is not carrier))
        if op.lhs is op.rhs or isinstance(carrier, Constant) or carrier.type.shape[-1:] != op.out.type.shape[-1:]:
            self._fix(carrier)
            self._label(op.out, None)
            return
        self._label(op.out, self._labels[carrier])

    def _move(self, op: TensorOperation) -> None:
        """The labels move as the numbers do, if each channel of the result has one label in the end."""
        arrays = [
            np.broadcast_to(self._labels[value], value.type.shape or (1,)).reshape(value.type.shape)
            if value in self._labels
            else np.zeros(value.type.shape, np.int64)
            for value in op.operands
        ]
        moved = np.asarray(op.evaluate(*arrays))
        channels = op.out.type.shape[-1] if op.out.type.rank else 0
        rows = moved.reshape(-1, channels) if channels else moved.reshape(1, -1)
        if not channels or not len(rows) or (rows != rows[0]).any():
            self._fix(*op.operands)
            self._label(op.out, None)
            return
        self._label(op.out, rows[0].copy())

    def _note_bounds(self, op: Operation) -> None:
        low, high = getattr(op, "clamp_min", None), getattr(op, "clamp_max", None)
        if isinstance(op, ClipOp):
            low, high = op.min, op.max
        low, high = -np.inf if low is None else low, np.inf if high is None else high
        if any(np.isfinite(bound) and bound != 0.0 for bound in (low, high)):
            self.bounds.append((op.results[0], low, high))

    def _label(self, value: Value[Any], labels: Array | None) -> None:
        shape = value.type.shape
        self._labels[value] = np.zeros(shape[-1] if shape else 1, np.int64) if labels is None else labels

    def _fresh(self, count: int) -> Array:
        first = len(self._parents)
        self._parents += range(first, first + count)
        return np.arange(first, first + count)

    def _fix(self, *values: Value[Any]) -> None:
        for value in values:
            if value in self._labels:
                labels = self._labels[value]
                self._unite(labels, np.zeros_like(labels))

    def _unite(self, first: Array, second: Array) -> None:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            a, b = self._root(one), self._root(other)
            # The smaller number wins, so that FIXED does.
            self._parents[max(a, b)] = min(a, b)

    def _root(self, label: int) -> int:
        parents = self._parents
        while parents[label] != label:
            parents[label] = label = parents[parents[label]]
        return label


def channel_factors(op: Conv2dOp | MatmulOp, inputs: Array) -> Array:
    """What multiplies the weights of `op` along their input axis, broadcast to the weights' shape: [.., I, O] floats.

    `inputs` [channels of the data] belongs to the data; group g of a convolution reads channels g * I .. g * I + I - 1.
    """
    shape = op.operands[1].type.shape
    groups = op.groups if isinstance(op, Conv2dOp) else 1
    columns = np.repeat(inputs.reshape(groups, shape[-2]).T, shape[-1] // groups, axis=1)
    return np.broadcast_to(columns, shape)

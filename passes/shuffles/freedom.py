"""Which orders of channels each operation can live with, and how its constants follow a new order.

A channel is an index of the last axis. A site of an operation is an operand index, or RESULT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import Array, TensorType
from ...dialects.nn.activation import PReluOp, UnaryOperation
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import BinaryOperation
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import ConcatOp, GatherOp, PadOp, ReshapeOp, SliceOp, TransposeOp
from ...dialects.nn.normalization import BatchNormOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import SoftmaxOp
from ...dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp

RESULT = -1
OrderOf = Callable[[int], Array | None]


@dataclass(frozen=True)
class Freedom:
    """What an operation allows.

    All `tied` sites may have any one order in common; a site of `blocks` may have any order within each of that many
    equal blocks of channels. A site named in neither must keep its order.
    """

    tied: tuple[int, ...] = ()
    blocks: Mapping[int, int] = field(default_factory=dict[int, int])


FIXED = Freedom()
COMMUTES = Freedom(tied=(0, RESULT))


def channels(value: Value[Any]) -> int:
    """The length of the last axis; 1 for a scalar and for anything that is not a tensor."""
    return value.type.shape[-1] if isinstance(value.type, TensorType) and value.type.rank else 1


def freedom(op: Operation) -> Freedom:
    """The orders that `op` can absorb; an operation this table does not know keeps every order as it is."""
    match op:
        case UnaryOperation() | MaxPoolOp() | AveragePoolOp() | SoftmaxOp():
            return COMMUTES
        case QuantizeOp() | DequantizeOp() | LookupOp():
            return COMMUTES
        case RequantizeOp():
            return COMMUTES if isinstance(op.scale, Constant) else FIXED
        case Conv2dOp():
            return _convolution(op)
        case MatmulOp():
            constant = op.has_weights and (op.bias is None or isinstance(op.bias, Constant))
            return Freedom(blocks={0: 1, RESULT: 1}) if constant else FIXED
        case BinaryOperation():
            return _broadcast(op, (0, 1))
        case PReluOp():
            return _broadcast(op, (0, 1))
        case BatchNormOp():
            return COMMUTES if all(isinstance(value, Constant) for value in op.operands[1:]) else FIXED
        case ReduceMeanOp():
            return Freedom(blocks={0: 1}) if op.data.type.rank - 1 in op.axes else COMMUTES
        case ConcatOp():
            along_channels = op.axis == op.out.type.rank - 1
            return FIXED if along_channels else Freedom(tied=(*range(len(op.operands)), RESULT))
        case SliceOp() | PadOp() | GatherOp() | ReshapeOp() | TransposeOp():
            return COMMUTES if _keeps_channels(op) else FIXED
        case _:
            return FIXED


def reorder_constants(op: Operation, order_of: OrderOf) -> bool:
    """Give `op` constants for the new orders of its sites; True if any constant had to change.

    `order_of(site)` maps a new position to the old channel, or is None where the order stays. What `freedom` promised
    must hold for these orders.
    """
    changed: list[tuple[int, Array]] = []
    match op:
        case Conv2dOp(weight=Constant() as weight):
            changed = [(1, _convolution_weight(op, weight.array, order_of(0), order_of(RESULT)))]
            changed += _last_axes(op, (2,), order_of(RESULT))
        case MatmulOp(rhs=Constant() as weight):
            rows, columns = order_of(0), order_of(RESULT)
            array = weight.array if rows is None else weight.array[..., rows, :]
            changed = [(1, array if columns is None else array[..., columns])]
            changed += _last_axes(op, (2,), columns)
        case BinaryOperation() | PReluOp() | ConcatOp():
            changed = _last_axes(op, range(len(op.operands)), order_of(RESULT))
        case BatchNormOp():
            changed = _last_axes(op, (1, 2, 3, 4), order_of(RESULT))
        case RequantizeOp():
            changed = _last_axes(op, (1,), order_of(RESULT))
        case _:
            return False
    replaced = False
    for index, array in changed:
        constant = cast(Constant, op.operands[index])
        if array is not constant.array:
            _replace_constant(op, index, constant, array)
            replaced = True
    return replaced


def _convolution(op: Conv2dOp) -> Freedom:
    if not all(isinstance(value, Constant) for value in op.operands[1:]):
        return FIXED
    if op.groups > 1 and op.groups == channels(op.data) == channels(op.out):
        return COMMUTES
    return Freedom(blocks={0: op.groups, RESULT: op.groups})


def _broadcast(op: Operation, sites: Sequence[int]) -> Freedom:
    """Operands with as many channels as the result share its order; constants among them follow it."""
    computed = [site for site in sites if not isinstance(op.operands[site], Constant)]
    tied = [site for site in computed if channels(op.operands[site]) == channels(op.result)]
    return Freedom(tied=(*tied, RESULT))


def _keeps_channels(op: SliceOp | PadOp | GatherOp | ReshapeOp | TransposeOp) -> bool:
    """True if the operation leaves every channel where it is on the last axis."""
    rank, length = op.data.type.rank, channels(op.data)
    match op:
        case SliceOp():
            return rank > 0 and (op.starts[-1], op.stops[-1], op.steps[-1]) == (0, length, 1)
        case PadOp():
            return rank > 0 and op.low[-1] == op.high[-1] == 0
        case GatherOp():
            return op.axis != rank - 1
        case ReshapeOp():
            return rank > 0 and op.out.type.rank > 0 and length == channels(op.out)
        case TransposeOp():
            return rank > 0 and op.permutation[-1] == rank - 1


def _convolution_weight(op: Conv2dOp, weight: Array, rows: Array | None, columns: Array | None) -> Array:
    """HWIO weights whose input rows and output columns are taken in new orders, each inside its group."""
    height, width, inputs, outputs = op.weight.type.shape
    if rows is None and columns is None:
        return weight
    if op.groups == channels(op.data) == outputs and op.groups > 1:
        return weight if columns is None else weight[..., columns]
    row = np.arange(inputs * op.groups) if rows is None else rows
    column = np.arange(outputs) if columns is None else columns
    in_group = row.reshape(op.groups, inputs, 1) - inputs * np.arange(op.groups).reshape(-1, 1, 1)
    taken = weight[:, :, in_group, column.reshape(op.groups, 1, -1)]
    return taken.transpose(0, 1, 3, 2, 4).reshape(height, width, inputs, outputs)


def _last_axes(op: Operation, indices: Sequence[int], order: Array | None) -> list[tuple[int, Array]]:
    """The constants among operands `indices` that have one entry per channel, in the new order."""
    if order is None:
        return []
    present = [(index, op.operands[index]) for index in indices if index < len(op.operands)]
    return [
        (index, value.array[..., order])
        for index, value in present
        if isinstance(value, Constant) and value.type.rank and channels(value) == len(order)
    ]


def _replace_constant(op: Operation, index: int, constant: Constant, array: Array) -> None:
    """Read `array` instead of `constant`, under the same name if nothing else reads that."""
    name, module = str(constant.name), op.module
    if constant.has_one_use:
        del module.constants[name]
    op.set_operand(index, module.add_constant(name, array, constant.type))

"""What becomes of the sums of a product: the tensor they are written to, and the parameters of every channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ...dialects.core.fields import AttributeValue
from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import Array
from ...dialects.nn import Conv2dOp, MatmulOp
from ...dialects.quant.arithmetic import half_of
from ...dialects.quant.ops import RequantizeOp
from ...dialects.quant.types import is_brain_float, number_of
from ...dialects.tile.elements import ELEMENTS
from ...dialects.tile.records import pack_factors, pack_requantization
from .views import element_name


@dataclass(frozen=True)
class Drain:
    """The step from sums to the stored numbers of `output`.

    `records` are the parameters of tile.requantize for every output channel, int8 [channels, bytes of a record], with
    the zero points of the input and the rounding of the pre-shift in the biases. `low` and `high` are stored integers.
    """

    output: Value[Any]
    records: Array
    low: int
    high: int
    pre_shift: int = 0

    @classmethod
    def of(cls, op: Conv2dOp | MatmulOp) -> Drain:
        """The drain of a product: a quant.requantize reads the sums of integers, those of bf16 end in the product.

        Raises CompileError if the bias of integers, less the zero point of the input times the weights, leaves the
        accumulator.
        """
        channels = op.out.type.shape[-1]
        bias = cast(Constant, op.bias).array if op.bias is not None else np.zeros(channels, np.int64)
        if is_brain_float(op.out):
            factor = op.factor if isinstance(op, MatmulOp) else 1.0
            factors = np.full(channels, factor, np.float32)
            return cls(op.out, _rows(pack_factors(bias, factors), channels), *op.integer_bounds)
        (user,) = op.out.users
        assert isinstance(user, RequantizeOp)
        element = ELEMENTS[element_name(op.operands[0])]
        total = bias.astype(np.int64) - _zero_sums(op) + half_of(user.pre_shift)
        bits = element.accumulator_bits - 1
        if np.abs(total).max(initial=0) >= 2**bits:
            reach = np.abs(total).max()
            raise op.error(f"bias with the input's zero point reaches {reach}, expected below 2^{bits}")
        scale = np.broadcast_to(cast(Constant, user.scale).array.astype(np.float64), (channels,))
        records = pack_requantization(total, *user.multipliers(scale), element.record_bytes)
        return cls(user.out, _rows(records, channels), *user.bounds, user.pre_shift)

    @property
    def operation(self) -> Operation:
        """The operation whose result the stored numbers are."""
        assert self.output.defining_op is not None
        return self.output.defining_op

    @property
    def attributes(self) -> dict[str, AttributeValue]:
        """The attributes that tile.requantize and tile.depthwise share."""
        return {
            "element": element_name(self.output),
            "pre_shift": self.pre_shift,
            "zero_point": number_of(self.output.type).zero_point,
            "low": self.low,
            "high": self.high,
        }


def _rows(records: Array, channels: int) -> Array:
    return records.reshape(channels, -1)


def _zero_sums(op: Conv2dOp | MatmulOp) -> Array | int:
    """The zero point of the input times the sum of constant weights; products of activations subtract it themselves."""
    if isinstance(op, MatmulOp) and not op.has_weights:
        return 0
    weight = cast(Constant, op.operands[1]).array
    return number_of(op.operands[0].type).zero_point * weight.sum(axis=tuple(range(weight.ndim - 1)), dtype=np.int64)

"""Writes the factors of channels into the constants that take them up."""

from __future__ import annotations

import numpy as np

from ...dialects.core.operation import Constant, Module, Operation
from ...dialects.core.types import Array
from .classes import ChannelClasses, channel_factors


def absorb_factors(module: Module, classes: ChannelClasses, factors: Array) -> int:
    """Divide every channel by the factor of its class, float64 [classes]; returns how many operations have changed.

    conv(x, W) + b becomes conv(x / s, W * s / t) + b / t, where t belongs to the result; a constant that is added
    becomes c / t. `classes` belongs to `module`, and still does afterwards.
    """
    changed = 0
    for op in classes.layers:
        inputs, outputs = factors[classes.of(op.operands[0])], factors[classes.of(op.out)]
        if (inputs == 1.0).all() and (outputs == 1.0).all():
            continue
        weight = _array(op, 1)
        _replace(module, op, 1, weight * channel_factors(op, inputs) / outputs)
        if op.bias is not None:
            _replace(module, op, 2, _array(op, 2) / outputs)
        changed += 1
    for op, index in classes.addends.items():
        outputs = factors[classes.of(op.result)]
        if (outputs != 1.0).any():
            _replace(module, op, index, _array(op, index) / outputs)
            changed += 1
    module.drop_unused_constants()
    return changed


def _array(op: Operation, index: int) -> Array:
    constant = op.operands[index]
    assert isinstance(constant, Constant)
    return constant.array


def _replace(module: Module, op: Operation, index: int, array: Array) -> None:
    name = str(op.operands[index].name)
    op.set_operand(index, module.add_constant(name, array.astype(np.float32)))

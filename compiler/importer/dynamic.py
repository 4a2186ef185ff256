"""Dynamic quantization: products of integers at a scale of the run are products of the real numbers behind them.

The integers q of DynamicQuantizeLinear stand for the reals (q - zero point) * scale. Here they are those reals, not
rounded, the scale is 1 and the zero point 0: what follows computes the same reals, for which accelc chooses scales of
its own. Kinds tell these values from others, so that nothing reads them that another scale would change.
"""

from __future__ import annotations

import numpy as np

from .arithmetic import lower_matmul
from .convolution import lower_conv
from .kinds import DYNAMIC_INTEGERS, DYNAMIC_SCALE, DYNAMIC_ZERO
from .lowering import Imported, Known, Lowering, Meaning, Unsupported, shape_of


def lower_dynamic_quantize(lowering: Lowering) -> list[Meaning]:
    """DynamicQuantizeLinear: the reals themselves, a scale of 1 and a zero point of 0."""
    if lowering.returned:
        raise Unsupported(f"'{lowering.returned[0]}' is an output, whose scale depends on the data of a run")
    label = lowering.node.label
    scale = lowering.value(Known(f"{label}.scale", np.ones((), np.float32)))
    zero = lowering.value(Known(f"{label}.zero_point", np.zeros((), np.float32)))
    data = lowering.value(lowering.input(0))
    return [Meaning(data, DYNAMIC_INTEGERS), Meaning(scale, DYNAMIC_SCALE), Meaning(zero, DYNAMIC_ZERO)]


def lower_matmul_integer(lowering: Lowering) -> list[Meaning]:
    """MatMulInteger of one or two activations that were quantized dynamically."""
    operands = [_real(lowering, 0, 2, channel_axis=-2), _real(lowering, 1, 3, channel_axis=-1)]
    return [Meaning(lower_matmul(lowering.with_inputs(operands)), DYNAMIC_INTEGERS)]


def lower_conv_integer(lowering: Lowering) -> list[Meaning]:
    """ConvInteger of an activation that was quantized dynamically."""
    operands = [_real(lowering, 0, 2, channel_axis=0), _real(lowering, 1, 3, channel_axis=0)]
    return [Meaning(lower_conv(lowering.with_inputs(operands)), DYNAMIC_INTEGERS)]


def _real(lowering: Lowering, index: int, zero_point: int, *, channel_axis: int) -> Imported:
    """An operand less its zero point, which may be one for each index of an axis where it is constant."""
    value = lowering.input(index)
    if not isinstance(value, Known) or DYNAMIC_INTEGERS not in lowering.kinds:
        kind = lowering.kinds[zero_point] if lowering.has(zero_point) else None
        if (lowering.kinds[index], kind) != (DYNAMIC_INTEGERS, DYNAMIC_ZERO):
            name = lowering.node.inputs[index]
            raise Unsupported(
                f"reads '{name}', expected the integers and zero point of DynamicQuantizeLinear: quantize statically, "
                "as QLinearConv, QLinearMatMul or between QuantizeLinear and DequantizeLinear"
            )
        return value
    offset = lowering.array(zero_point, "zero_point") if lowering.has(zero_point) else np.zeros((), value.array.dtype)
    shape = shape_of(value)
    if offset.size not in (1, shape[channel_axis]):
        raise lowering.error(f"{offset.size} zero points for {list(shape)}")
    spread = (-1, *(1,) * (len(shape) - 1 - channel_axis % len(shape)))
    difference = value.array.astype(np.float32) - offset.reshape(spread if offset.size > 1 else ()).astype(np.float32)
    return Known(value.name, difference)

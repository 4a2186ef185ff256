"""Weights and biases that a model stores as integers: found behind the operations that dequantize them, and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Value
from ...dialects.core.types import I8, Array
from ...dialects.quant.ops import DequantizeOp, ScaleOp
from ...dialects.quant.types import quantized_element
from .factors import quantize_factors
from .formats import FORMATS, INT8, Format
from .weights import QuantizedWeights, quantize_weights

SAME_SCALE = 2.0**-20
"""A bias counts as stored at the scale of data times weight up to this relative difference: both are float32."""


@dataclass(frozen=True, slots=True)
class StoredIntegers:
    """Real data == integers * scales: any integers, the scales [1], or [C] along the last axis."""

    integers: Array
    scales: Array


def is_fixed(value: Value[Any]) -> bool:
    """True for a constant, and for a constant that an operation dequantizes."""
    op = value.defining_op
    return isinstance(value, Constant) or (
        isinstance(op, (DequantizeOp, ScaleOp)) and all(isinstance(each, Constant) for each in op.operands)
    )


def fixed_array(value: Value[Any]) -> Array:
    """The real numbers of a value that `is_fixed`."""
    if isinstance(value, Constant):
        return value.array
    op = value.defining_op
    assert op is not None
    return op.evaluate(*(each.array for each in op.operands if isinstance(each, Constant)))


def fixed_name(value: Value[Any]) -> str | None:
    """The name of the constant behind a value that `is_fixed`."""
    op = value.defining_op
    return (value if op is None else op.operands[0]).name


def stored_integers(value: Value[Any]) -> StoredIntegers | None:
    """The integers behind a value; None if it is no dequantized constant, or has scales along another axis."""
    op = value.defining_op
    if not is_fixed(value) or op is None:
        return None
    (data, *_) = op.operands
    assert isinstance(data, Constant)
    if isinstance(op, DequantizeOp):
        element = quantized_element(data.type)
        return StoredIntegers(data.array.astype(np.int32) - element.zero_point, np.array([element.scale]))
    assert isinstance(op, ScaleOp) and isinstance(op.scale, Constant)
    scales = op.scale.array.astype(np.float64)
    if len(scales) > 1 and op.axis != data.type.rank - 1:
        return None
    return StoredIntegers(data.array.astype(np.int32), scales)


def is_wide(value: Value[Any]) -> bool:
    """True for dequantized integers of one type that do not fit int8 once their zero point is subtracted.

    A product of two quantized operands takes them as they are.
    """
    stored = stored_integers(value) if isinstance(value.defining_op, DequantizeOp) else None
    return stored is not None and not _fits(stored.integers)


def _fits(integers: Array) -> bool:
    limits = np.iinfo(I8.dtype)
    return int(integers.min(initial=0)) >= limits.min and int(integers.max(initial=0)) <= limits.max


def fixed_weights(
    weight: Value[Any], bias: Value[Any] | None, input_scale: float, format: Format = INT8
) -> tuple[QuantizedWeights, str | None]:
    """Weights [..., C] and bias [C] as integers, and what was not kept of those the model stores (None: nothing).

    Stored weights stay as they are if they and their accumulators fit, and so does a bias at the scale of data times
    weight; a bias at other scales is rounded to it. Everything else is quantized from its real values.
    """
    reals = None if bias is None else fixed_array(bias)
    stored = stored_integers(weight)
    if isinstance(weight, Constant) and reals is not None and weight.array.size == weight.type.shape[-1]:
        return quantize_factors(weight.array, reals, input_scale, format), None
    if stored is None:
        lost = None if isinstance(weight, Constant) else "the weights have scales along their inputs"
        return quantize_weights(fixed_array(weight), reals, input_scale, format), lost
    if not _fits(stored.integers):
        low, high = int(stored.integers.min()), int(stored.integers.max())
        lost = f"the weights reach from {low} to {high} steps around their zero point, int8 from -128 to 127"
        return quantize_weights(fixed_array(weight), reals, input_scale, format), lost
    channels = weight.type.shape[-1]
    scales = np.broadcast_to(input_scale * stored.scales, (channels,)).astype(np.float64)
    if not (scales > 0.0).all():
        return quantize_weights(
            fixed_array(weight), reals, input_scale, format
        ), "a scale of the weights is not positive"
    offsets, lost = (None, None) if bias is None else _bias(bias, scales)
    rows = np.abs(stored.integers.reshape(-1, channels)).sum(axis=0, dtype=np.int64)
    kept_format = format if format == INT8 else FORMATS["int16x8"]
    sums = kept_format.activation_span * rows + (0 if offsets is None else np.abs(offsets))
    if (sums >= kept_format.accumulator_limit).any():
        lost = f"weights and bias may leave a {format.accumulator_bits}-bit accumulator"
        return quantize_weights(fixed_array(weight), reals, input_scale, format), lost
    kept = None if offsets is None else offsets.astype(format.bias_dtype)
    return QuantizedWeights(stored.integers.astype(np.int8), kept, scales, 0, kept_format), lost


def _bias(bias: Value[Any], scales: Array) -> tuple[Array, str | None]:
    """Bias integers (float64) at `scales`, and what rounding them lost."""
    stored = stored_integers(bias)
    if stored is not None and np.allclose(stored.scales, scales, rtol=SAME_SCALE, atol=0.0):
        return np.broadcast_to(stored.integers, scales.shape).astype(np.float64), None
    reals = np.broadcast_to(fixed_array(bias), scales.shape).astype(np.float64)
    lost = None if stored is None else "the bias is stored at other scales than data times weight"
    return np.rint(reals / scales), lost

"""Layer normalisation over the last axis, in float and with integers; without centring it is RMS normalisation."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute, operand
from ..core.operation import Constant
from ..core.tensor import TensorOperation
from ..core.types import F32, Array, ElementType, TensorType
from ..quant.arithmetic import round_to_range
from ..quant.bfloat16_tables import brain_float_layer_norm
from ..quant.layer_norm import LARGEST_ROW, layer_norm_epsilon, layer_norm_gains, layer_norm_steps
from ..quant.types import is_brain_float, quantized_element
from .elements import float_element, is_quantized, require_element


class LayerNormOp(TensorOperation):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis [C]; scale and bias are f32 [C].

    Without `centred` the mean counts as 0: x / sqrt(mean(x^2) + epsilon) * scale + bias. Quantized data: the integers
    of `accelc.dialects.quant.layer_norm`; bf16 data: `brain_float_layer_norm`. Scale and bias are then constants.
    """

    name = "nn.layer_norm"

    data = operand(TensorType)
    scale = operand(TensorType)
    bias = operand(TensorType)
    epsilon = attribute(float, default=1e-5)
    centred = attribute(bool, default=True)

    def expected_shape(self) -> tuple[int, ...]:
        shape = self.data.type.shape
        if not shape or not shape[-1]:
            raise self.error(f"data has shape {list(shape)}, expected elements along a last axis")
        for name, value in (("scale", self.scale), ("bias", self.bias)):
            if value.type.shape != shape[-1:]:
                raise self.error(f"{name} has shape {list(value.type.shape)}, expected [{shape[-1]}]")
        return shape

    def expected_element(self) -> ElementType | None:
        for name, value in (("scale", self.scale), ("bias", self.bias)):
            require_element(self, name, value, F32)
        return float_element(self, data=self.data)

    def verify(self) -> None:
        super().verify()
        if self.epsilon < 0.0:
            raise self.error(f"epsilon is {self.epsilon}, expected at least 0.0")
        if is_brain_float(self.data) and not all(isinstance(value, Constant) for value in (self.scale, self.bias)):
            raise self.error("scale or bias is computed, expected constants beside bf16 data")
        if not is_quantized(self.data):
            return
        longest = LARGEST_ROW // quantized_element(self.data.type).magnitude
        if self.data.type.shape[-1] > longest:
            raise self.error(f"a row has {self.data.type.shape[-1]} elements, expected at most {longest}")
        try:
            self.parameters()
        except ValueError as error:
            raise self.error(f"the scales do not fit: {error}") from None

    def parameters(self) -> tuple[Array, Array, int, int]:
        """(gains, offsets, shift, integer epsilon) of quantized data; ValueError if none fit."""
        if not isinstance(self.scale, Constant) or not isinstance(self.bias, Constant):
            raise ValueError("scale or bias is computed, expected constants beside quantized data")
        source, target = quantized_element(self.data.type), quantized_element(self.out.type)
        gains, offsets, shift = layer_norm_gains(self.scale.array, self.bias.array, target.scale)
        return gains, offsets, shift, layer_norm_epsilon(self.epsilon, source.scale, self.data.type.shape[-1])

    def evaluate(self, data: Array, scale: Array, bias: Array) -> Array:
        if is_brain_float(self.data):
            return brain_float_layer_norm(data, scale, bias, self.epsilon, centred=self.centred)
        if not is_quantized(self.data):
            centred = data - data.mean(axis=-1, keepdims=True, dtype=np.float32) if self.centred else data
            mean_square = (centred * centred).mean(axis=-1, keepdims=True, dtype=np.float32)
            return centred / np.sqrt(mean_square + np.float32(self.epsilon)) * scale + bias
        source, target = quantized_element(self.data.type), quantized_element(self.out.type)
        x = data.astype(np.int64) - source.zero_point
        steps = layer_norm_steps(x, *self.parameters(), centred=self.centred)
        return round_to_range(steps, target.zero_point, target.low, target.high, target.dtype)

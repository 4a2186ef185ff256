"""Convolution in channels-last layout, with its fused bias and clamp."""

from __future__ import annotations

import numpy as np

from ..core.fields import AttributeField, attribute, list_attribute, operand, optional_operand
from ..core.types import F32, I8, Array, ElementType, TensorType
from ..quant.types import is_brain_float, quantized_element
from .elements import (
    ClampedOperation,
    is_quantized,
    product_element,
    require_at_least,
    require_element,
    require_length,
    require_rank,
)
from .ordered import ordered_convolve
from .products import convolve, exact_convolve, with_bias
from .windows import output_extent


class Conv2dOp(ClampedOperation):
    """2-D convolution: data NHWC, weight HWIO with I = C / groups, optional bias O; pads are top, left, bottom, right.

    f32: clamp(sum(x * w) + b). bf16 (with an f32 bias) the same in the order and with the roundings of
    `accelc.dialects.quant.bfloat16`. Quantized data give the exact accumulator sum((x - zero point) * w) + b of
    `product_element`, to which padding contributes 0; no clamp then. `macs` is the number of
    multiply-accumulates of the original model, where a pass has changed the shapes.
    """

    name = "nn.conv2d"

    data = operand(TensorType)
    weight = operand(TensorType)
    bias = optional_operand(TensorType)
    strides = list_attribute(int, default=(1, 1))
    pads = list_attribute(int, default=(0, 0, 0, 0))
    dilations = list_attribute(int, default=(1, 1))
    groups = attribute(int, default=1)
    macs: AttributeField[int | None] = attribute(int, default=None)

    @property
    def is_depthwise(self) -> bool:
        """True if every group has one input channel."""
        return self.groups > 1 and self.weight.type.shape[2] == 1

    @property
    def macs_total(self) -> int:
        if self.macs is not None:
            return self.macs
        height, width, inputs, _ = self.weight.type.shape
        return self.out.type.size * height * width * inputs

    def expected_shape(self) -> tuple[int, ...]:
        require_rank(self, "data", self.data, 4, "NHWC")
        require_rank(self, "weight", self.weight, 4, "HWIO")
        for attribute_name, length, bound in (("strides", 2, 1), ("pads", 4, 0), ("dilations", 2, 1)):
            require_length(self, attribute_name, length)
            require_at_least(self, attribute_name, bound)
        batch, height, width, channels = self.data.type.shape
        kernel_height, kernel_width, inputs, outputs = self.weight.type.shape
        if self.groups < 1 or outputs % self.groups:
            raise self.error(f"weight has {outputs} outputs, expected a multiple of {self.groups} groups")
        if channels != inputs * self.groups:
            grouped = f" ({inputs} in each of {self.groups} groups)" if self.groups > 1 else ""
            raise self.error(f"data has {channels} channels, weight expects {inputs * self.groups}{grouped}")
        if self.bias is not None and self.bias.type.shape != (outputs,):
            raise self.error(f"bias has shape {list(self.bias.type.shape)}, expected [{outputs}]")
        rows = output_extent(height, kernel_height, self.strides[0], self.dilations[0], self.pads[0], self.pads[2])
        columns = output_extent(width, kernel_width, self.strides[1], self.dilations[1], self.pads[1], self.pads[3])
        if rows < 1 or columns < 1:
            kernel = f"{kernel_height}x{kernel_width} with dilations {list(self.dilations)}"
            raise self.error(f"kernel is {kernel}, expected to fit the padded {height}x{width} image")
        return (batch, rows, columns, outputs)

    def expected_element(self) -> ElementType:
        if is_quantized(self.weight):
            require_element(self, "weight", self.weight, I8 if is_quantized(self.data) else F32)
        return product_element(self, self.bias, data=self.data, weight=self.weight)

    def evaluate(self, data: Array, weight: Array, bias: Array | None = None) -> Array:
        options = (self.strides, self.pads, self.dilations, self.groups)
        if is_quantized(self.data):
            total = exact_convolve(data, quantized_element(self.data.type).zero_point, weight, *options)
            return total if bias is None else with_bias(total, bias)
        product = (ordered_convolve if is_brain_float(self.data) else convolve)(data, weight, *options)
        return self.clamp(product if bias is None else np.add(product, bias, out=product))

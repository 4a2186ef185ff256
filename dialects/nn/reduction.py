"""Reductions over whole axes."""

from __future__ import annotations

import math

import numpy as np

from ..core.fields import attribute, list_attribute, operand
from ..core.types import Array, ElementType, TensorType
from ..quant.arithmetic import fixed_point, rescale
from ..quant.bfloat16 import ordered_sum
from ..quant.types import is_brain_float, quantized_element
from .elements import ClampedOperation, float_element, is_quantized, require_sum


class ReduceMeanOp(ClampedOperation):
    """`factor` times the mean over `axes` (sorted, counted from 0), kept with length 1 if `keepdims`.

    With the number of elements n as the factor it is the sum. Quantized: clip(rint(sum(x - zp_in) * M * 2^-s) + zp_out)
    with (M, s) = fixed_point(factor * scale_in / (scale_out * n));
    the result type is the data's element type unless given. bf16: the elements are added in row-major order, and the
    sum is multiplied by the float32 nearest to factor / n.
    """

    name = "nn.reduce_mean"

    data = operand(TensorType)
    axes = list_attribute(int)
    keepdims = attribute(bool, default=True)
    factor = attribute(float, default=1.0)

    @property
    def count(self) -> int:
        """How many elements each mean is over."""
        return math.prod(self.data.type.shape[axis] for axis in self.axes)

    def expected_shape(self) -> tuple[int, ...]:
        shape, axes = self.data.type.shape, self.axes
        if list(axes) != sorted(set(axes)) or any(not 0 <= axis < len(shape) for axis in axes):
            raise self.error(f"axes are {list(axes)}, expected distinct and sorted from 0 to {len(shape) - 1}")
        if self.count < 1:
            raise self.error(f"data has shape {list(shape)}, expected elements along axes {list(axes)}")
        if self.keepdims:
            return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        return tuple(size for axis, size in enumerate(shape) if axis not in axes)

    def expected_element(self) -> ElementType | None:
        element = float_element(self, data=self.data)
        return element or (None if self.results else self.data.type.element)

    def verify(self) -> None:
        super().verify()
        if is_quantized(self.data):
            require_sum(self, self.count, self.data)
            try:
                self.fixed_point()
            except ValueError as error:
                raise self.error(f"the scales do not fit: {error}") from None

    def fixed_point(self) -> tuple[Array, Array]:
        """(M, s) that turn the sum into the mean, for quantized data."""
        source, target = quantized_element(self.data.type), quantized_element(self.out.type)
        return fixed_point(self.factor * source.scale / (target.scale * self.count))

    def evaluate(self, data: Array) -> Array:
        if is_brain_float(self.data):
            last = tuple(axis for axis in range(data.ndim) if axis not in self.axes) + self.axes
            rows = data.transpose(last).astype(np.float32).reshape(-1, self.count)
            total = ordered_sum(rows, -1).reshape(self.expected_shape())
            return self.clamp(total * np.float32(self.factor / self.count))
        if not is_quantized(self.data):
            total = np.asarray(data.sum(axis=self.axes, keepdims=self.keepdims, dtype=np.float32))
            return self.clamp(total * np.float32(self.factor / self.count))
        source, target = quantized_element(self.data.type), quantized_element(self.out.type)
        total = (
            np.asarray(data.sum(axis=self.axes, keepdims=self.keepdims, dtype=np.int64))
            - source.zero_point * self.count
        )
        return rescale(total, *self.fixed_point(), target.zero_point, *self.integer_bounds, target.dtype)

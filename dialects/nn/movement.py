"""Operations that move elements without computing: any element type, kept from operand to result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.fields import attribute, list_attribute, operand, variadic_operand
from ..core.operation import Operation
from ..core.tensor import TensorOperation
from ..core.types import Array, ElementType, TensorType
from ..quant.types import is_number, number_of
from .elements import require_at_least, require_axis, require_length, require_permutation


class DataMovement(TensorOperation):
    """One tensor in, its elements somewhere else out."""

    data = operand(TensorType)

    def expected_element(self) -> ElementType:
        return self.data.type.element


class ConcatOp(TensorOperation):
    """The inputs one after the other along `axis`; the same element type and otherwise the same shape."""

    name = "nn.concat"

    inputs = variadic_operand(TensorType)
    axis = attribute(int)

    def expected_shape(self) -> tuple[int, ...]:
        if not self.inputs:
            raise self.error("has 0 operands, expected at least 1")
        first = self.inputs[0].type.shape
        require_axis(self, self.axis, len(first))
        for index, value in enumerate(self.inputs):
            shape = value.type.shape
            if len(shape) != len(first) or _without(shape, self.axis) != _without(first, self.axis):
                raise self.error(
                    f"operand {index} has shape {list(shape)}, expected {list(first)} but for axis {self.axis}"
                )
        total = sum(value.type.shape[self.axis] for value in self.inputs)
        return (*first[: self.axis], total, *first[self.axis + 1 :])

    def expected_element(self) -> ElementType:
        if not self.inputs:
            raise self.error("has 0 operands, expected at least 1")
        first = self.inputs[0].type.element
        for index, value in enumerate(self.inputs):
            if value.type.element != first:
                raise self.error(f"operand {index} has element type {value.type.element}, expected {first}")
        return first

    def evaluate(self, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=self.axis)


class SliceOp(DataMovement):
    """data[start:stop:step] on every axis, 0 <= start <= stop <= size, step >= 1."""

    name = "nn.slice"

    starts = list_attribute(int)
    stops = list_attribute(int)
    steps = list_attribute(int)

    def expected_shape(self) -> tuple[int, ...]:
        shape = self.data.type.shape
        for name in ("starts", "stops", "steps"):
            require_length(self, name, len(shape))
        require_at_least(self, "steps", 1)
        for axis, (start, stop, size) in enumerate(zip(self.starts, self.stops, shape, strict=True)):
            if not 0 <= start <= stop <= size:
                raise self.error(f"axis {axis} is cut at [{start}, {stop}], expected a range within [0, {size}]")
        return tuple(
            -(-(stop - start) // step) for start, stop, step in zip(self.starts, self.stops, self.steps, strict=True)
        )

    def evaluate(self, data: Array) -> Array:
        cuts = zip(self.starts, self.stops, self.steps, strict=True)
        return data[tuple(slice(start, stop, step) for start, stop, step in cuts)]


class PadOp(DataMovement):
    """`low` and `high` elements of the real number `value`, as the tensor stores it, before and after every axis."""

    name = "nn.pad"

    low = list_attribute(int)
    high = list_attribute(int)
    value = attribute(float, default=0.0)

    def expected_shape(self) -> tuple[int, ...]:
        shape = self.data.type.shape
        for name in ("low", "high"):
            require_length(self, name, len(shape))
            require_at_least(self, name, 0)
        return tuple(low + size + high for low, size, high in zip(self.low, shape, self.high, strict=True))

    @property
    def stored_value(self) -> Any:
        """The pad value as the tensor stores it."""
        element = self.data.type.element
        return number_of(self.data.type).quantize(self.value)[()] if is_number(element) else self.value

    def evaluate(self, data: Array) -> Array:
        padded = np.full(self.expected_shape(), self.stored_value, dtype=data.dtype)
        padded[tuple(slice(low, low + size) for low, size in zip(self.low, data.shape, strict=True))] = data
        return padded


class GatherOp(DataMovement):
    """The entries `indices` (0 <= index < size) of `axis`, in that order."""

    name = "nn.gather"

    axis = attribute(int)
    indices = list_attribute(int)

    def expected_shape(self) -> tuple[int, ...]:
        shape = self.data.type.shape
        require_axis(self, self.axis, len(shape))
        outside = [index for index in self.indices if not 0 <= index < shape[self.axis]]
        if outside:
            raise self.error(f"indices hold {outside[0]}, expected 0 to {shape[self.axis] - 1}")
        return (*shape[: self.axis], len(self.indices), *shape[self.axis + 1 :])

    def evaluate(self, data: Array) -> Array:
        return np.take(data, np.asarray(self.indices, dtype=np.intp), axis=self.axis)


class ReshapeOp(DataMovement):
    """The same elements in row-major order in another shape."""

    name = "nn.reshape"

    shape = list_attribute(int)

    def expected_shape(self) -> tuple[int, ...]:
        require_at_least(self, "shape", 0)
        if math.prod(self.shape) != self.data.type.size:
            actual = f"shape {list(self.shape)} has {math.prod(self.shape)} elements"
            raise self.error(f"{actual}, expected the {self.data.type.size} of data")
        return self.shape

    def evaluate(self, data: Array) -> Array:
        return data.reshape(self.shape)


class TransposeOp(DataMovement):
    """Axes in another order: axis i of the result is axis permutation[i] of the data."""

    name = "nn.transpose"

    permutation = list_attribute(int)

    def expected_shape(self) -> tuple[int, ...]:
        shape = self.data.type.shape
        require_permutation(self, self.permutation, len(shape))
        return tuple(shape[axis] for axis in self.permutation)

    def evaluate(self, data: Array) -> Array:
        return data.transpose(self.permutation)


class PermuteChannelsOp(DataMovement):
    """The last axis in another order: out[..., i] = data[..., permutation[i]]; what a channel shuffle is."""

    name = "nn.permute_channels"

    permutation = list_attribute(int)

    def expected_shape(self) -> tuple[int, ...]:
        shape = self.data.type.shape
        if not shape:
            raise self.error("data has 0 axes, expected at least 1")
        require_permutation(self, self.permutation, shape[-1])
        return shape

    def evaluate(self, data: Array) -> Array:
        return np.take(data, np.asarray(self.permutation, dtype=np.intp), axis=-1)


DATA_MOVEMENT: tuple[type[Operation], ...] = (
    ConcatOp,
    SliceOp,
    PadOp,
    GatherOp,
    ReshapeOp,
    TransposeOp,
    PermuteChannelsOp,
)
"""The operations of this family."""


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]

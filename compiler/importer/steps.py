"""The integers behind constants that a file stores quantized, and the operations that say what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...dialects.core.operation import Module, Operation
from ...dialects.core.types import I8, I16, Array, ScalarType, TensorType
from ...dialects.quant.ops import DequantizeOp, ScaleOp
from ...dialects.quant.types import QuantizedType

SHIFTS: dict[str, tuple[ScalarType, int]] = {
    "int8": (I8, 0),
    "uint8": (I8, 128),
    "int16": (I16, 0),
    "uint16": (I16, 32768),
}
"""ONNX element types of activations, what stores them here, and what is subtracted from integer and zero point."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Dequantized data is (stored - zero_point) * scale; all three arrays have its shape (the last two as views)."""

    stored: Array
    scale: Array
    zero_point: Array

    @classmethod
    def of(cls, stored: Array, scale: Array, zero_point: Array, axis: int) -> Steps:
        """Integers with one scale and zero point (one element each), or one per index of `axis`; ValueError if none."""
        shape = stored.shape

        def spread(array: Array) -> Array:
            if array.size == 1:
                return np.broadcast_to(array.reshape(()), shape)
            if array.ndim != 1 or not -len(shape) <= axis < len(shape) or len(array) != shape[axis]:
                raise ValueError(f"shape {list(array.shape)} on axis {axis} of {list(shape)}")
            return np.broadcast_to(array.reshape(-1, *(1,) * (len(shape) - 1 - axis % len(shape))), shape)

        return cls(stored, spread(scale), spread(zero_point))

    def moved(self, move: Callable[[Array], Array]) -> Steps:
        """The same after `move`, which transposes or reshapes the data."""
        return Steps(move(self.stored), move(self.scale), move(self.zero_point))

    def scaled(self, factor: float) -> Steps:
        """The same integers for data `factor` times as large."""
        return Steps(self.stored, self.scale * np.float32(factor), self.zero_point)

    def real(self) -> Array:
        """The data as float32: an exact subtraction and one multiplication (ONNX DequantizeLinear)."""
        return self._differences().astype(np.float32) * self.scale

    def operation(self, name: str, module: Module) -> Operation:
        """An unplaced operation whose result is the data, with its constants in `module`.

        8-bit integers with one scale have a quantized type and `quant.dequantize`; others, less their zero points, are
        plain i8, i16 or i32 under `quant.scale`. ValueError if the scales are no numbers or vary along several axes.
        """
        axis = _varying_axis(self.scale)
        if not np.isfinite(self.scale).all():
            raise ValueError("a scale is not a finite number")
        flat = self.zero_point.reshape(-1)
        known = SHIFTS.get(self.stored.dtype.name)
        if axis is None and known is not None and self.stored.itemsize == 1 and self.stored.size:
            storage, shift = known
            if _varying_axis(self.zero_point) is None:
                element = QuantizedType(storage, float(self.scale.reshape(-1)[0]), int(flat[0]) - shift)
                array = (self.stored.astype(np.int16) - shift).astype(storage.dtype)
                constant = module.add_constant(name, array, TensorType(tuple(array.shape), element))
                return DequantizeOp.build(constant)
        integers = self._differences()
        kinds = (np.int8, np.int16, np.int32) if self.stored.itemsize < 4 else (np.int32,)
        limits = [(kind, np.iinfo(kind)) for kind in kinds]
        low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
        kind = next((kind for kind, limit in limits if limit.min <= low and high <= limit.max), None)
        if kind is None:
            raise ValueError("the integers less their zero points do not fit 32 bits")
        taken = self.scale.reshape(-1)[:1] if axis is None else np.moveaxis(self.scale, axis, 0)
        factors = np.ascontiguousarray(taken.reshape(len(taken), -1)[:, 0])
        constant = module.add_constant(name, np.ascontiguousarray(integers.astype(kind)))
        scale = module.add_constant(f"{name}.scale", factors)
        return ScaleOp.build(constant, scale, axis=axis or None)

    def _differences(self) -> Array:
        return self.stored.astype(np.int64) - self.zero_point.astype(np.int64)


def real_number(element: QuantizedType, stored: Array) -> float:
    """What one integer, as the file stores it beside a tensor of this type, stands for."""
    _, shift = SHIFTS[stored.dtype.name]
    return (int(stored.reshape(-1)[0]) - shift - element.zero_point) * element.scale


def _varying_axis(array: Array) -> int | None:
    """The one axis along which `array` varies; None if all elements are equal; ValueError if it is several."""
    if not array.size or bool((array == array.reshape(-1)[0]).all()):
        return None
    for axis, size in enumerate(array.shape):
        rows = np.moveaxis(array, axis, 0).reshape(size, -1)
        if size > 1 and bool((rows == rows[:, :1]).all()):
            return axis
    raise ValueError("the scales vary along several axes")

"""Quantized element types: an integer that stands for scale * (integer - zero point)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core.types import I8, I16, U8, Array, DialectType, ElementType, ScalarType, TensorType

_STORAGES = {"i8": I8, "i16": I16, "u8": U8}


@dataclass(frozen=True, slots=True)
class QuantizedType(ElementType, DialectType):
    """The real number scale * (q - zero_point), stored as `q` in i8, i16 or u8: `!quant.i8<0.0078:-1>`.

    `scale` is from 2^-126 to 2^110, so that every real is a finite float32. `zero_point` is within the storage range,
    and 0 for i16.
    """

    name: ClassVar[str] = "quant"
    keywords: ClassVar[tuple[str, ...]] = tuple(_STORAGES)

    storage: ScalarType
    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if self.storage.name not in _STORAGES:
            raise ValueError(f"storage is {self.storage}, expected one of {', '.join(_STORAGES)}")
        if not 2.0**-126 <= self.scale < 2.0**110:
            raise ValueError(f"scale is {self.scale}, expected 2^-126 to 2^110")
        if not self.low <= self.zero_point <= self.high:
            raise ValueError(f"zero point is {self.zero_point}, expected {self.low} to {self.high}")
        if self.storage == I16 and self.zero_point != 0:
            raise ValueError(f"zero point is {self.zero_point}, expected 0 for i16")

    @classmethod
    def from_parameters(cls, keyword: str, parameters: list[int | float | str]) -> QuantizedType:
        match parameters:
            case [float() | int() as scale, int() as zero_point]:
                return cls(_STORAGES[keyword], float(scale), zero_point)
            case _:
                raise ValueError("expected <scale:zero_point>")

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.storage.dtype

    @property
    def low(self) -> int:
        """The smallest stored integer."""
        return int(np.iinfo(self.storage.dtype).min)

    @property
    def high(self) -> int:
        """The largest stored integer."""
        return int(np.iinfo(self.storage.dtype).max)

    @property
    def magnitude(self) -> int:
        """The largest |q - zero_point|."""
        return max(self.high - self.zero_point, self.zero_point - self.low)

    def quantize(self, real: Array | float) -> Array:
        """clip(rint(real / scale) + zero_point, low, high) in the precision of `real` (float32 or float64); no NaN."""
        values = np.asarray(real)
        if values.dtype != np.float32:
            values = values.astype(np.float64)
        steps: Array = np.divide(values, values.dtype.type(self.scale), out=np.empty_like(values))
        np.rint(steps, out=steps)
        np.add(steps, values.dtype.type(self.zero_point), out=steps)
        return np.clip(steps, self.low, self.high, out=steps).astype(self.dtype)

    def dequantize(self, stored: Array) -> Array:
        """The reals scale * (stored - zero_point) as float32: one exact subtraction, one float32 multiplication."""
        return (stored.astype(np.int32) - self.zero_point).astype(np.float32) * np.float32(self.scale)

    def __str__(self) -> str:
        return f"!quant.{self.storage}<{self.scale!r}:{self.zero_point}>"


def quantized_element(type: TensorType) -> QuantizedType:
    """The element type of a quantized tensor; TypeError if the tensor is not quantized."""
    if not isinstance(type.element, QuantizedType):
        raise TypeError(f"{type} is not quantized")
    return type.element

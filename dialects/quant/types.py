"""Numbers that machines compute with: integers that stand for scale * (integer - zero point), and bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core.operation import Value
from ..core.types import BF16, I8, I16, U8, Array, DialectType, ElementType, ScalarType, TensorType
from .bfloat16 import HIGHEST_ORDINAL, LOWEST_ORDINAL, ordinals, rounded

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

    def integer(self, real: float) -> int:
        """The stored integer of one real number, as fields of instructions hold it."""
        return int(self.quantize(real))

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


@dataclass(frozen=True, slots=True)
class BrainFloat:
    """What `QuantizedType` says of integers, for tensors of the scalar type bf16.

    Fields of instructions hold a number as its ordinal (see `accelc.dialects.quant.bfloat16`).
    """

    storage: ScalarType = BF16
    zero_point: int = 0
    low: int = LOWEST_ORDINAL
    high: int = HIGHEST_ORDINAL

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type that stores one number."""
        return self.storage.dtype

    def quantize(self, real: Array | float) -> Array:
        """The nearest numbers, ties to even; no NaN."""
        return rounded(np.asarray(real, np.float32))

    def integer(self, real: float) -> int:
        """The ordinal of the number nearest to a real."""
        return int(ordinals(self.quantize(real)))

    def dequantize(self, stored: Array) -> Array:
        """The same numbers as float32."""
        return stored.astype(np.float32)


Number = QuantizedType | BrainFloat
"""What a machine can compute with."""

BRAIN_FLOAT = BrainFloat()


def is_number(element: ElementType) -> bool:
    """True for elements that instructions work on: quantized types and bf16."""
    return element == BF16 or isinstance(element, QuantizedType)


def is_brain_float(value: Value[TensorType]) -> bool:
    """True if the tensor holds bfloat16 numbers."""
    return value.type.element == BF16


def number_of(type: TensorType) -> Number:
    """How the elements of a tensor are stored; TypeError if instructions cannot work on them."""
    if type.element == BF16:
        return BRAIN_FLOAT
    return quantized_element(type)

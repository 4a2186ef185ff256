"""Types: scalars, dialect types such as quantized elements, and tensors of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(cast(Any, ml_dtypes.bfloat16)),
    "i1": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "u32": np.dtype(np.uint32),
    "u64": np.dtype(np.uint64),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Type:
    """Base of all types; immutable, compared by value, printed by `str`."""


class ElementType(Type):
    """What a tensor can hold: a scalar, or a dialect type stored as a scalar."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type that stores one element."""
        raise TypeError(f"{self} has no numpy type")


@dataclass(frozen=True, slots=True)
class ScalarType(ElementType):
    """A number: f32, f64, f16, bf16, i1, i8 .. i64, u8 .. u64."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in _DTYPES:
            raise ValueError(f"unknown scalar type '{self.name}', expected one of {', '.join(_DTYPES)}")

    @property
    def dtype(self) -> np.dtype[Any]:
        return _DTYPES[self.name]

    @property
    def is_float(self) -> bool:
        """True for f16, bf16, f32, f64."""
        return self.name in ("f16", "bf16", "f32", "f64")

    def __str__(self) -> str:
        return self.name


F32, F64, BF16 = ScalarType("f32"), ScalarType("f64"), ScalarType("bf16")
I1, I8, I16, I32, I64, U8 = (ScalarType(name) for name in ("i1", "i8", "i16", "i32", "i64", "u8"))


def is_scalar(name: str) -> bool:
    """True if a name is that of a numpy dtype of which there is a scalar type."""
    return any(dtype.name == name for dtype in _NAMES)


def scalar_type(dtype: npt.DTypeLike) -> ScalarType:
    """The scalar type of a numpy dtype; ValueError if there is none."""
    name = _NAMES.get(np.dtype(dtype))
    if name is None:
        raise ValueError(f"no IR type for numpy type {np.dtype(dtype)}")
    return ScalarType(name)


class DialectType(Type):
    """A type `!dialect.keyword<p, p:p>` that a dialect defines: its namespace, keywords and parameters."""

    name: ClassVar[str]
    keywords: ClassVar[tuple[str, ...]]

    @classmethod
    def accepts(cls, keyword: str) -> bool:
        """True if `!name.keyword` is this type."""
        return keyword in cls.keywords

    @classmethod
    def from_parameters(cls, keyword: str, parameters: list[int | float | str]) -> DialectType:
        """Build from the written parameters; ValueError with a reason if they are wrong."""
        raise NotImplementedError(cls.__name__)


@dataclass(frozen=True, slots=True)
class TensorType(Type):
    """A dense array of known shape: `tensor<1x32x32x3xf32>`; a scalar is `tensor<f32>`."""

    shape: tuple[int, ...]
    element: ElementType

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        """The same element type in another shape."""
        return TensorType(tuple(shape), self.element)

    def with_element(self, element: ElementType) -> TensorType:
        """The same shape with another element type."""
        return TensorType(self.shape, element)

    def __str__(self) -> str:
        return f"tensor<{''.join(f'{n}x' for n in self.shape)}{self.element}>"


def tensor_type(array: Array) -> TensorType:
    """The type of a numpy array."""
    return TensorType(tuple(int(n) for n in array.shape), scalar_type(array.dtype))

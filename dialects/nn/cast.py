"""Changes of the scalar type, at the border of a network: what its float32 numbers stand for outside."""

from __future__ import annotations

import numpy as np

from ..core.fields import attribute, operand
from ..core.tensor import TensorOperation
from ..core.types import F32, I1, Array, ElementType, ScalarType, TensorType
from ..quant.types import is_number


class CastOp(TensorOperation):
    """The same numbers in another scalar type `to`, one side f32; integers and truth values are numbers as any other.

    From f32 to integers the nearest one, ties to even, within the range of the type (NaN is 0); to i1 what is nearer
    to 1 or -1 than to 0; to a float the nearest. The host does this with inputs and outputs: inside a network all
    numbers are f32.
    """

    name = "nn.cast"

    data = operand(TensorType)
    to = attribute(str)

    def expected_shape(self) -> tuple[int, ...]:
        return self.data.type.shape

    def expected_element(self) -> ElementType:
        source = self.data.type.element
        try:
            target = ScalarType(self.to)
        except ValueError as error:
            raise self.error(str(error)) from None
        if not isinstance(source, ScalarType) or is_number(source) or is_number(target):
            raise self.error(f"casts {source} to {target}, expected scalars that are no numbers of the machine")
        if F32 not in (source, target):
            raise self.error(f"casts {source} to {target}, expected f32 on one side")
        return target

    def evaluate(self, data: Array) -> Array:
        return cast_array(data, ScalarType(self.to))


def cast_array(data: Array, target: ScalarType) -> Array:
    """The elements of an array in another scalar type, by the rule of `CastOp`."""
    if target == I1:
        return np.abs(data.astype(np.float32)) >= np.float32(0.5)
    if target.is_float or data.dtype.kind != "f":
        with np.errstate(over="ignore"):
            return data.astype(target.dtype)
    bounds = np.iinfo(target.dtype)
    # The largest 64-bit integers are no floats: what reaches beyond them is set afterwards.
    nearest = np.rint(np.nan_to_num(data.astype(np.float64), nan=0.0))
    inside = np.clip(nearest, float(bounds.min), float(bounds.max))
    whole = np.where(inside < float(bounds.max), inside, 0).astype(target.dtype)
    return np.where(inside < float(bounds.max), whole, target.dtype.type(bounds.max))

"""Operations on tensors with one tensor result: the shape and element rule stated once, used to infer and to verify."""

from __future__ import annotations

from collections.abc import Sequence

from .fields import result
from .operation import Operation, Pure
from .types import DialectType, ElementType, TensorType, Type


class TensorOperation(Operation):
    """A pure operation with one tensor result `out`, whose shape follows from operands and attributes.

    A subclass defines `expected_shape` and `expected_element`, which also check the operands and raise located errors.
    """

    traits = frozenset({Pure})

    out = result(TensorType)

    def expected_shape(self) -> tuple[int, ...]:
        """The shape of the result; raises CompileError if operands and attributes do not fit together."""
        raise TypeError(f"{self.name} has no shape rule")

    def expected_element(self) -> ElementType | None:
        """The element type of the result; None if it is a quantized type that the operands do not determine."""
        raise TypeError(f"{self.name} has no element rule")

    @property
    def macs_total(self) -> int:
        """Multiply-accumulates that the original model spends here; 0 for everything that is not matmul-like."""
        return 0

    def infer_types(self) -> Sequence[Type]:
        element = self.expected_element()
        if element is None:
            raise self.error("the quantized result type does not follow from the operands and must be given")
        return (TensorType(self.expected_shape(), element),)

    def verify(self) -> None:
        element, shape, actual = self.expected_element(), self.expected_shape(), self.out.type
        if element is None and not isinstance(actual.element, DialectType):
            raise self.error(f"result has element type {actual.element}, expected a quantized type")
        expected = TensorType(shape, element or actual.element)
        if actual != expected:
            raise self.error(f"result is {actual}, expected {expected}")

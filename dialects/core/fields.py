"""Declared fields of an operation class: operands, results and attributes as typed descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from .types import Type

if TYPE_CHECKING:
    from .operation import Operation, OpResult, Value

AttributeValue = int | float | bool | str | Type | tuple[Any, ...] | None
TypeT = TypeVar("TypeT", bound=Type)
AttributeT = TypeVar("AttributeT")


class _Missing:
    """The default of an attribute that must be given."""

    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Missing()


class OperandField(Generic[TypeT]):
    """An operand position: reading it gives the Value. `arity` is one, optional (last only) or variadic (last only)."""

    index: int = 0
    name: str = ""

    def __init__(self, type: type[TypeT], arity: str) -> None:
        self.type = type
        self.arity = arity

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class SingleOperand(OperandField[TypeT]):
    """A required operand."""

    @overload
    def __get__(self, op: None, owner: type) -> SingleOperand[TypeT]: ...
    @overload
    def __get__(self, op: Operation, owner: type) -> Value[TypeT]: ...
    def __get__(self, op: Operation | None, owner: type) -> Any:
        return self if op is None else op.operands[self.index]


class OptionalOperand(OperandField[TypeT]):
    """A trailing operand that may be absent; reads as None."""

    @overload
    def __get__(self, op: None, owner: type) -> OptionalOperand[TypeT]: ...
    @overload
    def __get__(self, op: Operation, owner: type) -> Value[TypeT] | None: ...
    def __get__(self, op: Operation | None, owner: type) -> Any:
        if op is None:
            return self
        return op.operands[self.index] if len(op.operands) > self.index else None


class VariadicOperand(OperandField[TypeT]):
    """All remaining operands, as a tuple."""

    @overload
    def __get__(self, op: None, owner: type) -> VariadicOperand[TypeT]: ...
    @overload
    def __get__(self, op: Operation, owner: type) -> tuple[Value[TypeT], ...]: ...
    def __get__(self, op: Operation | None, owner: type) -> Any:
        return self if op is None else op.operands[self.index :]


class ResultField(Generic[TypeT]):
    """A result position."""

    index: int = 0
    name: str = ""
    is_variadic: bool = False

    def __init__(self, type: type[TypeT]) -> None:
        self.type = type

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class SingleResult(ResultField[TypeT]):
    """A result: reading it gives the OpResult."""

    @overload
    def __get__(self, op: None, owner: type) -> SingleResult[TypeT]: ...
    @overload
    def __get__(self, op: Operation, owner: type) -> OpResult[TypeT]: ...
    def __get__(self, op: Operation | None, owner: type) -> Any:
        return self if op is None else op.results[self.index]


class VariadicResult(ResultField[TypeT]):
    """All remaining results, as a tuple (last only)."""

    is_variadic = True

    @overload
    def __get__(self, op: None, owner: type) -> VariadicResult[TypeT]: ...
    @overload
    def __get__(self, op: Operation, owner: type) -> tuple[OpResult[TypeT], ...]: ...
    def __get__(self, op: Operation | None, owner: type) -> Any:
        return self if op is None else op.results[self.index :]


class AttributeField(Generic[AttributeT]):
    """A named attribute of one kind: reading gives its value or the default, writing stores it.

    `item` is the kind of the elements when the attribute is a list. `choices` restricts a string, or those of a list.
    `bits` is the width of the field in an encoded instruction (tile dialect only); negative means signed.
    """

    name: str = ""

    def __init__(self, kind: type, item: type | None, default: Any, choices: tuple[str, ...], bits: int) -> None:
        self.kind = kind
        self.item = item
        self.default = default
        self.choices = choices
        self.bits = bits
        self._span = _span(bits)
        self._is_plain = item is None and not choices

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, op: None, owner: type) -> AttributeField[AttributeT]: ...
    @overload
    def __get__(self, op: Operation, owner: type) -> AttributeT: ...
    def __get__(self, op: Operation | None, owner: type) -> Any:
        if op is None:
            return self
        value = op.attributes.get(self.name, self.default)
        if value is REQUIRED:
            raise op.error(f"attribute '{self.name}' is missing")
        return value

    def __set__(self, op: Operation, value: AttributeT) -> None:
        op.attributes[self.name] = cast(Any, value)

    def problem(self, value: AttributeValue) -> str | None:
        """Why `value` is not allowed here, or None."""
        if self._is_plain and type(value) is self.kind:
            span = self._span
            if span is None or (isinstance(value, int) and span[0] <= value <= span[1]):
                return None
        if value is None and self.default is None:
            return None
        if self.item is not None:
            if not isinstance(value, tuple):
                return f"attribute '{self.name}' is {_describe(value)}, expected a list of {self.item.__name__}"
            bad = [v for v in value if not _is_kind(v, self.item)]
            if bad:
                return f"attribute '{self.name}' holds {_describe(bad[0])}, expected {self.item.__name__}"
            odd = [v for v in value if self.choices and v not in self.choices]
            return (
                f"attribute '{self.name}' holds '{odd[0]}', expected one of {', '.join(self.choices)}" if odd else None
            )
        if not _is_kind(value, self.kind):
            return f"attribute '{self.name}' is {_describe(value)}, expected {self.kind.__name__}"
        if self.choices and value not in self.choices:
            return f"attribute '{self.name}' is '{value}', expected one of {', '.join(self.choices)}"
        if self._span is not None and isinstance(value, int):
            low, high = self._span
            if not low <= value <= high:
                return f"attribute '{self.name}' is {value}, expected {low} to {high}"
        return None


def _span(bits: int) -> tuple[int, int] | None:
    """The integers that an encoded field of this width holds; None if it is not encoded."""
    if bits > 0:
        return 0, 2**bits - 1
    return (-(2 ** (-bits - 1)), 2 ** (-bits - 1) - 1) if bits else None


def _describe(value: object) -> str:
    return f"{type(value).__name__} {value!r}"


def _is_kind(value: object, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind)


def operand(type: type[TypeT]) -> SingleOperand[TypeT]:
    """Declare a required operand."""
    return SingleOperand(type, "one")


def optional_operand(type: type[TypeT]) -> OptionalOperand[TypeT]:
    """Declare a last operand that may be absent."""
    return OptionalOperand(type, "optional")


def variadic_operand(type: type[TypeT]) -> VariadicOperand[TypeT]:
    """Declare any number of last operands."""
    return VariadicOperand(type, "variadic")


def result(type: type[TypeT]) -> SingleResult[TypeT]:
    """Declare a result."""
    return SingleResult(type)


def variadic_result(type: type[TypeT]) -> VariadicResult[TypeT]:
    """Declare any number of last results."""
    return VariadicResult(type)


def attribute(
    kind: type[AttributeT], *, default: Any = REQUIRED, choices: tuple[str, ...] = (), bits: int = 0
) -> AttributeField[AttributeT]:
    """Declare an attribute of kind int, float, bool, str or a Type class; required unless it has a default."""
    return AttributeField(kind, None, default, choices, bits)


def list_attribute(
    item: type[AttributeT], *, default: Any = REQUIRED, choices: tuple[str, ...] = (), bits: int = 0
) -> AttributeField[tuple[AttributeT, ...]]:
    """Declare an attribute that is a list; read and written as a tuple."""
    return AttributeField(tuple, item, default, choices, bits)

"""Values, operations, blocks, functions and modules: the graph every pass works on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np

from .dense import dense
from .diagnostics import UNKNOWN, CompileError, Diagnostic, Location
from .fields import AttributeField, AttributeValue, OperandField, ResultField
from .types import Array, TensorType, Type, tensor_type

TypeT = TypeVar("TypeT", bound=Type, covariant=True)
OpT = TypeVar("OpT", bound="Operation")


class Value(Generic[TypeT]):
    """Something an operation can read: a result, a function argument or a module constant.

    `uses` lists every (operation, operand index) that reads it, in the order the uses were made.
    """

    __slots__ = ("_uses", "name", "type")

    def __init__(self, type: TypeT, name: str | None = None) -> None:
        self.type: TypeT = type
        self.name = name
        self._uses: dict[tuple[Operation, int], None] = {}

    @property
    def uses(self) -> tuple[tuple[Operation, int], ...]:
        """All (operation, operand index) pairs that read this value."""
        return tuple(self._uses)

    @property
    def users(self) -> tuple[Operation, ...]:
        """The operations that read this value, each once."""
        return tuple(dict.fromkeys(op for op, _ in self._uses))

    @property
    def has_one_use(self) -> bool:
        """True if exactly one operand in the module reads this value."""
        return len(self._uses) == 1

    @property
    def is_unused(self) -> bool:
        """True if nothing reads this value."""
        return not self._uses

    @property
    def defining_op(self) -> Operation | None:
        """The operation whose result this is; None for arguments and constants."""
        return None

    def replace_all_uses_with(self, other: Value[Any]) -> None:
        """Make every reader of this value read `other` instead."""
        for op, index in self.uses:
            op.set_operand(index, other)


class OpResult(Value[TypeT]):
    """The `index`-th result of `op`."""

    __slots__ = ("index", "op")

    def __init__(self, type: TypeT, op: Operation, index: int) -> None:
        super().__init__(type)
        self.op = op
        self.index = index

    @property
    def defining_op(self) -> Operation | None:
        return self.op


class BlockArgument(Value[TypeT]):
    """An argument of a function."""

    __slots__ = ()


class Constant(Value[TensorType]):
    """A named array of the module, read as `@name`; the array is read-only and never copied."""

    __slots__ = ("array",)

    def __init__(self, name: str, array: Array, type: TensorType | None = None) -> None:
        super().__init__(type if type is not None else tensor_type(array), name)
        array = array.view()
        array.flags.writeable = False
        self.array = array


class Trait:
    """A property of an operation class; `Pure` operations have no effect beyond their results."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


Pure = Trait("Pure")
Elementwise = Trait("Elementwise")
Terminator = Trait("Terminator")


class Operation:
    """A node of the graph: a name, operands, results, attributes and the place it came from.

    A subclass is one kind of operation. It declares its fields (`operand`, `attribute`, `result`), and defines
    `verify` (what the types alone cannot say) and `evaluate` (its meaning in numpy: arrays in, arrays out).
    """

    name: ClassVar[str]
    traits: ClassVar[frozenset[Trait]] = frozenset()
    operand_fields: ClassVar[tuple[OperandField[Any], ...]] = ()
    result_fields: ClassVar[tuple[ResultField[Any], ...]] = ()
    attribute_fields: ClassVar[dict[str, AttributeField[Any]]] = {}

    def __init_subclass__(cls) -> None:
        """Collect the declared fields, base classes first, in order of declaration."""
        members = {name: member for base in reversed(cls.__mro__) for name, member in base.__dict__.items()}
        fields: list[Any] = list(members.values())
        cls.operand_fields = tuple(cast(OperandField[Any], f) for f in fields if isinstance(f, OperandField))
        cls.result_fields = tuple(cast(ResultField[Any], f) for f in fields if isinstance(f, ResultField))
        attributes = [cast(AttributeField[Any], f) for f in fields if isinstance(f, AttributeField)]
        cls.attribute_fields = {f.name: f for f in attributes}
        for index, field in enumerate(cls.operand_fields):
            field.index = index
        for index, field in enumerate(cls.result_fields):
            field.index = index

    def __init__(
        self,
        operands: Sequence[Value[Any]] = (),
        result_types: Sequence[Type] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        location: Location = UNKNOWN,
    ) -> None:
        self.location = location
        self.attributes: dict[str, AttributeValue] = dict(attributes or {})
        self.parent: Block | None = None
        self.previous: Operation | None = None
        self.next: Operation | None = None
        self.results: tuple[OpResult[Any], ...] = tuple([OpResult(t, self, i) for i, t in enumerate(result_types)])
        self._operands: tuple[Value[Any], ...] = ()
        self.set_operands(operands)

    @classmethod
    def build(
        cls: type[OpT],
        *operands: Value[Any] | None,
        location: Location = UNKNOWN,
        result_types: Sequence[Type] | None = None,
        **attributes: AttributeValue,
    ) -> OpT:
        """Create an operation; result types come from `infer_types` unless given.

        Operands and attributes that are None are left out.
        """
        present = [value for value in operands if value is not None]
        given = {name: value for name, value in attributes.items() if value is not None}
        op = cls(present, (), given, location)
        types = result_types if result_types is not None else op.infer_types()
        op.results = tuple(OpResult(t, op, i) for i, t in enumerate(types))
        return op

    def infer_types(self) -> Sequence[Type]:
        """The result types that follow from operands and attributes; raises CompileError if they cannot exist."""
        raise NotImplementedError(f"{self.name} does not infer its result types")

    def verify(self) -> None:
        """Raise `self.error(...)` if the operation is malformed; fields are already checked."""

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """The meaning in numpy: one array per operand in, the result (or a tuple of results) out."""
        raise NotImplementedError(f"{self.name} cannot be executed")

    # operands and results

    @property
    def operands(self) -> tuple[Value[Any], ...]:
        """All operands in order."""
        return self._operands

    def set_operands(self, operands: Sequence[Value[Any]]) -> None:
        """Replace the whole operand list, keeping use lists in step."""
        for index, value in enumerate(self._operands):
            value._uses.pop((self, index), None)  # pyright: ignore[reportPrivateUsage]
        self._operands = tuple(operands)
        for index, value in enumerate(self._operands):
            value._uses[self, index] = None  # pyright: ignore[reportPrivateUsage]

    def set_operand(self, index: int, value: Value[Any]) -> None:
        """Replace one operand."""
        self._operands[index]._uses.pop((self, index), None)  # pyright: ignore[reportPrivateUsage]
        operands = list(self._operands)
        operands[index] = value
        self._operands = tuple(operands)
        value._uses[self, index] = None  # pyright: ignore[reportPrivateUsage]

    @property
    def result(self) -> OpResult[Any]:
        """The only result."""
        (result,) = self.results
        return result

    @property
    def label(self) -> str:
        """What its constants are called after: its first ONNX node, or its kind."""
        nodes = self.location.nodes
        return nodes[0] if nodes else self.name.rpartition(".")[2]

    def has_trait(self, trait: Trait) -> bool:
        """True if the class declares the trait."""
        return trait in self.traits

    def error(self, message: str, *, notes: Sequence[str] = ()) -> CompileError:
        """A located error about this operation."""
        return CompileError(Diagnostic(f"'{self.name}': {message}", self.location, tuple(notes)))

    # place in the block

    @property
    def function(self) -> Function:
        """The function this operation is in."""
        if self.parent is None:
            raise ValueError(f"{self.name} is not in a function")
        return self.parent.function

    @property
    def module(self) -> Module:
        """The module this operation is in."""
        return self.function.module

    def detach(self) -> Operation:
        """Take the operation out of its block without touching operands."""
        if self.parent is not None:
            self.parent.unlink(self)
        return self

    def erase(self) -> None:
        """Remove the operation; its results must be unused."""
        for result in self.results:
            if not result.is_unused:
                raise ValueError(f"{self.name} is erased while its result is still used")
        self.detach()
        self.set_operands(())

    def attribute_or_default(self, name: str) -> AttributeValue:
        """The attribute's value, or the default the class declares."""
        return self.attributes[name] if name in self.attributes else self.attribute_fields[name].default

    def __repr__(self) -> str:
        return f"<{self.name} {self.attributes}>"


class Block:
    """A straight list of operations ending in a terminator; insertion and removal are O(1)."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.first: Operation | None = None
        self.last: Operation | None = None

    def __iter__(self) -> Iterator[Operation]:
        op = self.first
        while op is not None:
            following = op.next
            yield op
            op = following

    def __reversed__(self) -> Iterator[Operation]:
        op = self.last
        while op is not None:
            preceding = op.previous
            yield op
            op = preceding

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def append(self, op: OpT) -> OpT:
        """Add at the end, wherever it was."""
        op.detach()
        return self._link(op, self.last, None)

    def insert_before(self, anchor: Operation, op: OpT) -> OpT:
        """Add directly before `anchor`, wherever it was."""
        op.detach()
        return self._link(op, anchor.previous, anchor)

    def insert_after(self, anchor: Operation, op: OpT) -> OpT:
        """Add directly after `anchor`, wherever it was."""
        op.detach()
        return self._link(op, anchor, anchor.next)

    def _link(self, op: OpT, previous: Operation | None, following: Operation | None) -> OpT:
        op.parent, op.previous, op.next = self, previous, following
        if previous is None:
            self.first = op
        else:
            previous.next = op
        if following is None:
            self.last = op
        else:
            following.previous = op
        return op

    def unlink(self, op: Operation) -> None:
        """Take `op` out of the list."""
        if op.previous is None:
            self.first = op.next
        else:
            op.previous.next = op.next
        if op.next is None:
            self.last = op.previous
        else:
            op.next.previous = op.previous
        op.parent = op.previous = op.next = None

    @property
    def terminator(self) -> Operation:
        """The last operation."""
        if self.last is None:
            raise ValueError("the block is empty")
        return self.last


class Function:
    """A named function: arguments, one block, and the names of what it returns."""

    def __init__(
        self,
        module: Module,
        name: str,
        arguments: Iterable[tuple[str, Type]] = (),
        result_types: Sequence[Type] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        self.module = module
        self.name = name
        self.arguments: list[BlockArgument[Any]] = [BlockArgument(type, name) for name, type in arguments]
        self.result_types: tuple[Type, ...] = tuple(result_types)
        self.attributes: dict[str, AttributeValue] = dict(attributes or {})
        self.body = Block(self)
        self.location: Location = UNKNOWN

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.body)

    @property
    def returns(self) -> tuple[Value[Any], ...]:
        """The values the function returns."""
        return self.body.terminator.operands

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the returned values, from attribute `outputs`, else output0, output1, ..."""
        names = self.attributes.get("outputs")
        if isinstance(names, tuple):
            return tuple(str(name) for name in names)
        return tuple(f"output{index}" for index in range(len(self.result_types)))


class Module:
    """Functions and the constants they read. Two modules are equal when text and constant data are."""

    def __init__(self, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        self.attributes: dict[str, AttributeValue] = dict(attributes or {})
        self.functions: dict[str, Function] = {}
        self.constants: dict[str, Constant] = {}

    @property
    def main(self) -> Function:
        """The function called @main, or the only one."""
        if "main" in self.functions:
            return self.functions["main"]
        if len(self.functions) != 1:
            raise CompileError(f"module has {len(self.functions)} functions and none is @main, expected one @main")
        return next(iter(self.functions.values()))

    def add_function(
        self,
        name: str,
        arguments: Iterable[tuple[str, Type]] = (),
        result_types: Sequence[Type] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Function:
        """Add an empty function."""
        function = Function(self, name, arguments, result_types, attributes)
        self.functions[name] = function
        return function

    def add_constant(self, name: str, array: Array, type: TensorType | None = None) -> Constant:
        """Add an array under a fresh name derived from `name` (a suffix is added if it is taken)."""
        unique, count = name, 0
        while unique in self.constants:
            count += 1
            unique = f"{name}.{count}"
        array = np.asarray(array)
        constant = Constant(unique, dense(array) if array.ndim else array, type)
        self.constants[unique] = constant
        return constant

    def walk(self) -> Iterator[Operation]:
        """Every operation of every function, in order; the current one may be erased."""
        for function in self.functions.values():
            yield from function.body

    def drop_unused_constants(self) -> None:
        """Forget constants that nothing reads."""
        self.constants = {name: c for name, c in self.constants.items() if not c.is_unused}

    def clone(self) -> Module:
        """A deep copy that shares the (read-only) constant arrays."""
        copy = Module(self.attributes)
        for constant in self.constants.values():
            copy.constants[cast(str, constant.name)] = Constant(cast(str, constant.name), constant.array, constant.type)
        for function in self.functions.values():
            arguments = [(cast(str, a.name), a.type) for a in function.arguments]
            twin = copy.add_function(function.name, arguments, function.result_types, function.attributes)
            twin.location = function.location
            mapping: dict[Value[Any], Value[Any]] = dict(zip(function.arguments, twin.arguments, strict=True))
            for name, constant in self.constants.items():
                mapping[constant] = copy.constants[name]
            for op in function.body:
                operands = [mapping[value] for value in op.operands]
                new = type(op)(operands, [r.type for r in op.results], op.attributes, op.location)
                for old_result, new_result in zip(op.results, new.results, strict=True):
                    new_result.name = old_result.name
                    mapping[old_result] = new_result
                twin.body.append(new)
        return copy

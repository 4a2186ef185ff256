"""What a handler works with: the inputs of one node, and the means to emit nn operations for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Block, Constant, Module, Operation, Value
from ...dialects.core.types import F32, Array, ScalarType, TensorType
from ...dialects.core.verifier import verify_operation
from ...dialects.nn.cast import CastOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import BinaryOperation
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import ConcatOp, ReshapeOp, TransposeOp
from ...dialects.quant.types import QuantizedType
from .model import Node
from .steps import Steps
from .tensors import ELEMENT_LIMIT


class Unsupported(Exception):  # noqa: N818 - a finding that is collected, not an error by itself
    """Why a well-formed node cannot be imported; the importer collects these over the whole model."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A value known at import: an initializer, a constant or folded arithmetic. `name` is its ONNX name.

    `steps` are the integers that an ONNX DequantizeLinear made `array` of, kept while the data is only moved.
    """

    name: str
    array: Array
    steps: Steps | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(int(n) for n in self.array.shape)

    def moved(self, move: Callable[[Array], Array]) -> Known:
        """The data after `move`, which transposes or reshapes it."""
        return Known(self.name, move(self.array), None if self.steps is None else self.steps.moved(move))


Imported = Known | Value[Any]
"""What an ONNX value name stands for: known data, or a value of the function."""


@dataclass(frozen=True, slots=True, eq=False)
class Meaning:
    """What a name stands for, None after a failure; `kind` is the numpy type that ONNX has for float32 values here."""

    value: Imported | None
    kind: str | None = None


Run = Callable[[str, Sequence[Meaning]], list[Meaning]]
"""Imports the graph in an attribute of a node with these inputs, and gives its outputs, none of them missing."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a node: the names that its graph returns, and what imports the graphs within it."""

    returned: frozenset[str]
    run: Run


def shape_of(value: Imported) -> tuple[int, ...]:
    """The shape of either kind."""
    return value.shape if isinstance(value, Known) else value.type.shape


_UNPRINTABLE = re.compile(r'["\x00-\x1f\x85\u2028\u2029]')
"""What the text form of a symbol cannot hold."""


def printable(name: str) -> str:
    """A name for a constant, from that of an ONNX value."""
    return _UNPRINTABLE.sub("_", name) or "constant"


FILLED_LIMIT = 2**30
"""All constants together that one element fills may not have more elements than this: 4 GiB of float32."""

_KEEP_INTEGERS = (Conv2dOp, MatmulOp, BinaryOperation, ConcatOp)
"""Operations that compute with the integers of a dequantized constant; others take its float32 numbers."""

INDEX_LIMIT = 2**20
"""The most integers that an operator may take as indices, sizes or bounds."""


@dataclass
class ConstantPool:
    """Turns known data into module constants; the same data in the same layout becomes one constant."""

    module: Module
    filled: int = 0
    _made: dict[tuple[object, ...], tuple[Array, Constant]] = field(default_factory=dict[Any, Any])
    _templates: dict[tuple[object, ...], tuple[Array, Operation]] = field(default_factory=dict[Any, Any])

    def constant(self, known: Known) -> Constant:
        """The float32 constant; float16, bfloat16 and float64 data is converted. CompileError for NaN or infinity."""
        array = known.array
        start = array.__array_interface__["data"][0]
        key = (known.name, start, array.shape, array.strides, array.dtype)
        if key in self._made:
            return self._made[key][1]
        if array.size and 0 in array.strides:
            self.filled += array.size
            if self.filled > FILLED_LIMIT:
                raise CompileError(
                    f"constant '{known.name}' and others before it are filled with {self.filled} elements"
                )
        with np.errstate(over="ignore"):
            single = array if array.dtype == np.float32 else array.astype(np.float32)
        if not _is_finite(single):
            place = np.argwhere(~np.isfinite(single))[0]
            found = single[tuple(place)]
            raise CompileError(f"constant '{known.name}' holds {found} at {[int(i) for i in place]}")
        constant = self.module.add_constant(printable(known.name), single)
        self._made[key] = (array, constant)
        return constant

    def dequantized(self, known: Known) -> Operation:
        """An unplaced operation whose result is the data of `known`, computed from the integers behind it."""
        assert known.steps is not None
        stored = known.steps.stored
        key = ("steps", known.name, stored.__array_interface__["data"][0], stored.shape, stored.strides, stored.dtype)
        if key in self._templates:
            _, op = self._templates[key]
            return type(op)(op.operands, [op.result.type], op.attributes)
        name = printable(known.name)
        op = known.steps.operation(name, self.module)
        self._templates[key] = (stored, op)
        return type(op)(op.operands, [op.result.type], op.attributes)


def _is_finite(array: Array) -> bool:
    """True if no element is NaN or infinite: a float64 sum of finite float32 values cannot overflow."""
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(array.sum(dtype=np.float64)))


class Lowering:
    """One node being lowered: its inputs, and `emit`, which appends operations that carry the node's location."""

    def __init__(
        self,
        node: Node,
        inputs: Sequence[Imported | None],
        block: Block,
        pool: ConstantPool,
        kinds: Sequence[str | None] = (),
        around: Surroundings | None = None,
    ) -> None:
        self.node = node
        self.inputs = tuple(inputs)
        self.kinds = tuple(kinds)
        """The numpy types of the inputs that are integers or truth values in ONNX, None for floats."""
        self.read: set[int] = set()
        """The inputs that were asked for."""
        self._block = block
        self._pool = pool
        self._around = around

    # inputs

    def has(self, index: int) -> bool:
        """True if the input is present (an empty name is an absent input)."""
        self.read.add(index)
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> Imported:
        """An input that must be present."""
        self.read.add(index)
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise self.error(f"input {index} is missing")
        return value

    def optional(self, index: int) -> Imported | None:
        """An input, or None where it is absent."""
        self.read.add(index)
        return self.inputs[index] if index < len(self.inputs) else None

    def meaning(self, index: int) -> Meaning:
        """An input that must be present, with its kind."""
        return Meaning(self.input(index), self.kinds[index])

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of an input."""
        return shape_of(self.input(index))

    def array(self, index: int, what: str) -> Array:
        """The data of an input that must be known at import; `what` names it in the message."""
        value = self.input(index)
        if not isinstance(value, Known):
            raise Unsupported(f"input '{what}' is computed at run time, expected a constant")
        return value.array

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """A known input as a tuple of integers."""
        array = self.array(index, what)
        if array.dtype.kind not in "iu":
            raise self.error(f"input '{what}' is {array.dtype}, expected integers")
        if array.size > INDEX_LIMIT:
            raise Unsupported(f"input '{what}' holds {array.size} integers, at most {INDEX_LIMIT} are accepted")
        return tuple(int(item) for item in array.reshape(-1))

    def scalar(self, index: int, what: str, default: float) -> float:
        """A known input of one element, or the default where it is absent."""
        if not self.has(index):
            return float(default)
        array = self.array(index, what)
        if array.size != 1:
            raise self.error(f"input '{what}' has shape {list(array.shape)}, expected one element")
        return float(array.reshape(-1)[0])

    def whole(self, index: int, what: str, default: int) -> int:
        """A known input of one whole number, or the default where it is absent."""
        value = self.scalar(index, what, default)
        if not value.is_integer():
            raise self.error(f"input '{what}' is {value:g}, expected a whole number")
        return int(value)

    def axes(self, index: int, rank: int) -> tuple[int, ...] | None:
        """The normalised `axes`, from the attribute or from input `index`; None where neither is given."""
        axes = self.node.integers("axes")
        if axes is None and self.has(index):
            axes = self.integers(index, "axes")
        if axes is None:
            return None
        normalised = tuple(self.axis(axis, rank) for axis in axes)
        if len(set(normalised)) != len(normalised):
            raise self.error(f"axes {list(axes)} name an axis twice")
        return normalised

    def axis(self, axis: int, rank: int) -> int:
        """A normalised axis of a tensor of `rank`."""
        if not -rank <= axis < rank:
            raise self.error(f"axis {axis} is out of range for a tensor of rank {rank}")
        return axis % rank

    def with_inputs(self, inputs: Sequence[Imported | None], *, opset: int | None = None) -> Lowering:
        """The same node as if these were its inputs: what an operator on integers computes on the reals behind them.

        `opset` is that of the standard's operator of the same name, for a node of another domain.
        """
        self.read.update(range(len(self.inputs)))
        node = self.node if opset is None else replace(self.node, opset=opset)
        return Lowering(node, inputs, self._block, self._pool)

    # operations

    def run(self, graph: str, inputs: Sequence[Meaning]) -> list[Meaning]:
        """Import the graph that an attribute of the node holds, with these inputs; gives its outputs."""
        assert self._around is not None
        return self._around.run(graph, inputs)

    @property
    def returned(self) -> list[str]:
        """The outputs of the node that are outputs of its graph."""
        return [name for name in self.node.outputs if self._around and name in self._around.returned]

    def error(self, message: str) -> CompileError:
        """A located error: the node is malformed."""
        return self.node.error(message)

    def value(self, imported: Imported, *, integers: bool = False) -> Value[TensorType]:
        """A value that an operation can read: known data becomes a float32 constant of the module.

        With `integers` data that was dequantized is a constant of integers, and an operation that dequantizes it.
        """
        if isinstance(imported, Constant):
            return imported
        if isinstance(imported, Known) and imported.steps is not None and integers:
            try:
                op = self._pool.dequantized(imported)
            except ValueError as error:
                raise self.error(f"'{imported.name}': {error}") from None
            op.location = self.node.location
            return self._block.append(op).result
        if isinstance(imported, Known):
            try:
                return self._pool.constant(self._real(imported))
            except CompileError as error:
                raise self.error(error.diagnostics[0].message) from None
        if imported.type.element != F32 and not isinstance(imported.type.element, QuantizedType):
            return self.emit_cast(imported)
        return imported

    def emit_cast(self, value: Value[TensorType]) -> Value[TensorType]:
        """Append the cast of a computed value to float32."""
        if not isinstance(value.type.element, ScalarType) or value.type.element.dtype.kind not in "biuf":
            raise Unsupported(f"reads '{value.name}', an input of type {value.type.element}, expected float32")
        return self._block.append(CastOp.build(value, to=F32.name, location=self.node.location)).result

    def _real(self, known: Known) -> Known:
        """Known data as floats: integers beside computed ones, if float32 holds them exactly."""
        if known.array.dtype.name in _FLOATS:
            return known
        computed = zip(self.inputs, self.kinds, strict=False)
        if not any(kind and not isinstance(value, Known) for value, kind in computed):
            raise Unsupported(f"'{known.name}' is {known.array.dtype.name}, expected float32")
        if known.array.size and max(abs(int(known.array.min())), abs(int(known.array.max()))) > LARGEST_INTEGER:
            raise Unsupported(f"'{known.name}' holds integers beyond {LARGEST_INTEGER}, which float32 does not hold")
        return Known(known.name, known.array.astype(np.float32))

    def integer_constant(self, name: str, array: Array, type: TensorType | None = None) -> Constant:
        """A constant that keeps its element type, or has that of `type`, for operations that ask for integers."""
        return self._pool.module.add_constant(printable(name), array, type)

    def emit(self, kind: type[Operation], *operands: Imported | None, **attributes: Any) -> Value[TensorType]:
        """Append one operation and return its result; raises located errors if it is malformed."""
        keep = issubclass(kind, _KEEP_INTEGERS)
        values = [None if operand is None else self.value(operand, integers=keep) for operand in operands]
        op = kind.build(*values, location=self.node.location, **attributes)
        errors = verify_operation(op)
        if errors:
            raise CompileError(errors)
        if 0 in op.result.type.shape:
            raise Unsupported(f"the result is empty: its shape is {list(op.result.type.shape)}")
        if op.result.type.size > ELEMENT_LIMIT:
            raise Unsupported(f"the result has {op.result.type.size} elements, at most {ELEMENT_LIMIT} are accepted")
        return self._block.append(op).result

    def transposed(self, value: Imported, permutation: Sequence[int]) -> Imported:
        """The value with permuted axes: a view of known data, nn.transpose otherwise, nothing for the identity."""
        if tuple(permutation) == tuple(range(len(permutation))):
            return value
        if isinstance(value, Known):
            return value.moved(lambda array: array.transpose(permutation))
        return self.emit(TransposeOp, value, permutation=tuple(permutation))

    def reshaped(self, value: Imported, shape: Sequence[int]) -> Imported:
        """The value in another shape: a view of known data, nn.reshape otherwise, nothing for the same shape."""
        if tuple(shape) == shape_of(value):
            return value
        if isinstance(value, Known):
            return value.moved(lambda array: array.reshape(tuple(shape)))
        return self.emit(ReshapeOp, value, shape=tuple(shape))

    # layouts

    def channels_last(self, value: Imported) -> Imported:
        """ONNX N C D1 .. Dk as N D1 .. Dk C; sequences N C W become images N 1 W C."""
        rank = len(shape_of(value))
        moved = self.transposed(value, (0, *range(2, rank), 1)) if rank > 2 else value
        if rank != 3:
            return moved
        batch, width, channels = shape_of(moved)
        return self.reshaped(moved, (batch, 1, width, channels))

    def channels_first(self, value: Imported, rank: int) -> Imported:
        """The inverse of `channels_last`, for a result of `rank` axes."""
        if rank == 3:
            batch, _, width, channels = shape_of(value)
            value = self.reshaped(value, (batch, width, channels))
        return self.transposed(value, (0, rank - 1, *range(1, rank - 1))) if rank > 2 else value


LARGEST_INTEGER = 2**24
"""float32 holds every integer up to this magnitude."""

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})

"""Float operations become operations on bfloat16: one function a family, all of them in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from ...dialects.core.diagnostics import CompileError, Diagnostic
from ...dialects.core.operation import Constant, Module, Operation, Value
from ...dialects.core.tensor import TensorOperation
from ...dialects.core.types import BF16, Array, TensorType
from ...dialects.nn.activation import PReluOp, UnaryOperation
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import AddOp, BinaryOperation, MulOp
from ...dialects.nn.indexing import ArgMaxOp, EmbeddingOp
from ...dialects.nn.layer_normalization import LayerNormOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import DATA_MOVEMENT, ReshapeOp, TransposeOp
from ...dialects.nn.normalization import BatchNormOp, LrnOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import MaskedSoftmaxOp, SoftmaxOp
from ...dialects.quant.bfloat16 import rounded
from ...dialects.quant.bfloat16_tables import brain_float_lrn_table, brain_float_table, exponential_table
from ...dialects.quant.indices import INDEX_TYPE
from ...dialects.quant.ops import LookupOp, QuantizeOp
from ..lowering.elementwise import is_pooled
from ..quantization.legality import problem_of

OpT = TypeVar("OpT", bound=Operation)


@dataclass
class Conversion:
    """The state of one conversion: the bf16 twin of every float value converted so far."""

    module: Module
    rounding: Callable[[Array], Array] = rounded
    """How the constant weights of a product become bf16."""
    twins: dict[Value[Any], Value[Any]] = field(default_factory=dict[Value[Any], Value[Any]])

    def convert(self, op: Operation) -> None:
        """Insert the bf16 form of `op` before it; raises a located CompileError if its constants have none."""
        try:
            value = _CONVERTERS[_family(op)](op, self)
        except ValueError as error:
            raise op.error(str(error)) from None
        value.name = op.result.name
        self.twins[op.result] = value

    def number(self, value: Value[Any]) -> Value[Any]:
        """The bf16 form of an operand; a constant is rounded here. ValueError for an index, which has none."""
        twin = self.twins.get(value)
        if twin is None:
            return self.rounded_constant(value, rounded)
        if twin.type.element == INDEX_TYPE:
            raise ValueError("it computes with an index, which bf16 does not hold exactly")
        return twin

    def index(self, op: Operation, value: Value[Any]) -> Value[Any]:
        """Indices in the form that tables are read with, made before `op` where they do not stand already."""
        twin = self.twins.get(value)
        if twin is not None and twin.type.element == INDEX_TYPE:
            return twin
        kind = cast(TensorType, value.type).with_element(INDEX_TYPE)
        if isinstance(value, Constant):
            stored = INDEX_TYPE.quantize(value.array)
            return self.module.add_constant(f"{value.name or 'constant'}.index", stored, kind)
        if isinstance(value.defining_op, DATA_MOVEMENT) and twin is not None:
            source = value.defining_op
            moved = [self.index(op, operand) for operand in source.operands]
            return self.insert(op, type(source)(moved, (kind,), dict(source.attributes))).result
        if twin is None or isinstance(twin.defining_op, QuantizeOp):
            return self.insert(op, QuantizeOp((value,), (kind,))).result
        raise ValueError("its indices are computed in bf16, which does not hold them exactly")

    def rounded_constant(self, value: Value[Any], rounding: Callable[[Array], Array]) -> Constant:
        """A constant in bf16; ValueError if that cannot hold it."""
        numbers, name = rounding(_array(value)), cast(Constant, value).name
        if not np.isfinite(numbers.astype(np.float32)).all():
            raise ValueError(f"constant @{name} holds numbers beyond the range of bf16")
        return self.constant(name, "bf16", numbers)

    def constant(self, name: str | None, suffix: str, array: Array) -> Constant:
        """Add a constant called after what it comes from; equal ones of a name are shared."""
        full = f"{name or 'constant'}.{suffix}"
        known = self.module.constants.get(full)
        if known is not None and known.array.dtype == array.dtype and known.array.tobytes() == array.tobytes():
            return known
        return self.module.add_constant(full, array)

    def insert(self, op: Operation, new: OpT) -> OpT:
        """Put `new` before `op`, at its location."""
        assert op.parent is not None
        new.location = op.location
        return op.parent.insert_before(op, new)

    def build(self, op: Operation, operands: list[Value[Any]]) -> Value[Any]:
        """Insert an operation as `op` on other operands, with a result of bf16."""
        kind = cast(TensorType, op.result.type).with_element(BF16)
        return self.insert(op, type(op)(operands, (kind,), dict(op.attributes))).result


def check_convertible(operations: Iterable[Operation]) -> None:
    """Raise one CompileError that lists every operation without a bf16 form, each with its reason."""
    problems: list[Diagnostic] = []
    for op in operations:
        known = any(kind in _CONVERTERS for kind in type(op).__mro__)
        problem = problem_of(op) if known else "has no bf16 form"
        if problem is not None:
            problems.append(Diagnostic(f"'{op.name}': {problem}", op.location))
    if problems:
        raise CompileError(problems)


def _family(op: Operation) -> type[Operation]:
    return next(kind for kind in type(op).__mro__ if kind in _CONVERTERS)


def _product(op: Conv2dOp | MatmulOp, conversion: Conversion) -> Value[Any]:
    """Data and weights in bf16, the bias stays float32."""
    data, weight, *bias = op.operands
    if isinstance(op, Conv2dOp) or op.has_weights:
        factors: Value[Any] = conversion.rounded_constant(weight, conversion.rounding)
    else:
        factors = conversion.number(weight)
    return conversion.build(op, [conversion.number(data), factors, *bias])


def _batch_norm(op: BatchNormOp, conversion: Conversion) -> Value[Any]:
    """A factor and an offset per channel are a depthwise 1x1 convolution with a float32 bias."""
    scale, bias, mean, variance = (np.asarray(_array(value), np.float64) for value in op.operands[1:])
    factor = scale / np.sqrt(variance + op.epsilon)
    offset = bias - mean * factor
    if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        raise ValueError("a variance is not positive, expected finite factors")
    channels, shape = op.data.type.shape[-1], op.data.type.shape
    image = shape if len(shape) == 4 else (op.data.type.size // channels, 1, 1, channels)
    data, name = conversion.number(op.data), op.operands[1].name
    weight = conversion.constant(name, "bf16", rounded(factor.astype(np.float32).reshape(1, 1, 1, channels)))
    added = conversion.constant(name, "offset", offset.astype(np.float32))
    data = data if image == shape else conversion.insert(op, ReshapeOp.build(data, shape=image)).result
    scaled = conversion.insert(op, Conv2dOp.build(data, weight, added, groups=channels, macs=0)).result
    return scaled if image == shape else conversion.insert(op, ReshapeOp.build(scaled, shape=shape)).result


def _numbers(op: Operation, conversion: Conversion) -> Value[Any]:
    """All operands are numbers."""
    return conversion.build(op, [*map(conversion.number, op.operands)])


def _moved(op: TensorOperation, conversion: Conversion) -> Value[Any]:
    """Movement of numbers, or of indices."""
    twins = [conversion.twins.get(value) for value in op.operands]
    if not any(twin is not None and twin.type.element == INDEX_TYPE for twin in twins):
        return _numbers(op, conversion)
    operands = [conversion.index(op, value) for value in op.operands]
    kind = op.out.type.with_element(INDEX_TYPE)
    return conversion.insert(op, type(op)(operands, (kind,), dict(op.attributes))).result


def _embedding(op: EmbeddingOp, conversion: Conversion) -> Value[Any]:
    """The table in bf16."""
    return conversion.build(op, [conversion.index(op, op.indices), conversion.rounded_constant(op.table, rounded)])


def _arg_max(op: ArgMaxOp, conversion: Conversion) -> Value[Any]:
    """The index of the largest number."""
    operands, kind = [conversion.number(op.data)], op.out.type.with_element(INDEX_TYPE)
    return conversion.insert(op, ArgMaxOp(operands, (kind,), dict(op.attributes))).result


def _with_parameters(op: PReluOp | LayerNormOp, conversion: Conversion) -> Value[Any]:
    """Slopes, gains and offsets stay float32."""
    return conversion.build(op, [conversion.number(op.data), *op.operands[1:]])


def _unary(op: UnaryOperation, conversion: Conversion) -> Value[Any]:
    table = conversion.constant(op.label, "table", brain_float_table(op.apply))
    return conversion.insert(op, LookupOp.build(conversion.number(op.data), table)).result


def _mean(op: ReduceMeanOp, conversion: Conversion) -> Value[Any]:
    """Means over other axes than rows and pixels are products with ones; the elements are moved to the end."""
    if is_pooled(op):
        return _numbers(op, conversion)
    data, rank = conversion.number(op.data), op.data.type.rank
    order = (*(axis for axis in range(rank) if axis not in op.axes), *op.axes)
    if order != tuple(range(rank)):
        data = conversion.insert(op, TransposeOp.build(data, permutation=order)).result
    samples = 1 if 0 in op.axes else op.data.type.shape[0]
    rows = (samples, op.data.type.size // (samples * op.count), op.count)
    data = conversion.insert(op, ReshapeOp.build(data, shape=rows)).result
    ones = conversion.constant(op.label, "ones", rounded(np.ones((op.count, 1), np.float32)))
    product = conversion.insert(op, MatmulOp.build(data, ones, factor=op.factor / op.count, macs=0))
    product.attributes |= {name: op.attributes[name] for name in ("clamp_min", "clamp_max") if name in op.attributes}
    return conversion.insert(op, ReshapeOp.build(product.result, shape=op.out.type.shape)).result


def _lrn(op: LrnOp, conversion: Conversion) -> Value[Any]:
    table = brain_float_lrn_table(size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)
    operands: list[Value[Any]] = [conversion.number(op.data), conversion.constant(op.label, "table", table)]
    return conversion.build(op, operands)


def _softmax(op: SoftmaxOp | MaskedSoftmaxOp, conversion: Conversion) -> Value[Any]:
    operands: list[Value[Any]] = [conversion.number(op.data)]
    if isinstance(op, MaskedSoftmaxOp) and not isinstance(op.mask, Constant):
        return _softmax_of_shown(op, conversion)
    if isinstance(op, MaskedSoftmaxOp):
        operands.append(conversion.constant(op.mask.name, "int8", (_array(op.mask) != 0).astype(np.int8)))
    operands.append(conversion.constant("softmax", "table", exponential_table()))
    return conversion.build(op, operands)


def _softmax_of_shown(op: MaskedSoftmaxOp, conversion: Conversion) -> Value[Any]:
    """A computed mask is bf16: it lowers the scores that it hides beyond reach, and is a factor of the result."""
    mask = conversion.number(op.mask)
    hiding = conversion.constant(op.label, "hiding", brain_float_table(lambda x: np.where(x > 0.5, 0.0, HIDDEN)))
    lowered = conversion.insert(op, LookupOp.build(mask, hiding)).result
    scores = conversion.insert(op, AddOp.build(conversion.number(op.data), lowered)).result
    table = conversion.constant("softmax", "table", exponential_table())
    shares = conversion.insert(op, SoftmaxOp.build(scores, table, axis=op.data.type.rank - 1)).result
    return conversion.insert(op, MulOp.build(shares, mask)).result


HIDDEN = -1e30
"""What is added to a score so that its exponential beside any other is 0."""

Converter = Callable[[Any, Conversion], Value[Any]]

_CONVERTERS: dict[type[Operation], Converter] = {
    Conv2dOp: _product,
    MatmulOp: _product,
    BatchNormOp: _batch_norm,
    BinaryOperation: _numbers,
    UnaryOperation: _unary,
    PReluOp: _with_parameters,
    LayerNormOp: _with_parameters,
    LrnOp: _lrn,
    MaxPoolOp: _numbers,
    AveragePoolOp: _numbers,
    ReduceMeanOp: _mean,
    SoftmaxOp: _softmax,
    MaskedSoftmaxOp: _softmax,
    EmbeddingOp: _embedding,
    ArgMaxOp: _arg_max,
    **dict.fromkeys(DATA_MOVEMENT, _moved),
}
"""The bf16 form of every operation class that has one; a subclass inherits that of its base."""


def _array(value: Value[Any]) -> Array:
    assert isinstance(value, Constant)
    return value.array

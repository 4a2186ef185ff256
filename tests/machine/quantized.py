"""Networks of integers or bfloat16 under construction: what `lower-to-tile` is given."""

from typing import Any

import numpy as np

from accelc.dialects.builtin import ReturnOp
from accelc.dialects.core.diagnostics import Location
from accelc.dialects.core.operation import Constant, Module, Operation, Value
from accelc.dialects.core.types import BF16, F32, I8, I16, ElementType, TensorType
from accelc.dialects.core.verifier import verify
from accelc.dialects.nn import (
    ArgMaxOp,
    Conv2dOp,
    EmbeddingOp,
    LayerNormOp,
    LrnOp,
    MaskedSoftmaxOp,
    MatmulOp,
    PReluOp,
    SliceOp,
    SoftmaxOp,
)
from accelc.dialects.nn.softmax import MASK_TYPE
from accelc.dialects.quant.arithmetic import pre_shift_for
from accelc.dialects.quant.bfloat16 import rounded
from accelc.dialects.quant.bfloat16_tables import brain_float_lrn_table, brain_float_table, exponential_table
from accelc.dialects.quant.ops import DequantizeOp, LookupOp, QuantizeOp, RequantizeOp
from accelc.dialects.quant.tables import lrn_table, softmax_table
from accelc.dialects.quant.types import QuantizedType, quantized_element

Width = int | str
"""The bits of integers, or "bf16"."""

COMMON: dict[Width, ElementType] = {8: QuantizedType(I8, 0.05, -3), 16: QuantizedType(I16, 0.0002, 0), "bf16": BF16}
OTHER: dict[Width, ElementType] = {8: QuantizedType(I8, 0.11, 17), 16: QuantizedType(I16, 0.0005, 0), "bf16": BF16}
"""The types of a network by the width of their numbers."""

TANH, EXPONENTIALS = brain_float_table(np.tanh), exponential_table()


def bits_of(value: Value[Any]) -> Width:
    """The width of the numbers of a value."""
    return "bf16" if value.type.element == BF16 else 8 * quantized_element(value.type).dtype.itemsize


class QuantizedNetwork:
    """A module under construction; every operation has a name of its own, every constant is seeded.

    `widths` are the bits of what products and conversions may give; the inputs have the first.
    """

    def __init__(self, *shapes: tuple[int, ...], seed: int = 0, widths: tuple[Width, ...] = (8,)) -> None:
        self.widths = widths
        self.module = Module()
        self.random = np.random.default_rng(seed)
        names = ["x", "y", "z"][: len(shapes)]
        self.function = self.module.add_function(
            "main", [(name, TensorType(shape, F32)) for name, shape in zip(names, shapes, strict=True)]
        )
        self.count = 0
        self.inputs = [
            self.add(QuantizeOp, [argument], argument.type.with_element(COMMON[widths[0]]))
            for argument in self.function.arguments
        ]

    def add(
        self, op_class: type[Operation], operands: list[Value[Any]], kind: TensorType | None = None, **attributes: Any
    ) -> Value[Any]:
        """Append an operation; the result type is inferred unless given."""
        self.count += 1
        location = Location((f"{op_class.__name__.removesuffix('Op').lower()}{self.count}",))
        types = None if kind is None else [kind]
        op = op_class.build(*operands, location=location, result_types=types, **attributes)
        return self.function.body.append(op).result

    def constant(self, array: np.ndarray, element: ElementType | None = None) -> Value[Any]:
        """A constant; of a quantized type if one is given."""
        kind = None if element is None else TensorType(array.shape, element)
        return self.module.add_constant("c", array, kind)

    def integers(self, *shape: int, bits: Width = 8) -> np.ndarray:
        """Numbers of this width, over the whole range of integers."""
        if isinstance(bits, str):
            return rounded((self.random.standard_normal(shape) * self.random.integers(0, 3, shape)).astype(np.float32))
        limit = 1 << (bits - 1)
        return self.random.integers(-limit, limit, shape).astype(f"i{bits // 8}")

    def width(self) -> Width:
        """The width of a result."""
        return self.widths[self.random.integers(len(self.widths))]

    def requantized(self, accumulator: Value[Any], depth: int, *factors: Width) -> Value[Any]:
        """A requantization, per channel or not, that spreads results over the whole range; floats need none.

        `factors` are the widths of data and weights.
        """
        if accumulator.type.element == BF16:
            return accumulator
        bits = sum(map(int, factors))
        channels = accumulator.type.shape[-1] if self.random.integers(4) else 1
        element = COMMON[self.width()]
        span = 2.0 ** (bits - 16) / 2.0 ** (8 * element.dtype.itemsize - 8)
        scale = self.random.uniform(0.5, 1.5, channels) / (100 * max(depth, 1) ** 0.5 * span)
        low, high = (element.zero_point if self.random.integers(2) else element.low), element.high
        constant = self.constant(scale.astype(np.float32))
        kind = accumulator.type.with_element(element)
        largest = max(depth, 1) * 2 ** (bits - 2) + 4000
        shift = pre_shift_for(largest) if bits > 16 else 0
        return self.add(RequantizeOp, [accumulator, constant], kind, low=low, high=high, pre_shift=shift)

    def weights(self, data: Value[Any], *shape: int) -> tuple[Value[Any], Width]:
        """Constant weights no wider than the data, and their width."""
        bits = bits_of(data)
        if bits == 16 and self.random.integers(2):
            bits = 8
        return self.constant(self.integers(*shape, bits=bits)), bits

    def conv(self, data: Value[Any], outputs: int, kernel: tuple[int, int] = (1, 1), **attributes: Any) -> Value[Any]:
        inputs = data.type.shape[-1] // attributes.get("groups", 1)
        weights, bits = self.weights(data, *kernel, inputs, outputs)
        operands = [data, weights]
        if self.random.integers(4):
            kind = {8: np.int32, 16: np.int64, "bf16": np.float32}[bits_of(data)]
            operands.append(self.constant(self.random.integers(-3000, 3000, outputs).astype(kind)))
        if bits == "bf16" and self.random.integers(2):
            attributes |= {"clamp_min": 0.0}
        depth = kernel[0] * kernel[1] * inputs
        return self.requantized(self.add(Conv2dOp, operands, **attributes), depth, bits_of(data), bits)

    def matmul(self, data: Value[Any], outputs: int) -> Value[Any]:
        inputs = data.type.shape[-1]
        weights, bits = self.weights(data, inputs, outputs)
        return self.requantized(self.add(MatmulOp, [data, weights]), inputs, bits_of(data), bits)

    def binary(self, op_class: type[Operation], lhs: Value[Any], rhs: Value[Any]) -> Value[Any]:
        bits = bits_of(lhs)
        if bits_of(rhs) != bits:
            if isinstance(rhs, Constant):
                rhs = self.constant(self.integers(*rhs.type.shape, bits=bits), OTHER[bits])
            else:
                rhs = self.rescale(rhs, OTHER[bits])
        shape = np.broadcast_shapes(lhs.type.shape, rhs.type.shape)
        return self.add(op_class, [lhs, rhs], TensorType(shape, COMMON[bits]))

    def lookup(self, data: Value[Any]) -> Value[Any]:
        bits = bits_of(data)
        table = self.constant(TANH if bits == "bf16" else self.integers(256 if bits == 8 else 513, bits=bits))
        return self.add(LookupOp, [data, table], data.type.with_element(COMMON[bits]))

    def prelu(self, data: Value[Any], *, per_channel: bool = True) -> Value[Any]:
        size = data.type.shape[-1] if per_channel else 1
        slope = self.constant(self.random.uniform(-0.5, 0.5, size).astype(np.float32))
        return self.add(PReluOp, [data, slope], data.type.with_element(COMMON[self.width()]))

    def rescale(self, data: Value[Any], element: ElementType) -> Value[Any]:
        if not isinstance(element, QuantizedType):
            return self.lookup(data)
        scale = quantized_element(data.type).scale / element.scale
        factor = self.constant(np.array([scale], np.float32))
        return self.add(RequantizeOp, [data, factor], data.type.with_element(element))

    def softmax(self, data: Value[Any], axis: int | None = None) -> Value[Any]:
        axis = data.type.rank - 1 if axis is None else axis
        return self.add(SoftmaxOp, [data, self.exponentials(data, axis)], axis=axis)

    def exponentials(self, data: Value[Any], axis: int) -> Value[Any]:
        """The table of a softmax."""
        if data.type.element == BF16:
            return self.constant(EXPONENTIALS)
        source = quantized_element(data.type)
        return self.constant(softmax_table(source.scale, data.type.shape[axis], source.storage))

    def masked_softmax(self, data: Value[Any], mask: np.ndarray) -> Value[Any]:
        return self.add(MaskedSoftmaxOp, [data, self.constant(mask.astype(np.int8)), self.exponentials(data, -1)])

    def softmax_of_shown(self, data: Value[Any], *, repeat: bool) -> Value[Any]:
        """A softmax of integers with a mask that is computed from its first row, or from all rows."""
        source = data
        if repeat and data.type.rank > 1:
            rows = [0] * data.type.rank, [*data.type.shape[:-2], 1, data.type.shape[-1]], [1] * data.type.rank
            source = self.cut(data, *rows)
        if bits_of(data) != 8:
            source = self.rescale(source, COMMON[8])
        kind = source.type.with_element(MASK_TYPE)
        mask = self.add(LookupOp, [source, self.constant(self.random.integers(0, 2, 256).astype(np.int8))], kind)
        return self.add(MaskedSoftmaxOp, [data, mask, self.exponentials(data, -1)])

    def named_rows(self, data: Value[Any], rows: int, *, last: bool) -> Value[Any]:
        """The row of a table that the largest channel of every pixel names."""
        element = COMMON[bits_of(data)]
        table = self.constant(self.integers(rows, data.type.shape[-1], bits=bits_of(data)), element)
        return self.add(EmbeddingOp, [self.add(ArgMaxOp, [data], last=last), table])

    def lrn(self, data: Value[Any], size: int) -> Value[Any]:
        if data.type.element == BF16:
            attributes = {"size": size, "alpha": 0.1, "beta": 0.75, "bias": 1.0}
            return self.add(LrnOp, [data, self.constant(brain_float_lrn_table(**attributes))], **attributes)
        source = quantized_element(data.type)
        target = COMMON[bits_of(data)]
        table, shift = lrn_table(source, target, size=size, alpha=0.1, beta=0.75, bias=1.0)
        kind = data.type.with_element(target)
        attributes = {"size": size, "alpha": 0.1, "beta": 0.75, "bias": 1.0, "shift": int(shift)}
        return self.add(LrnOp, [data, self.constant(table.astype(np.int32))], kind, **attributes)

    def layer_norm(self, data: Value[Any], *, centred: bool) -> Value[Any]:
        channels = data.type.shape[-1]
        scale = self.constant(self.random.uniform(-1.5, 1.5, channels).astype(np.float32))
        bias = self.constant(self.random.uniform(-1, 1, channels).astype(np.float32))
        kind = data.type.with_element(COMMON[bits_of(data)])
        return self.add(LayerNormOp, [data, scale, bias], kind, centred=centred)

    def activation_product(self, lhs: Value[Any], rhs: Value[Any], **attributes: Any) -> Value[Any]:
        """A product of two activations; the right one is converted where it is wider than the left one."""
        if (bits_of(lhs), bits_of(rhs)) == (8, 16):
            rhs = self.rescale(rhs, OTHER[bits_of(lhs)])
        product = self.add(MatmulOp, [lhs, rhs], **attributes)
        return self.requantized(product, lhs.type.shape[-1], bits_of(lhs), bits_of(rhs))

    def drop(self, value: Value[Any], kept: list[Value[Any]]) -> None:
        """Remove an operation, and what only it reads."""
        op = value.defining_op
        if op is not None and value.is_unused and value not in kept:
            operands = op.operands
            op.erase()
            for operand in operands:
                self.drop(operand, kept)

    def cut(self, data: Value[Any], starts: list[int], stops: list[int], steps: list[int]) -> Value[Any]:
        return self.add(SliceOp, [data], starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))

    def finish(self, *values: Value[Any]) -> Module:
        """Dequantize and return values; the module is verified."""
        real = [self.add(DequantizeOp, [value]) for value in values]
        self.function.body.append(ReturnOp.build(*real))
        self.function.result_types = tuple(value.type for value in real)
        self.function.attributes["outputs"] = tuple(f"out{index}" for index in range(len(real)))
        verify(self.module)
        return self.module

    def samples(self) -> dict[str, np.ndarray]:
        """Inputs that reach the whole range of integers."""
        return {
            str(argument.name): (self.random.standard_normal(argument.type.shape) * 4).astype(np.float32)
            for argument in self.function.arguments
        }

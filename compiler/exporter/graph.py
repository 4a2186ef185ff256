"""The ONNX graph being written: nodes, initializers, and under which names every value is available in which layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import Array
from ...dialects.quant.indices import INDEX_TYPE
from ...dialects.quant.types import QuantizedType, quantized_element

AS_IS, CHANNELS_FIRST = "", "nchw"
"""Layouts: that of the value, and for images the order of ONNX."""

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class GraphWriter:
    """Collects a graph; what is asked for twice in one layout is written once."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()
        self._contents: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._stored: dict[tuple[Value[Any], str], str] = {}
        self._reals: dict[tuple[Value[Any], str], str] = {}

    def fresh(self, hint: str) -> str:
        """A name that nothing bears yet."""
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}.{count}"
        self._names.add(name)
        return name

    def constant(self, array: Array | np.generic, hint: str) -> str:
        """The name of an initializer; equal arrays are one."""
        data = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (data.dtype.str, data.shape, data.tobytes())
        if key not in self._contents:
            name = self.fresh(hint)
            self.initializers[name] = numpy_helper.from_array(data, name)
            self._contents[key] = name
        return self._contents[key]

    def integers(self, values: Iterable[int], hint: str) -> str:
        """The name of an initializer that holds a list of int64."""
        return self.constant(np.asarray(list(values), np.int64), hint)

    def node(
        self, op: Operation, kind: str, inputs: Sequence[str], *, output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Append a node that stands for a part of `op`; returns the name of its output."""
        base = op.location.nodes[0] if op.location.nodes else op.name
        label = self.fresh(f"{base}/{kind}")
        result = output or self.fresh(f"{label}_output")
        self.nodes.append(helper.make_node(kind, inputs, [result], name=label, domain=domain or None, **attributes))
        return result

    def store(self, value: Value[Any], name: str, layout: str = AS_IS) -> None:
        """Say that `name` holds the value, as it is stored, in a layout."""
        self._names.add(name)
        self._stored[value, layout] = name

    def layout(self, op: Operation) -> str:
        """The layout to work in: that of ONNX where an operand of rank 4 has it already."""
        first = any((value, CHANNELS_FIRST) in self._stored for value in op.operands)
        return CHANNELS_FIRST if first and op.result.type.rank == 4 else AS_IS

    def stored(self, op: Operation, value: Value[Any], layout: str = AS_IS) -> str:
        """The name of what is stored of a value: integers; floats on the side of the host and where it is an index."""
        if isinstance(value, Constant):
            return self.constant(_in_layout(value.array, layout), str(value.name))
        if (value, layout) not in self._stored:
            other = CHANNELS_FIRST if layout == AS_IS else AS_IS
            order = TO_CHANNELS_LAST if layout == AS_IS else TO_CHANNELS_FIRST
            self._stored[value, layout] = self.node(op, "Transpose", [self._stored[value, other]], perm=order)
        return self._stored[value, layout]

    def real(self, op: Operation, value: Value[Any], layout: str = AS_IS) -> str:
        """The name of the reals that a quantized value stands for; of a float value itself."""
        if not isinstance(value.type.element, QuantizedType) or value.type.element == INDEX_TYPE:
            return self.stored(op, value, layout)
        if (value, layout) not in self._reals:
            inputs = [self.stored(op, value, layout), *self.parameters(quantized_element(value.type))]
            self._reals[value, layout] = self.node(op, "DequantizeLinear", inputs)
        return self._reals[value, layout]

    def quantize(self, op: Operation, name: str, layout: str = AS_IS, bounds: tuple[int, int] | None = None) -> None:
        """Let `name` (reals), clamped to integer `bounds`, be the result of `op`."""
        element = quantized_element(op.result.type)
        if element == INDEX_TYPE:
            self.store(op.result, name, layout)
            return
        low, high = bounds or (element.low, element.high)
        if (low, high) == (element.zero_point, element.high) and low != element.low:
            name = self.node(op, "Relu", [name])
        elif (low, high) != (element.low, element.high):
            ends = element.dequantize(np.array([low, high], element.dtype))
            name = self.node(op, "Clip", [name, *(self.constant(end, "bound") for end in ends)])
        inputs = [name, *self.parameters(element)]
        self.store(op.result, self.node(op, "QuantizeLinear", inputs), layout)

    def parameters(self, element: QuantizedType) -> tuple[str, str]:
        """The names of scale and zero point."""
        zero_point = element.dtype.type(element.zero_point)
        return self.constant(np.float32(element.scale), "scale"), self.constant(zero_point, "zero_point")


def axis_in(layout: str, axis: int) -> int:
    """Where an axis of a value of rank 4 is in a layout."""
    return TO_CHANNELS_FIRST.index(axis) if layout == CHANNELS_FIRST else axis


def order_in(layout: str, entries: Sequence[int]) -> list[int]:
    """One entry an axis, in the order of a layout."""
    return [entries[axis] for axis in TO_CHANNELS_FIRST] if layout == CHANNELS_FIRST else list(entries)


def _in_layout(array: Array, layout: str) -> Array:
    if layout == AS_IS:
        return array
    return array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(TO_CHANNELS_FIRST)

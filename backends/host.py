"""What the host does around a program: layout changes, casts and quantization of inputs, the reverse for outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..dialects.core.types import Array, ScalarType, TensorType
from ..dialects.nn.cast import cast_array
from ..dialects.quant.types import is_number, number_of

HOST_OPERATIONS = {
    "nn.transpose": "transpose",
    "nn.reshape": "reshape",
    "nn.cast": "cast",
    "quant.quantize": "quantize",
    "quant.dequantize": "dequantize",
}
"""The operations that the host can do, and the kind of step that each becomes."""

STEP_KINDS = tuple(HOST_OPERATIONS.values())


@dataclass(frozen=True, slots=True)
class HostStep:
    """One operation on one tensor; `result` is the type it produces.

    transpose (axes by `permutation`) and reshape move data; cast is nn.cast; quantize and dequantize are
    quant.quantize and quant.dequantize: the arithmetic is that of the quantized type itself.
    """

    kind: str
    result: TensorType
    permutation: tuple[int, ...] = ()

    def problem(self, source: TensorType) -> str | None:
        """Why the step cannot follow a tensor of type `source`, or None."""
        result = self.result
        if self.kind not in STEP_KINDS:
            return f"unknown step '{self.kind}', expected one of {', '.join(STEP_KINDS)}"
        if self.kind == "transpose" and sorted(self.permutation) != list(range(source.rank)):
            return f"permutation {list(self.permutation)} does not fit {source}"
        shape = tuple(source.shape[axis] for axis in self.permutation) if self.kind == "transpose" else source.shape
        if (result.size if self.kind == "reshape" else result.shape) != (
            source.size if self.kind == "reshape" else shape
        ):
            return f"{self.kind} makes {result} of {source}"
        if self.kind == "cast":
            scalars = isinstance(source.element, ScalarType) and isinstance(result.element, ScalarType)
            numbers = is_number(source.element) or is_number(result.element)
            return None if scalars and not numbers else f"cast makes {result} of {source}"
        quantized = is_number(source.element), is_number(result.element)
        expected = {"quantize": (False, True), "dequantize": (True, False)}.get(self.kind)
        if quantized != expected if expected else source.element != result.element:
            return f"{self.kind} makes {result} of {source}"
        return None

    def run(self, data: Array, source: TensorType) -> Array:
        """Apply to samples: data is [samples, *source.shape], the result [samples, *result.shape]."""
        if self.kind == "transpose":
            return data.transpose(0, *(axis + 1 for axis in self.permutation))
        if self.kind == "reshape":
            return data.reshape(len(data), *self.result.shape)
        if self.kind == "cast" and isinstance(self.result.element, ScalarType):
            return cast_array(data, self.result.element)
        if self.kind == "quantize" and is_number(self.result.element):
            return number_of(self.result).quantize(data)
        if self.kind == "dequantize" and is_number(source.element):
            return number_of(source).dequantize(data)
        raise ValueError(f"{self.kind} cannot make {self.result} of {source}")


@dataclass(frozen=True, slots=True)
class HostWrite:
    """The steps that lead from an input to the bytes at `address` of the DRAM (dense, row-major)."""

    address: int
    steps: tuple[HostStep, ...]


@dataclass(frozen=True, slots=True)
class InputPort:
    """An input of the model as the user knows it, and where it goes."""

    name: str
    type: TensorType
    writes: tuple[HostWrite, ...]


@dataclass(frozen=True, slots=True)
class OutputPort:
    """An output of the model: a dense tensor `stored` at `address` of the DRAM, then `steps` up to the user's type.

    With `source`, the name of an input or of the result of a call, the steps start from that and nothing is read.
    """

    name: str
    type: TensorType
    address: int
    stored: TensorType
    steps: tuple[HostStep, ...]
    source: str | None = None


@dataclass(frozen=True, slots=True)
class HostCall:
    """A call of the host: the function it runs, what that takes, and where its results go.

    The arguments are read as outputs are. The results bear names of their own, under which outputs and the arguments of
    later calls may read them.
    """

    callee: str
    arguments: tuple[OutputPort, ...]
    results: tuple[InputPort, ...]


def stored_bytes(type: TensorType) -> int:
    """The size of a dense tensor in memory."""
    return type.size * type.element.dtype.itemsize


def final_type(source: TensorType, steps: Sequence[HostStep]) -> TensorType:
    """The type after all steps."""
    return steps[-1].result if steps else source


def run_steps(data: Array, source: TensorType, steps: Sequence[HostStep]) -> Array:
    """Apply all steps to [samples, *source.shape]."""
    for step in steps:
        data, source = step.run(data, source), step.result
    return data


def to_bytes(data: Array) -> Array:
    """[samples, ...] as int8 [samples, bytes], little-endian."""
    dense = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
    return dense.reshape(len(data), -1).view(np.int8)


def from_bytes(memory: Array, type: TensorType) -> Array:
    """int8 [samples, bytes] as [samples, *type.shape]."""
    dtype = type.element.dtype.newbyteorder("<")
    return np.ascontiguousarray(memory).view(dtype).reshape(len(memory), *type.shape)

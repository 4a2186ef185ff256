"""ONNX tensors as numpy arrays, without copies where the file allows it; external data only from the model's folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.types import Array

ELEMENT_LIMIT = 2**28
"""A tensor that a few bytes of the file describe may not have more elements than this: 1 GiB of float32."""


def dtype_name(data_type: int) -> str:
    """The numpy name of an ONNX element type, as messages print it."""
    try:
        name = np.dtype(helper.tensor_dtype_to_np_dtype(data_type)).name
    except (KeyError, ValueError, TypeError):
        return f"element type {data_type}"
    return "string" if name == "object" else name


def array_of(tensor: TensorProto, source: str, folder: Path | None) -> Array:
    """The data of a tensor; `folder` is where external data may lie (None: nowhere).

    Raises CompileError, naming the tensor, if data is missing, damaged, too large or outside the folder.
    """
    what = f"{source}: tensor '{tensor.name}'"
    if any(dim < 0 for dim in tensor.dims):
        raise CompileError(f"{what} has the shape {list(tensor.dims)}")
    if tensor.data_location == TensorProto.EXTERNAL:
        return _external_array(tensor, what, folder)
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        raise CompileError(f"{what} has element type {tensor.data_type}, which ONNX does not have")
    if tensor.HasField("raw_data") and tensor.data_type not in _PACKED:
        _check_raw(tensor, what)
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CompileError(f"{what} is damaged: {_first_line(error)}") from None


def _check_raw(tensor: TensorProto, what: str) -> None:
    needed = math.prod(tensor.dims) * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    if tensor.data_type != TensorProto.STRING and len(tensor.raw_data) != needed:
        raise CompileError(
            f"{what} is damaged: its shape {list(tensor.dims)} takes {needed} bytes, it has {len(tensor.raw_data)}"
        )


def check_sparse(tensors: Sequence[Any], source: str) -> None:
    """Raise CompileError if all sparse tensors of a model together are too large, once they are dense."""
    total = sum(math.prod(tensor.dims) for tensor in tensors if all(dim > 0 for dim in tensor.dims))
    if total > ELEMENT_LIMIT:
        raise CompileError(
            f"{source}: the sparse tensors have {total} elements in all, at most {ELEMENT_LIMIT} are accepted"
        )


def dense_array(tensor: Any, source: str, folder: Path | None) -> Array:
    """The data of a SparseTensorProto in full; see `array_of`."""
    shape = tuple(int(dim) for dim in tensor.dims)
    size = math.prod(shape)
    what = f"{source}: sparse tensor '{tensor.values.name}'"
    if size > ELEMENT_LIMIT or any(dim < 0 for dim in shape):
        raise CompileError(f"{what} has the shape {list(shape)}, at most {ELEMENT_LIMIT} elements are accepted")
    values, indices = array_of(tensor.values, source, folder), array_of(tensor.indices, source, folder)
    dense = np.zeros(size, values.dtype)
    try:
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        dense[flat] = values
    except (ValueError, IndexError) as error:
        raise CompileError(f"{what} is damaged: {_first_line(error)}") from None
    return dense.reshape(shape)


def _external_array(tensor: TensorProto, what: str, folder: Path | None) -> Array:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise CompileError(f"{what} has its data in the file '{location}', import the model by its path to read it")
    path = folder / location
    if not location or Path(location).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise CompileError(f"{what} has its data in '{location}', which is outside the folder of the model")
    try:
        offset = int(entries.get("offset", "0") or 0)
        length = int(entries.get("length", "0") or 0)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (ValueError, KeyError, TypeError) as error:
        raise CompileError(f"{what} has unreadable external data entries: {_first_line(error)}") from None
    shape = tuple(int(dim) for dim in tensor.dims)
    needed = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or tensor.data_type in _PACKED:
        raise CompileError(f"{what} has external data of type {dtype_name(tensor.data_type)}, which is not supported")
    if not path.is_file():
        raise CompileError(f"{what} has its data in '{location}', which does not exist beside the model")
    available = path.stat().st_size
    if offset < 0 or length not in (0, needed) or offset + needed > available:
        raise CompileError(
            f"{what} needs {needed} bytes at offset {offset} of '{location}' (declared length {length}), "
            f"which has {available}"
        )
    if needed == 0:
        return np.zeros(shape, dtype)
    try:
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    except (OSError, ValueError) as error:
        raise CompileError(f"{what}: '{location}' cannot be read: {_first_line(error)}") from None


_PACKED = frozenset(
    int(getattr(onnx.TensorProto, name))
    for name in ("INT2", "UINT2", "INT4", "UINT4", "FLOAT4E2M1", "FLOAT6E2M3", "FLOAT6E3M2")
    if hasattr(onnx.TensorProto, name)
)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

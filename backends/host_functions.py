"""The functions of the host in a program file: IR text, and the data of its larger constants beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module
from ..dialects.core.parser import parse_module
from ..dialects.core.printer import elided_constants, print_module
from ..dialects.core.types import Array, TensorType, scalar_type
from ..dialects.core.verifier import verify
from ..dialects.nn.onnx import check_host_function
from ..dialects.registry import CONTEXT
from .host import from_bytes, stored_bytes, to_bytes
from .manifest import Fields, read_type, write_type

TEXT_BYTES = 2**24
"""The text of all functions together is at most this long."""


def write(host: Module) -> tuple[bytes, list[dict[str, Any]], bytes]:
    """(text, list of the constants that it leaves out, their data); all empty without functions."""
    if not host.functions:
        return b"", [], b""
    arrays = elided_constants(host)
    listed = [
        {"name": name, "type": write_type(TensorType(array.shape, scalar_type(array.dtype)))}
        for name, array in arrays.items()
    ]
    data = b"".join(to_bytes(array[None]).tobytes() for array in arrays.values())
    return print_module(host).encode(), listed, data


def read(text: bytes, listed: Sequence[Fields], data: bytes) -> Module:
    """The reverse of `write`; CompileError if anything is wrong. Nothing is executed."""
    arrays: dict[str, Array] = {}
    offset = 0
    for fields in listed:
        name, type = fields.text("name"), read_type(fields.object("type"))
        fields.finish()
        size = stored_bytes(type)
        if offset + size > len(data):
            raise CompileError(f"host.bin has {len(data)} bytes, its constants up to '{name}' take {offset + size}")
        arrays[name] = from_bytes(np.frombuffer(data, np.int8, size, offset)[None], type)[0]
        offset += size
    if offset != len(data):
        raise CompileError(f"host.bin has {len(data)} bytes, its constants take {offset}")
    if not text:
        return Module()
    if len(text) > TEXT_BYTES:
        raise CompileError(f"host.air has {len(text)} bytes, at most {TEXT_BYTES} are accepted")
    try:
        module = parse_module(text.decode("utf-8"), CONTEXT, file="host.air", constants=arrays)
    except UnicodeDecodeError as error:
        raise CompileError(f"host.air is not a text: byte {error.start} is not UTF-8") from None
    verify(module)
    for function in module.functions.values():
        check_host_function(function)
    if write(module)[0] != text:
        raise CompileError("host.air is not in canonical form")
    return module

"""Attributes of ONNX nodes as JSON text, and the limits of what they may ask for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ..core.types import TensorType

HOST_LIMIT = 2**28
"""No tensor on the host has more elements than this: 1 GiB of float32."""

LARGEST_SAMPLING = 64
"""The host samples a cell of a region at most so often along each side, one by one."""

_INT64 = range(-(2**63), 2**63)

_SCALARS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "INT": ("an integer of 64 bits", lambda value: type(value) is int and value in _INT64),
    "FLOAT": ("a number with a point", lambda value: isinstance(value, float)),
    "STRING": ("a text", lambda value: isinstance(value, str) and value.encode(errors="replace").decode() == value),
}
"""What a JSON value of each kind is, in words and by test."""


def written_parameters(attributes: Mapping[str, Any]) -> str:
    """The attributes of a node as JSON; ValueError names one that is no number, text or list of them."""
    plain: dict[str, Any] = {}
    for name, value in sorted(attributes.items()):
        items: tuple[Any, ...] = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
        if not all(isinstance(item, (int, float, str)) for item in items):
            raise ValueError(f"its attribute '{name}' is no number, text or list of them")
        plain[name] = list(items) if isinstance(value, tuple) else value
    return json.dumps(plain)


def read_parameters(text: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    """The reverse: values by name, as the standard's `kinds` of the operator (INT, FLOATS ...) want them.

    ValueError for an attribute that the operator does not have, and for a value of another kind.
    """
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'parameters' cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise ValueError("'parameters' cannot be read: expected a JSON object")
    given = cast("dict[str, Any]", found)
    for name, value in given.items():
        if name not in kinds:
            raise ValueError(f"the operator has no attribute '{name}'")
        kind = kinds[name]
        if kind.removesuffix("S") not in _SCALARS:
            raise ValueError(f"attribute '{name}' is of kind {kind}, which the host does not read")
        words, fits = _SCALARS[kind.removesuffix("S")]
        if kind.endswith("S"):
            if not isinstance(value, list):
                raise ValueError(f"attribute '{name}' is {_short(value)}, expected a list")
            wrong = [item for item in cast("list[Any]", value) if not fits(item)]
            if wrong:
                raise ValueError(f"attribute '{name}' holds {_short(wrong[0])}, expected {words}")
        elif not fits(value):
            raise ValueError(f"attribute '{name}' is {_short(value)}, expected {words}")
    return given


def check_extents(parameters: Mapping[str, Any], types: Sequence[TensorType]) -> None:
    """ValueError if windows, padding, blocks or heads make the evaluator hold a tensor larger than `HOST_LIMIT`.

    The evaluator pads the first operand, [N, C, spatial...], and spreads a kernel over its dilations, [O, I,
    spatial...]; a block repeats each element of the second operand (the scale) `block_size` times; data is split into
    heads, or repeated over them; regions are sampled point by point. Other tensors of the evaluator are in proportion
    to operands and results.
    """
    if not types:
        return
    ratio = parameters.get("sampling_ratio", 0)
    if isinstance(ratio, int) and ratio > LARGEST_SAMPLING:
        raise ValueError(f"sampling_ratio is {ratio}, at most {LARGEST_SAMPLING} is accepted on the host")
    data, second = types[0].shape, types[1].shape if len(types) > 1 else ()
    pads, kernel, dilations = (_integers(parameters, name) for name in ("pads", "kernel_shape", "dilations"))
    block = parameters.get("block_size", 0)
    if len(types) > 1 and block * math.prod(second) > HOST_LIMIT:
        raise ValueError(f"block_size {block} spreads {types[1]} over more than {HOST_LIMIT} elements")
    for name in ("q_num_heads", "kv_num_heads", "num_heads"):
        if (count := parameters.get(name, 0)) > types[0].size:
            raise ValueError(f"{name} is {count}, expected at most the {types[0].size} elements of the first input")
    axes = max(len(data) - 2, 0)
    kernel = kernel or list(second[2:])
    spread = [size * _at(dilations, axis, 1) for axis, size in enumerate(kernel)]
    padded = [
        size + _at(pads, axis, 0) + _at(pads, axis + axes, 0) + _at(spread, axis, 0)
        for axis, size in enumerate(data[2:])
    ]
    for what, size in (
        ("padded data", math.prod((*data[:2], *padded))),
        ("the dilated kernel", math.prod((*second[:2], *spread))),
    ):
        if (pads or kernel) and size > HOST_LIMIT:
            raise ValueError(f"{what} has {size} elements, at most {HOST_LIMIT} are accepted on the host")


def _integers(parameters: Mapping[str, Any], name: str) -> list[int]:
    value = parameters.get(name, [])
    return [abs(item) for item in cast("list[int]", value)] if isinstance(value, list) else []


def _at(values: Sequence[int], index: int, default: int) -> int:
    return values[index] if index < len(values) else default


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

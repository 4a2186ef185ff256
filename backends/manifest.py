"""The manifest of a program file: host ports, layers and the like as JSON, every field checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.types import ElementType, ScalarType, TensorType
from ..dialects.quant.types import QuantizedType
from .host import STEP_KINDS, HostCall, HostStep, HostWrite, InputPort, OutputPort, final_type, stored_bytes

TENSOR_LIMIT = 2**31
"""No tensor of a program has this many bytes."""
RANK_LIMIT = 16
TEXT_LIMIT = 65_536
SPACE_LIMIT = 2**32
"""Addresses have 32 bits."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A row of the reports: the ONNX node names, what kind of layer it is, and the model's multiply-accumulates."""

    name: str
    kind: str
    macs: int


def dump(manifest: Mapping[str, Any]) -> bytes:
    """The one JSON text of a manifest, with a checksum over all of it."""
    body = _canonical(manifest)
    return _canonical({**manifest, "checksum": hashlib.sha256(body).hexdigest()})


def parse(text: bytes) -> Fields:
    """The reverse of `dump`; CompileError if the text is not the canonical form of a manifest with its checksum."""
    try:
        data = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CompileError(f"the manifest is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise CompileError("the manifest is not a JSON object")
    manifest = cast(dict[str, Any], data)
    checksum = manifest.pop("checksum", None)
    try:
        canonical = dump(manifest)
    except (ValueError, RecursionError) as error:
        raise CompileError(f"the manifest cannot be checked: {error}") from None
    if canonical != text:
        same = checksum == hashlib.sha256(_canonical(manifest)).hexdigest()
        raise CompileError(f"the manifest {'is not in canonical form' if same else 'does not match its checksum'}")
    return Fields(manifest, "")


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True).encode()


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


class Fields:
    """A JSON object being read: every access names a key, its type and its range; `finish` refuses unknown keys.

    `where` is its key in `document`, which errors begin with.
    """

    def __init__(self, data: Any, where: str, document: str = "manifest") -> None:
        self.document = document
        if not isinstance(data, dict):
            raise CompileError(f"{document}: '{where}' is {_shown(data)}, expected an object")
        self.data = cast(dict[str, Any], data)
        self.where = where
        self.seen: set[str] = set()

    def fail(self, key: str, expected: str) -> NoReturn:
        """Refuse the value of `key`."""
        found = _shown(self.data[key]) if key in self.data else "missing"
        raise CompileError(f"{self.document}: '{self.path(key)}' is {found}, expected {expected}")

    def path(self, key: str) -> str:
        """The full name of a key."""
        return f"{self.where}.{key}" if self.where else key

    def raw(self, key: str) -> Any:
        """Any value; missing reads as None."""
        self.seen.add(key)
        return self.data.get(key)

    def integer(self, key: str, low: int, high: int) -> int:
        """An integer in [low, high]."""
        value = self.raw(key)
        if type(value) is not int or not low <= value <= high:
            self.fail(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str) -> float:
        """A float."""
        value = self.raw(key)
        if type(value) is not float:
            self.fail(key, "a number")
        return value

    def text(self, key: str, choices: Sequence[str] = ()) -> str:
        """A string, one of `choices` if there are any."""
        value = self.raw(key)
        if not isinstance(value, str) or len(value) > TEXT_LIMIT or (choices and value not in choices):
            self.fail(key, f"one of {', '.join(choices)}" if choices else "text")
        return value

    def list(self, key: str) -> list[Any]:
        """A list of anything."""
        value = self.raw(key)
        if not isinstance(value, list):
            self.fail(key, "a list")
        return cast(list[Any], value)

    def integers(self, key: str, count: int | None, low: int, high: int) -> list[int]:
        """A list of `count` (or any number of) integers in [low, high]."""
        values = self.list(key)
        good = set(map(type, values)) <= {int} and (not values or low <= min(values) <= max(values) <= high)
        if not good or (count is not None and len(values) != count):
            self.fail(key, f"a list of {'' if count is None else f'{count} '}integers from {low} to {high}")
        return values

    def objects(self, key: str) -> list[Fields]:
        """A list of objects."""
        return [
            Fields(value, f"{self.path(key)}[{index}]", self.document) for index, value in enumerate(self.list(key))
        ]

    def object(self, key: str) -> Fields:
        """An object."""
        return Fields(self.raw(key), self.path(key), self.document)

    def finish(self) -> None:
        """Refuse keys that nothing has read."""
        unknown = sorted(self.data.keys() - self.seen)
        if unknown:
            raise CompileError(f"{self.document}: unknown key '{self.path(unknown[0])}'")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# tensor types and host steps


def write_type(type: TensorType) -> dict[str, Any]:
    """A tensor type as JSON."""
    element = type.element
    if isinstance(element, QuantizedType):
        stored: dict[str, Any] = {"scale": element.scale, "zero_point": element.zero_point}
        return {"shape": list(type.shape), "storage": str(element.storage), **stored}
    return {"shape": list(type.shape), "storage": str(element)}


def read_type(fields: Fields) -> TensorType:
    """The reverse of `write_type`."""
    shape = tuple(fields.integers("shape", None, 1, TENSOR_LIMIT))
    if len(shape) > RANK_LIMIT:
        fields.fail("shape", f"at most {RANK_LIMIT} dimensions")
    element: ElementType
    try:
        element = ScalarType(fields.text("storage"))
        if "scale" in fields.data:
            zero_point = fields.integer("zero_point", -(2**31), 2**31)
            element = QuantizedType(element, fields.number("scale"), zero_point)
    except ValueError as error:
        raise CompileError(f"manifest: '{fields.where}': {error}") from None
    fields.finish()
    type = TensorType(shape, element)
    if stored_bytes(type) >= TENSOR_LIMIT:
        fields.fail("shape", f"less than {TENSOR_LIMIT} bytes")
    return type


def _write_steps(steps: Sequence[HostStep]) -> list[dict[str, Any]]:
    return [{"kind": s.kind, "result": write_type(s.result), "permutation": list(s.permutation)} for s in steps]


def _read_steps(fields: Fields, source: TensorType) -> tuple[HostStep, ...]:
    steps: list[HostStep] = []
    for item in fields.objects("steps"):
        permutation = tuple(item.integers("permutation", None, 0, RANK_LIMIT))
        step = HostStep(item.text("kind", STEP_KINDS), read_type(item.object("result")), permutation)
        item.finish()
        problem = step.problem(source)
        if problem:
            raise CompileError(f"manifest: '{item.where}': {problem}")
        steps.append(step)
        source = step.result
    return tuple(steps)


def write_input(port: InputPort) -> dict[str, Any]:
    """An input port as JSON."""
    writes = [{"address": write.address, "steps": _write_steps(write.steps)} for write in port.writes]
    return {"name": port.name, "type": write_type(port.type), "writes": writes}


def read_input(fields: Fields) -> InputPort:
    """The reverse of `write_input`."""
    name, type = fields.text("name"), read_type(fields.object("type"))
    writes: list[HostWrite] = []
    for item in fields.objects("writes"):
        address = item.integer("address", 0, SPACE_LIMIT - 1)
        writes.append(HostWrite(address, _read_steps(item, type)))
        item.finish()
    fields.finish()
    return InputPort(name, type, tuple(writes))


def write_output(port: OutputPort) -> dict[str, Any]:
    """An output port as JSON."""
    place = {"address": port.address, "source": port.source}
    types = {"type": write_type(port.type), "stored": write_type(port.stored)}
    return {"name": port.name, **types, **place, "steps": _write_steps(port.steps)}


def read_output(fields: Fields) -> OutputPort:
    """The reverse of `write_output`."""
    name, type, stored = fields.text("name"), read_type(fields.object("type")), read_type(fields.object("stored"))
    address = fields.integer("address", 0, SPACE_LIMIT - 1)
    source = None if fields.raw("source") is None else fields.text("source")
    steps = _read_steps(fields, stored)
    fields.finish()
    if final_type(stored, steps) != type:
        fields.fail("type", f"{final_type(stored, steps)} after the steps")
    return OutputPort(name, type, address, stored, steps, source)


def write_call(call: HostCall) -> dict[str, Any]:
    """A call of the host as JSON."""
    arguments, results = map(write_output, call.arguments), map(write_input, call.results)
    return {"callee": call.callee, "arguments": list(arguments), "results": list(results)}


def read_call(fields: Fields) -> HostCall:
    """The reverse of `write_call`."""
    arguments = tuple(read_output(item) for item in fields.objects("arguments"))
    results = tuple(read_input(item) for item in fields.objects("results"))
    call = HostCall(fields.text("callee"), arguments, results)
    fields.finish()
    return call


def read_layer(fields: Fields) -> Layer:
    """A layer from {name, kind, macs}."""
    layer = Layer(fields.text("name"), fields.text("kind"), fields.integer("macs", 0, 2**62))
    fields.finish()
    return layer

"""A compiled program: instructions, constants, host ports and layer table; the file `model.accel` it is kept in."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.files import write_atomically
from ..dialects.core.operation import Module
from ..dialects.core.types import Array
from . import host_functions, manifest
from .container import pack, unpack
from .encoding import INSTRUCTION_WORDS, Instruction, Words, decode
from .host import HostCall, InputPort, OutputPort
from .manifest import Fields, Layer
from .order import Clocks, execution_order
from .target import Target, target_from_data
from .validation import check_calls, check_instructions, check_ports

FORMAT = "accelc program"
VERSION = 4
MEMBERS = ("manifest.json", "code.bin", "constants.bin", "host.air", "host.bin")
ALIGNMENT = 64
"""Constants and buffers start at multiples of this many bytes in DRAM."""
INSTRUCTION_LIMIT = 2**22


@dataclass(frozen=True, eq=False)
class Program:
    """Everything that a machine (or the simulator) needs to run a model.

    `code` is uint32 [instructions, INSTRUCTION_WORDS]. The DRAM holds `constants` (int8) from address 0, read-only,
    then buffers up to `dram_bytes`. `instruction_layers` (index into `layers`) and `useful_macs` (the model's
    multiply-accumulates) have one entry an instruction. Instruction tile.call_host names an entry of `host_calls`, in
    order. `report` is a JSON object from the compiler.
    """

    target: Target
    model: str
    precision: str
    code: Words
    constants: Array
    dram_bytes: int
    inputs: tuple[InputPort, ...]
    outputs: tuple[OutputPort, ...]
    layers: tuple[Layer, ...]
    instruction_layers: npt.NDArray[np.int64]
    useful_macs: npt.NDArray[np.int64]
    host_calls: tuple[HostCall, ...] = ()
    host: Module = field(default_factory=Module)
    """The functions that the calls run."""
    report: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def instructions(self) -> list[Instruction]:
        """The decoded instructions; CompileError if one is not valid."""
        return decode(self.code)

    @cached_property
    def _order(self) -> tuple[list[int], Clocks]:
        return execution_order(self.instructions, self.describe)

    @property
    def order(self) -> list[int]:
        """Instruction indices in an order of execution that the tokens allow; CompileError on a deadlock."""
        return self._order[0]

    @property
    def clocks(self) -> Clocks:
        """The vector clock of every instruction; see `execution_order`."""
        return self._order[1]

    def describe(self, index: int) -> str:
        """An instruction in words: its number, its kind and its layer."""
        name = self.instructions[index].op_class.name.removeprefix("tile.")
        layer = self.layers[int(self.instruction_layers[index])].name if self.layers else ""
        return f"instruction {index} ({name}{f', {layer}' if layer else ''})"

    def check(self) -> None:
        """Raise CompileError unless every field, address and token of the program is valid for its target."""
        if not len(self.instructions) == len(self.instruction_layers) == len(self.useful_macs):
            raise CompileError(f"layer and MAC tables do not have one entry for each of {len(self.code)} instructions")
        check_ports(self.inputs, self.outputs, self.host_calls, self.constants.size, self.dram_bytes, self.target)
        check_calls(self.host_calls, self.host, self.instructions)
        check_instructions(self.instructions, self.target, self.constants.size, self.dram_bytes, self.describe)
        _ = self.order

    def save(self, path: str | Path) -> None:
        """Write the program file; equal programs give equal bytes."""
        data = self.to_bytes()
        write_atomically(Path(path), lambda file: file.write(data))

    def to_bytes(self) -> bytes:
        """The program file."""
        code = self.code.astype("<u4").tobytes()
        constants = self.constants.tobytes()
        functions, listed, arrays = host_functions.write(self.host)
        data = (code, constants, functions, arrays)
        members = {name: _member(member) for name, member in zip(MEMBERS[1:], data, strict=True)}
        text = manifest.dump(
            {
                "format": FORMAT,
                "version": VERSION,
                "model": self.model,
                "precision": self.precision,
                "target": {"fingerprint": self.target.fingerprint, "fields": dataclasses.asdict(self.target)},
                "dram_bytes": self.dram_bytes,
                "inputs": [manifest.write_input(port) for port in self.inputs],
                "outputs": [manifest.write_output(port) for port in self.outputs],
                "layers": [dataclasses.asdict(layer) for layer in self.layers],
                "instruction_layers": self.instruction_layers.tolist(),
                "useful_macs": self.useful_macs.tolist(),
                "report": dict(self.report),
                "host_calls": [manifest.write_call(call) for call in self.host_calls],
                "host_constants": listed,
                "members": members,
            }
        )
        return pack(dict(zip(MEMBERS, (text, *data), strict=True)))


def _member(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def is_program(head: bytes) -> bool:
    """True if a file that starts with `head` (at least 64 bytes) claims to be a program file."""
    return head.startswith(b"PK\x03\x04") and MEMBERS[0].encode() in head[:64]


def load_program(path: str | Path, *, target: Target | None = None) -> Program:
    """Read and check a program file; CompileError with the reason if anything in it is wrong.

    With `target`, a program for a different machine is refused too.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise CompileError(f"{path}: cannot be read: {reason or error}") from None
    try:
        program = program_from_bytes(data)
    except CompileError as error:
        reasons = [d.message for d in error.diagnostics]
        raise CompileError("\n".join(f"{path}: {reason}" for reason in reasons)) from None
    if target is not None and target.fingerprint != program.target.fingerprint:
        raise CompileError(f"{path}: compiled for target '{program.target.name}', which differs from '{target.name}'")
    return program


def program_from_bytes(data: bytes) -> Program:
    """The program in the bytes of a file, checked; CompileError with the reason if anything is wrong."""
    members = unpack(data, MEMBERS)
    fields = manifest.parse(members["manifest.json"])
    fields.text("format", (FORMAT,))
    version = fields.raw("version")
    if version != VERSION:
        found = f"its format has version {version!r}, this version of accelc reads {VERSION}"
        raise CompileError(f"written by another version of accelc: {found}; compile the model again")
    listed = fields.object("members")
    for name in MEMBERS[1:]:
        expected = _member(members[name])
        if listed.raw(name) != expected:
            raise CompileError(f"damaged: member '{name}' does not match its size or SHA-256 in the manifest")
    listed.finish()
    code = members["code.bin"]
    if len(code) % (4 * INSTRUCTION_WORDS) or len(code) > 4 * INSTRUCTION_WORDS * INSTRUCTION_LIMIT:
        raise CompileError(f"code.bin has {len(code)} bytes, expected whole instructions of {4 * INSTRUCTION_WORDS}")
    words = np.frombuffer(code, "<u4").astype(np.uint32).reshape(-1, INSTRUCTION_WORDS)
    layers = tuple(manifest.read_layer(item) for item in fields.objects("layers"))
    count = len(words)
    indices = fields.integers("instruction_layers", count, 0, max(len(layers) - 1, 0))
    report = fields.object("report")
    program = Program(
        target=_read_target(fields.object("target")),
        model=fields.text("model"),
        precision=fields.text("precision"),
        code=words,
        constants=np.frombuffer(members["constants.bin"], np.int8),
        dram_bytes=fields.integer("dram_bytes", 0, manifest.SPACE_LIMIT),
        inputs=tuple(manifest.read_input(item) for item in fields.objects("inputs")),
        outputs=tuple(manifest.read_output(item) for item in fields.objects("outputs")),
        layers=layers,
        instruction_layers=np.array(indices, np.int64),
        useful_macs=np.array(fields.integers("useful_macs", count, 0, 2**62), np.int64),
        host_calls=tuple(manifest.read_call(item) for item in fields.objects("host_calls")),
        host=host_functions.read(members["host.air"], fields.objects("host_constants"), members["host.bin"]),
        report=report.data,
    )
    fields.finish()
    program.check()
    return program


def _read_target(fields: Fields) -> Target:
    target = target_from_data(fields.object("fields").data, file="manifest: target")
    if fields.text("fingerprint") != target.fingerprint:
        raise CompileError("manifest: the target's fields do not match its fingerprint")
    fields.finish()
    return target

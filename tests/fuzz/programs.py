"""Program files with bytes changed, or with instructions and manifest changed and all checksums right again.

Each is refused when it is loaded or run, or it runs to the end: a changed weight or zero point is a legal program.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from random import Random
from typing import Any

import numpy as np

from accelc.backends import manifest
from accelc.backends.assembly import disassemble
from accelc.backends.container import pack, unpack
from accelc.backends.emitter import emit
from accelc.backends.program import MEMBERS, program_from_bytes
from accelc.backends.simulator.simulator import MODES, Simulator
from accelc.backends.target import load_target
from accelc.compiler.importer import import_model
from accelc.compiler.measuring import measure
from accelc.dialects.core.diagnostics import CompileError
from accelc.passes.framework.environment import Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.pipelines import PIPELINES
from accelc.passes.registry import PASSES

from .models import mutated_bytes
from .networks import random_network
from .texts import mutated_text

PROGRAMS = 20
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 2**31, 2**32, 2**64, 10**40, 0.5, -1e300, "", "x", [], {}, [1], {"a": 1}, "i16", "f32"
)  # fmt: skip
RUN_ELEMENTS = 1 << 20
"""Inputs and outputs of programs that are run are at most this large."""


@cache
def original(index: int) -> bytes:
    """One of a few small valid programs."""
    random = Random(index)
    while True:
        try:
            module = import_model(random_network(random), allow_host=True)
            passes = parse_pipeline(PIPELINES[random.choice(list(PIPELINES))], PASSES)
            target = load_target(random.choice(("tile16", "tile32")))
            PassManager(passes).run(module, Environment(target, allow_host=True))
            return emit(module, target).to_bytes()
        except CompileError:
            continue


def mutated_program(random: Random) -> bytes:
    """A program file with something changed."""
    data = original(random.randrange(PROGRAMS))
    members = unpack(data, MEMBERS)
    kind = random.random()
    if kind < 0.3 or not members["code.bin"]:
        return mutated_bytes(data, random)
    fields = json.loads(members["manifest.json"])
    if members["host.air"] and random.random() < 0.5:
        members["host.air"] = mutated_text(members["host.air"].decode(), random).encode()
    elif kind < 0.7:
        members["code.bin"] = _changed_code(members["code.bin"], random)
    else:
        _change_field(fields, random)
    if not isinstance(fields.get("members"), dict):
        return mutated_bytes(data, random)
    fields.pop("checksum", None)
    for name in MEMBERS[1:]:
        fields["members"][name] = {"bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
    return pack({**members, "manifest.json": manifest.dump(fields)})


def _changed_code(code: bytes, random: Random) -> bytes:
    words = np.frombuffer(code, "<u4").copy()
    for _ in range(random.choice((1, 1, 2))):
        used = [*map(int, np.flatnonzero(words))]
        place = random.choice(used) if used and random.random() < 0.8 else random.randrange(words.size)
        if random.random() < 0.7:
            words[place] ^= np.uint32(1 << random.randrange(32))
        else:
            words[place] = random.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF, random.getrandbits(32)))
    return words.tobytes()


def _change_field(fields: dict[str, Any], random: Random) -> None:
    path = random.choice(_leaves(fields))
    if not path:
        return
    inner: Any = fields
    for key in path[:-1]:
        inner = inner[key]
    if random.random() < 0.15:
        del inner[path[-1]]
    else:
        inner[path[-1]] = random.choice(VALUES)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    if isinstance(value, list):
        return [path, *(leaf for index, item in enumerate(value) for leaf in _leaves(item, (*path, index)))]
    return [path]


def check_program(data: bytes, mode: str) -> str:
    """Load, disassemble, run and measure; what became of it. Raises anything but CompileError."""
    try:
        program = program_from_bytes(data)
    except CompileError as error:
        assert str(error)
        return "refused"
    disassemble(program.instructions)
    sizes = [port.type.size for port in (*program.inputs, *program.outputs)]
    if max(sizes, default=0) > RUN_ELEMENTS or program.dram_bytes > 1 << 24:
        return "loaded"
    inputs = {port.name: np.zeros(port.type.shape or (1,), port.type.element.dtype) for port in program.inputs}
    try:
        with np.errstate(all="ignore"):
            Simulator(program, mode=mode).run(inputs)
        measure(program)
    except CompileError as error:
        assert str(error)
        return "stopped"
    return "ran"


def mode_of(random: Random) -> str:
    """One of the simulator's modes."""
    return random.choice(MODES)

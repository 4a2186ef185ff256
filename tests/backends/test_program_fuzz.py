"""Some thousand damaged program files: each is refused with a reason; none crashes, hangs or runs silently.

With all checksums fixed up a mutation can be a valid program; then it must run, in bounds and in bounded time.
"""

import hashlib
import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from machine.modules import conv_module

from accelc.backends import manifest
from accelc.backends.container import pack, unpack
from accelc.backends.emitter import emit
from accelc.backends.program import MEMBERS, program_from_bytes
from accelc.backends.simulator.simulator import MODES, Simulator
from accelc.backends.target import load_target
from accelc.dialects.core.diagnostics import CompileError

DATA = emit(conv_module(out_c=8, in_c=3, size=4), load_target("tile32")).to_bytes()
PARTS = unpack(DATA, MEMBERS)


def test_truncated_files_are_refused():
    random_lengths = random.Random(1).sample(range(len(DATA)), 500)
    for length in {*range(200), *random_lengths, *range(len(DATA) - 100, len(DATA))}:
        with pytest.raises(CompileError):
            program_from_bytes(DATA[:length])


def test_files_with_bytes_added_are_refused():
    for data in (DATA + b"\0", b"\0" + DATA, DATA + DATA):
        with pytest.raises(CompileError):
            program_from_bytes(data)


def test_flipped_bits_are_refused():
    source = random.Random(2)
    for _ in range(2000):
        data = bytearray(DATA)
        for _ in range(source.choice([1, 1, 1, 2, 8])):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        if data == DATA:
            continue
        with pytest.raises(CompileError):
            program_from_bytes(bytes(data))


def fixed_up(members: dict[str, bytes], data: dict[str, Any]) -> bytes:
    data.pop("checksum", None)
    for name in MEMBERS[1:]:
        data["members"][name] = {"bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
    return pack({**members, "manifest.json": manifest.dump(data)})


def outcome(data: bytes, mode: str) -> str:
    """What became of a file: refused when loaded or when run (with a reason), or ran to the end."""
    try:
        program = program_from_bytes(data)
    except CompileError as error:
        assert str(error)
        return "refused"
    inputs = {
        port.name: np.zeros((1, *port.type.shape[1:]), port.type.element.dtype)
        for port in program.inputs
        if port.type.size < 1 << 20
    }
    try:
        Simulator(program, mode=mode).run(inputs)
    except CompileError as error:
        assert str(error)
        return "stopped"
    return "ran"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_code_with_good_checksums():
    source = random.Random(3)
    seen: Counter[str] = Counter()
    for number in range(600):
        code = np.frombuffer(PARTS["code.bin"], "<u4").copy()
        for _ in range(source.choice([1, 1, 2])):
            used = np.flatnonzero(code)
            word = int(source.choice(used)) if source.random() < 0.8 else source.randrange(code.size)
            if source.random() < 0.7:
                code[word] ^= np.uint32(1 << source.randrange(32))
            else:
                code[word] = source.choice([0, 1, 0xFFFFFFFF, 0x7FFFFFFF, source.getrandbits(32)])
        if source.random() < 0.1:
            code = code.reshape(-1, 32)[source.choices(range(code.size // 32), k=code.size // 32)].reshape(-1)
        members = {**PARTS, "code.bin": code.tobytes()}
        data = fixed_up(members, json.loads(PARTS["manifest.json"]))
        seen[outcome(data, MODES[number % len(MODES)])] += 1
    assert seen["refused"] > 150, seen
    assert seen["ran"] > 10, "some changes, such as a zero point, are legal programs"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [path, *(leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index)))]
    return [path]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_edited_manifests_with_good_checksums():
    source = random.Random(4)
    seen: Counter[str] = Counter()
    values = [None, True, -1, 0, 1, 7, 2**31, 2**32, 2**64, 10**40, 0.5, -1e300, "", "x", [], {}, [1], {"a": 1}, "i16"]
    for number in range(600):
        data = json.loads(PARTS["manifest.json"])
        path = source.choice(leaves(data))
        inner: Any = data
        for key in path[:-1]:
            inner = inner[key]
        if source.random() < 0.15:
            del inner[path[-1]]
        else:
            inner[path[-1]] = source.choice(values)
        if isinstance(data.get("members"), dict):
            data.pop("checksum", None)
            packed = pack({**PARTS, "manifest.json": manifest.dump(data)})
            seen[outcome(packed, MODES[number % len(MODES)])] += 1
    assert seen["refused"] > 400, seen

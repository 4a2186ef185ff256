"""Program files: reproducible, round-trip, and refused with a reason when anything in them is wrong."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from machine.modules import conv_module

from accelc.backends import manifest
from accelc.backends.container import pack, unpack
from accelc.backends.emitter import emit
from accelc.backends.program import MEMBERS, VERSION, is_program, load_program, program_from_bytes
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.target import load_target
from accelc.dialects.core.diagnostics import CompileError

TARGET = load_target("tile32")
PROGRAM = emit(conv_module(out_c=8, in_c=3, size=4), TARGET, report={"spilled_bytes": 0, "notes": ["é"]})
DATA = PROGRAM.to_bytes()
IMAGE = {"image": np.random.default_rng(3).normal(0, 3, (2, 4, 4, 3)).astype(np.float32)}
RESULT = Simulator(PROGRAM).run(IMAGE)["result"]


def rewritten(change: Any) -> bytes:
    """The file with `change` applied to its manifest, all checksums fixed up."""
    members = unpack(DATA, MEMBERS)
    data = json.loads(members["manifest.json"])
    del data["checksum"]
    change(data)
    return pack({**members, "manifest.json": manifest.dump(data)})


def reason(data: bytes) -> str:
    with pytest.raises(CompileError) as caught:
        program_from_bytes(data)
    return str(caught.value)


def test_equal_programs_give_equal_bytes():
    again = emit(conv_module(out_c=8, in_c=3, size=4), TARGET, report={"notes": ["é"], "spilled_bytes": 0})
    assert again.to_bytes() == DATA


def test_file_round_trip(tmp_path):
    path = tmp_path / "model.accel"
    PROGRAM.save(path)
    loaded = load_program(path, target=TARGET)
    assert loaded.to_bytes() == DATA == path.read_bytes()
    assert loaded.instructions == PROGRAM.instructions
    assert loaded.report == {"spilled_bytes": 0, "notes": ["é"]}
    assert is_program(DATA[:64])
    np.testing.assert_array_equal(Simulator(loaded).run(IMAGE)["result"], RESULT)


def test_any_zip_tool_can_read_it():
    with zipfile.ZipFile(io.BytesIO(DATA)) as archive:
        assert archive.testzip() is None
        assert tuple(archive.namelist()) == MEMBERS
        assert json.loads(archive.read("manifest.json"))["model"] == "hand made"


def test_a_program_for_another_target_is_refused(tmp_path):
    PROGRAM.save(tmp_path / "model.accel")
    with pytest.raises(CompileError, match="compiled for target 'tile32', which differs from 'tile16'"):
        load_program(tmp_path / "model.accel", target=load_target("tile16"))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CompileError, match=r"none\.accel: cannot be read: No such file"):
        load_program(tmp_path / "none.accel")


def test_a_repacked_archive_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in unpack(DATA, MEMBERS).items():
            archive.writestr(name, data)
    assert "damaged: the archive's headers are not those of a program file" in reason(buffer.getvalue())


def test_a_compressed_archive_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in MEMBERS:
            archive.writestr(name, b"\0" * 10_000_000)
    assert "the header of member 'manifest.json' is damaged" in reason(buffer.getvalue())


def put(*path: Any, value: Any):
    def change(data: dict[str, Any]) -> None:
        inner: Any = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


EDITS = [
    (("version",), 1, f"its format has version 1, this version of accelc reads {VERSION}"),
    (("format",), "zip", "'format' is 'zip', expected one of accelc program"),
    (("extra",), 1, "unknown key 'extra'"),
    (("dram_bytes",), -1, "'dram_bytes' is -1, expected an integer from 0"),
    (("dram_bytes",), 10, "10 bytes of DRAM"),
    (("dram_bytes",), 2**32, "bytes of DRAM"),
    (("dram_bytes",), 1e3, "'dram_bytes' is 1000.0, expected an integer"),
    (("model",), 5, "'model' is 5, expected text"),
    (("layers",), {}, "'layers' is {}, expected a list"),
    (("layers", 0, "macs"), -5, "'layers[0].macs' is -5"),
    (("instruction_layers", 0), 1, "'instruction_layers' is"),
    (("useful_macs",), [1], "'useful_macs' is [1], expected a list of 6 integers"),
    (("report",), [], "'report' is [], expected an object"),
    (("inputs", 0, "writes", 0, "address"), 0, "input 'image' is written to 0x0, outside the buffers"),
    (("inputs", 0, "type", "shape"), [1, 2**20, 2**20], "expected less than 2147483648 bytes"),
    (("inputs", 0, "type", "shape"), [1] * 17, "expected at most 16 dimensions"),
    (("inputs", 0, "type", "storage"), "f99", "unknown scalar type 'f99'"),
    (("inputs", 0, "writes", 0, "steps", 0, "kind"), "exec", "expected one of transpose, reshape"),
    (("inputs", 0, "writes", 0, "steps", 0, "result", "scale"), 0.0, "scale is 0.0, expected"),
    (("inputs", 0, "writes", 0, "steps", 0, "result", "zero_point"), 999, "zero point is 999"),
    (("outputs", 0, "address"), 2**31, "output 'result' is read from 0x80000000, outside the DRAM"),
    (("outputs", 0, "source"), "nothing", "output 'result' copies input 'nothing'"),
    (("outputs", 0, "type", "shape"), [1, 4, 4, 9], "after the steps"),
    (("target", "fingerprint"), "0" * 16, "do not match its fingerprint"),
    (("target", "fields", "sram", "banks"), 32, "do not match its fingerprint"),
    (("target", "fields", "sram", "banks"), "x", "'sram.banks' is 'x', expected int"),
    (("members", "code.bin", "bytes"), 5, "member 'code.bin' does not match"),
]


def test_outputs_are_bounded_together():
    def change(data):
        (output,) = data["outputs"]
        data["dram_bytes"] = 2**29
        output["stored"] = {"shape": [1, 2**28], "storage": "i8"}
        data["outputs"] = [{**output, "name": f"y{i}", "type": output["stored"], "steps": []} for i in range(40)]

    assert "the outputs take 21474836480 bytes, at most 4294967296 are accepted" in reason(rewritten(change))


@pytest.mark.parametrize(("path", "value", "message"), EDITS)
def test_an_edited_manifest_is_refused(path, value, message):
    assert message in reason(rewritten(put(*path, value=value)))


def test_an_edit_without_a_new_checksum_is_refused():
    members = unpack(DATA, MEMBERS)
    text = members["manifest.json"].replace(b'"model":"hand made"', b'"model":"hand-made"')
    assert "does not match its checksum" in reason(pack({**members, "manifest.json": text}))


def test_json_that_is_not_canonical_is_refused():
    members = unpack(DATA, MEMBERS)
    spaced = members["manifest.json"].replace(b'"version":', b'"version": ')
    assert "is not in canonical form" in reason(pack({**members, "manifest.json": spaced}))
    nested = b"[" * 100_000
    assert "the manifest is not valid JSON" in reason(pack({**members, "manifest.json": nested}))

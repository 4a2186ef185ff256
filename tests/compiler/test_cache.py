"""--cache-dir: an entry is what compiling would give, all it follows from is in its name, and damage is absence."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import accelc
from accelc.backends.target import load_target
from accelc.compiler import api, cache
from accelc.compiler.cache import Cache
from accelc.compiler.cli import run_cli
from accelc.compiler.driver import Settings, load_module
from accelc.passes.eliminate_dead_code import EliminateDeadCode

MODEL = Path("examples/models/digits_depthwise.onnx")
SETTINGS = Settings(load_target("tile32"))


class OwnPass(EliminateDeadCode):
    """A pass of a user, which no hash sees into."""


@pytest.fixture
def folder(tmp_path):
    return Cache(tmp_path / "cache")


def calibration(shift: float = 0.0) -> dict[str, np.ndarray]:
    return {"input": np.linspace(-1, 1 + shift, 8 * 64, dtype=np.float32).reshape(8, 1, 8, 8)}


def test_a_second_compilation_runs_no_pass_and_gives_the_same_bytes(tmp_path, monkeypatch):
    arguments = {"calibration": calibration(), "opt_level": 1}
    plain = accelc.compile(MODEL, **arguments).compiled.to_bytes()
    first = accelc.compile(MODEL, **arguments, cache_dir=tmp_path).compiled.to_bytes()
    monkeypatch.setattr(api, "compile_module", lambda *_, **__: pytest.fail("it compiled"))
    program = accelc.compile(MODEL, **arguments, cache_dir=tmp_path)
    assert plain == first == program.compiled.to_bytes()
    assert program.reference is not None
    assert len(list(tmp_path.iterdir())) == 1


def test_the_command_line_shares_entries_and_prints_the_same(tmp_path, capsys):
    texts, files = [], []
    for number in range(2):
        out = tmp_path / f"{number}.accel"
        line = [str(MODEL), "-O1", "--cache-dir", str(tmp_path / "cache"), "--report", "-o", str(out)]
        assert run_cli(line) == 0
        texts.append(capsys.readouterr())
        files.append(out.read_bytes())
    assert texts[0] == texts[1]
    assert "warning" in texts[0].err
    (entry,) = (tmp_path / "cache").iterdir()
    assert files == [entry.read_bytes()] * 2


def external_model(path: Path, fill: float) -> Path:
    model = onnx.load(MODEL)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, fill), tensor.name))
    path.mkdir()
    onnx.save(model, path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path / "m.onnx"


def test_everything_that_changes_the_program_names_another_entry(folder, tmp_path, monkeypatch):
    changed = tmp_path / "changed.toml"
    text = Path("backends/targets/tile32.toml").read_text(encoding="utf-8")
    changed.write_text(text.replace("frequency_mhz = 500.0", "frequency_mhz = 501.0"), encoding="utf-8")
    table, again = tmp_path / "a.json", tmp_path / "b.json"
    table.write_text("{}", encoding="utf-8")
    again.write_text("{} ", encoding="utf-8")
    one, other = external_model(tmp_path / "one", 0.5), external_model(tmp_path / "other", 0.25)
    assert one.read_bytes() == other.read_bytes(), "they differ in external data only"
    variants = [
        (MODEL, SETTINGS),
        (Path("examples/models/digits_cnn.onnx"), SETTINGS),
        (MODEL.read_bytes(), SETTINGS),
        (one, SETTINGS),
        (other, SETTINGS),
        *(
            (MODEL, replace(SETTINGS, **changes))
            for changes in (
                {"target": load_target("tile16")},
                {"target": load_target(str(changed))},
                {"opt_level": 1},
                {"precision": "int16"},
                {"precision": "mixed"},
                {"precision": "mixed", "promoted": ["a"]},
                {"batch": 2},
                {"calibration": calibration()},
                {"calibration": calibration(1.0)},
                {"calibration": Path("examples/data/digits.calibration.npz")},
                {"calibration": Path("examples/data")},
                {"calibration_method": "min-max"},
                {"load_calibration": table},
                {"load_calibration": again},
                {"passes": api.parse_passes("fold-constants")},
                {"passes": api.parse_passes("pad-channels{multiple=16}")},
                {"passes": api.parse_passes("pad-channels{multiple=32}")},
                {"skipped": frozenset(["round-weights"])},
                {"allow_host": True},
            )
        ),
    ]
    entries = [folder.entry(source, settings) for source, settings in variants]
    monkeypatch.setattr(cache, "_own_sources", lambda: "other")
    entries.append(folder.entry(MODEL, SETTINGS))
    assert None not in entries
    tried = {
        name
        for _, settings in variants
        for name in vars(settings)
        if getattr(settings, name) != getattr(SETTINGS, name)
    }
    assert tried | set(cache.WATCHING) == set(vars(SETTINGS)), "every setting is tried"
    assert len(set(entries)) == len(variants) + 1


def test_what_does_not_change_the_program_does_not_name_another_entry(folder):
    entry = folder.entry(MODEL, SETTINGS)
    assert folder.entry(str(MODEL), replace(SETTINGS, verify_each=False, progress=lambda *_: None)) == entry
    assert folder.entry(MODEL.resolve(), SETTINGS) == entry


def test_what_no_hash_sees_into_is_compiled_every_time(folder):
    assert folder.entry(load_module(MODEL), SETTINGS) is None
    assert folder.entry(MODEL, replace(SETTINGS, passes=[OwnPass()])) is None
    assert folder.entry(MODEL, replace(SETTINGS, stop="quant")) is None
    assert folder.find(None) is None


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-9], lambda data: data[:900] + b"!" + data[901:]]
)
def test_a_damaged_entry_is_written_again(folder, damage):
    program = accelc.compile(MODEL, opt_level=0, cache_dir=folder.folder).compiled
    (entry,) = folder.folder.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert folder.find(entry) is None
    folder.keep(entry, program)
    assert entry.read_bytes() == whole
    assert [path.name for path in folder.folder.iterdir()] == [entry.name]


def test_two_processes_at_once_leave_one_whole_entry(tmp_path):
    line = [
        sys.executable,
        "-m",
        "accelc.compiler.cli",
        str(MODEL),
        "-O0",
        "--cache-dir",
        str(tmp_path / "cache"),
        "-o",
    ]
    running = [subprocess.Popen([*line, str(tmp_path / f"{n}.accel")], stderr=subprocess.DEVNULL) for n in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    (entry,) = (tmp_path / "cache").iterdir()
    assert {(tmp_path / f"{n}.accel").read_bytes() for n in range(2)} == {entry.read_bytes()}

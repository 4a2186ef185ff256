"""--cache-dir: an entry is what compiling would give, all it follows from is in its name, and damage is absence."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from models import graph_model
from onnx import helper, numpy_helper
from onnx.external_data_helper import set_external_data

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
                {"input_shapes": {"input": (1, 1, 8, 8)}},
                {"input_shapes": {"input": (2, 1, 8, 8)}},
                {"input_values": {"input": 1}},
                {"input_values": {"input": 1.0}},
                {"input_values": {"input": [1, 0]}},
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


def sparse_model(path: Path, fill: float) -> Path:
    """`x * w`, the values of the sparse `w` in another file."""
    model = product(path / "m.onnx", 1.0)
    (dense,) = model.graph.initializer
    values = numpy_helper.from_array(np.ones(3, np.float32), dense.name)
    places = numpy_helper.from_array(np.array([0, 5, 7], np.int64), "places")
    sparse = helper.make_sparse_tensor(values, places, [8])
    (path / "w.bin").write_bytes(np.full(3, fill, np.float32).tobytes())
    set_external_data(sparse.values, "w.bin")
    sparse.values.ClearField("raw_data")
    model.graph.sparse_initializer.append(sparse)
    del model.graph.initializer[:]
    onnx.save(model, path / "m.onnx")
    return path / "m.onnx"


def product(path: Path, fill: float) -> onnx.ModelProto:
    """`relu(x * w)`, small enough to be compiled often."""
    nodes = [helper.make_node("Mul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    model = graph_model(nodes, {"x": (1, 8), "w": np.full(8, fill, np.float32)}, ["y"])
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    return model


def test_external_data_of_sparse_tensors_names_another_entry(folder, tmp_path):
    one, other = sparse_model(tmp_path / "one", 0.5), sparse_model(tmp_path / "other", 0.25)
    assert one.read_bytes() == other.read_bytes()
    load_module(one)
    assert folder.entry(one, SETTINGS) != folder.entry(other, SETTINGS)


@pytest.mark.parametrize("name", ["m.air", "m.mlir", "m"])
def test_constants_beside_ir_text_name_another_entry(folder, tmp_path, name):
    source, text = tmp_path / "m.onnx", tmp_path / "ir" / name
    text.parent.mkdir()
    entries = []
    for fill in (0.5, 0.25):
        nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
        weights = np.linspace(0, fill, 4096, dtype=np.float32)
        onnx.save(graph_model(nodes, {"x": (1, 4096), "w": weights}, ["y"]), source)
        assert run_cli([str(source), "--emit=nn", "-o", str(text)]) == 0
        entries.append((text.read_bytes(), folder.entry(text, SETTINGS)))
    assert entries[0][0] == entries[1][0], "they differ in the constants only"
    assert text.with_suffix(".npz").is_file() and entries[0][1] is not None
    assert entries[0][1] != entries[1][1]


def test_what_runs_on_the_host_is_found_again(tmp_path, capsys):
    nodes = [helper.make_node("Atan", ["x"], ["a"]), helper.make_node("Mul", ["a", "w"], ["y"])]
    model = graph_model(nodes, {"x": (1, 8), "w": np.full(8, 0.5, np.float32)}, ["y"])
    path, samples, kept = tmp_path / "m.onnx", tmp_path / "s.npz", tmp_path / "cache"
    onnx.save(model, path)
    np.savez(samples, x=np.eye(8, dtype=np.float32), labels=np.arange(8))
    programs = [accelc.compile(path, "tile32", allow_host=True, cache_dir=kept) for _ in range(2)]
    assert programs[0].compiled.to_bytes() == programs[1].compiled.to_bytes()
    assert programs[1].reference is not None
    texts = []
    for _ in range(2):
        assert run_cli([str(path), "--allow-host", "--cache-dir", str(kept), "--evaluate", str(samples)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert len(list(kept.iterdir())) == 1


@pytest.mark.parametrize("changes", ["while searching", "while compiling"])
def test_a_model_that_changes_while_it_is_compiled_is_not_kept(tmp_path, monkeypatch, changes):
    path, other, kept = tmp_path / "m.onnx", tmp_path / "other.onnx", tmp_path / "cache"
    product(path, 0.5)
    product(other, 0.25)
    step = "explore" if changes == "while searching" else "compile_module"
    real = getattr(api, step)

    def slow(*arguments, **options):
        found = real(*arguments, **options)
        shutil.copy(other, path)
        return found

    samples = {"calibration": {"x": np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)}}
    arguments = {"precision": "mixed" if step == "explore" else "int8", "opt_level": 0, **samples}
    with monkeypatch.context() as patched:
        patched.setattr(api, step, slow)
        accelc.compile(path, cache_dir=kept, **arguments)
    assert not kept.exists()
    again = accelc.compile(path, cache_dir=kept, **arguments).compiled.constants
    np.testing.assert_array_equal(again, accelc.compile(path, **arguments).compiled.constants)
    assert len(list(kept.iterdir())) == 1


def test_a_model_that_changes_before_its_reference_is_read_is_compiled(tmp_path, monkeypatch):
    path, other, kept = tmp_path / "m.onnx", tmp_path / "other.onnx", tmp_path / "cache"
    product(other, 0.25)
    product(path, 0.5)
    accelc.compile(path, cache_dir=kept)
    real = Cache.find

    def late(*arguments):
        shutil.copy(other, path)
        return real(*arguments)

    monkeypatch.setattr(Cache, "find", late)
    program = accelc.compile(path, cache_dir=kept)
    assert program.compiled.to_bytes() == accelc.compile(path).compiled.to_bytes()
    assert len(list(kept.iterdir())) == 1


def test_a_program_that_cannot_be_kept_serves_all_the_same(tmp_path, capsys):
    path, out, kept = tmp_path / "m.onnx", tmp_path / "m.accel", tmp_path / "cache"
    product(path, 0.5)
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "cache"
    assert run_cli([str(path), "--cache-dir", str(below), "-o", str(out)]) == 0
    reason = "cannot be a cache folder: Not a directory"
    assert f"warning: the program is not kept: {below}: {reason}\n" in capsys.readouterr().err
    whole = out.read_bytes()
    assert run_cli([str(path), "--cache-dir", str(kept)]) == 0
    (entry,) = kept.iterdir()
    entry.unlink()
    entry.mkdir()
    with pytest.warns(UserWarning, match="the program is not kept: .*: cannot be written: Is a directory") as caught:
        program = accelc.compile(path, cache_dir=kept)
    assert program.compiled.to_bytes() == whole
    assert caught[0].filename == __file__


def test_an_entry_that_may_not_be_looked_at_counts_as_absent(folder, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    assert folder.find(folder.folder / "a.accel") is None


def test_wrong_calibration_is_refused_as_without_a_cache(tmp_path):
    path = tmp_path / "m.onnx"
    product(path, 0.5)
    days = np.zeros((2, 8), "M8[D]")
    for wrong in ({"x": np.zeros((2, 8), ml_dtypes.bfloat16)}, {"x": days}, 5, tmp_path / "absent.npz"):
        messages = []
        for kept in (None, tmp_path / "cache"):
            with pytest.raises(accelc.CompileError) as caught:
                accelc.compile(path, calibration=wrong, cache_dir=kept)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_the_folder_is_made_for_the_first_entry(tmp_path, capsys):
    path, kept = tmp_path / "m.onnx", tmp_path / "cache"
    product(path, 0.5)
    assert run_cli([str(path), "--cache-dir", str(kept), "--emit=nn"]) == 0
    assert run_cli([str(tmp_path / "absent.onnx"), "--cache-dir", str(kept)]) == 1
    (tmp_path / "damaged.onnx").write_bytes(path.read_bytes()[:-9])
    assert run_cli([str(tmp_path / "damaged.onnx"), "--cache-dir", str(kept)]) == 1
    assert not kept.exists()
    assert run_cli([str(path), "--cache-dir", str(kept)]) == 0
    assert kept.is_dir()


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

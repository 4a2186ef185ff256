"""Calibration that is saved and loaded: the same program without the samples, and every misfit is a located error."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import accelc
from accelc.compiler.cli import run_cli
from accelc.compiler.usage import CALIBRATION_METHODS
from accelc.dialects.core.diagnostics import CompileError
from accelc.passes.quantization.calibration_table import load_table
from accelc.passes.quantization.clipping import NAMED_METHODS, Method

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = EXAMPLES / "models" / "digits_depthwise.onnx"
DATA = EXAMPLES / "data" / "digits.calibration.npz"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "ranges.json"
    with np.load(DATA) as data:
        samples = data["input"][:64]
    accelc.compile(MODEL, opt_level=1, calibration={"input": samples}, save_calibration=path)
    return path


def constants_and_types(model: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert run_cli([str(model), "--emit=quant", "-O1", *options]) == 0
    return capsys.readouterr().out


def test_what_is_written_is_read_again(saved: Path, tmp_path: Path) -> None:
    table = load_table(saved)
    assert table.samples == 64
    assert "input" in table.tensors
    assert all(tensor.method in NAMED_METHODS for tensor in table.tensors.values())
    again = tmp_path / "again.json"
    table.save(again)
    assert again.read_bytes() == saved.read_bytes()


def test_loading_gives_the_ranges_without_samples(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file of the whole pipeline holds the factors of equalize-channels too."""
    table = load_table(saved)
    text = constants_and_types(MODEL, capsys, "--load-calibration", str(saved))
    for name, tensor in table.tensors.items():
        interval = tensor.range
        scale = np.float32((max(interval.high, 0.0) - min(interval.low, 0.0)) / 255)
        assert f"!quant.i8<{float(scale)!r}:" in text, name
    assert "no calibration data" not in capsys.readouterr().err


def test_another_method_takes_the_saved_histograms(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load = ("--load-calibration", str(saved))
    texts = {
        method: constants_and_types(MODEL, capsys, *load, "--calibration-method", method)
        for method in ("mse", "min-max")
    }
    assert texts["mse"] != texts["min-max"]
    limits = load_table(saved).tensors["input"].statistics.limits
    assert f"!quant.i8<{float(np.float32((limits.high - limits.low) / 255))!r}:" in texts["min-max"]


def test_loading_repeats_the_program(tmp_path: Path) -> None:
    """Without passes that look at samples themselves, the program is the same, byte for byte."""
    passes = "O0"
    with np.load(DATA) as data:
        samples = {"input": data["input"][:32]}
    path = tmp_path / "ranges.json"
    first = accelc.compile(MODEL, passes=passes, calibration=samples, save_calibration=path)
    again = accelc.compile(MODEL, passes=passes, load_calibration=path)
    assert np.array_equal(first.run(samples)["output"], again.run(samples)["output"])


def test_a_file_of_another_model_is_refused(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = EXAMPLES / "models" / "digits_cnn.onnx"
    assert run_cli([str(other), "--emit=quant", "-O0", "--load-calibration", str(saved)]) == 1
    error = capsys.readouterr().err
    assert "the calibration has no tensor '" in error and "calibrate this one again" in error


def changed(saved: Path, tmp_path: Path, change: Any) -> Path:
    data = json.loads(saved.read_text(encoding="utf-8"))
    change(data)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("'format' is 'x', expected one of accelc calibration 2", {"format": "x"}),
    ("'samples' is 0, expected an integer from 1", {"samples": 0}),
    ("unknown key 'more'", {"more": 1}),
    ("'factors' is [0.0], expected positive numbers", {"factors": [0.0]}),
    ("'tensors' is 1, expected an object", {"tensors": 1}),
]
TENSOR: list[tuple[str, dict[str, Any]]] = [
    ("'tensors.input.range' is [1.0, 0.0], expected two numbers", {"range": [1.0, 0.0]}),
    ("'tensors.input.range' is None, expected finite", {"range": None}),
    ("'tensors.input.radius' is 3.0, expected 0 or a power of two", {"radius": 3.0}),
    ("at least the magnitude of the limits", {"radius": 2.0**-20}),
    ("'tensors.input.counts' is [-1], expected a list", {"counts": [-1]}),
    ("expected at most 1 counts from bin 8191 on", {"first_bin": 8191, "counts": [1, 1]}),
    ("unknown key 'tensors.input.more'", {"more": 1}),
]


@pytest.mark.parametrize(("message", "change"), [*WHOLE, *TENSOR])
def test_a_changed_file_is_refused_and_says_where(
    saved: Path, tmp_path: Path, message: str, change: dict[str, Any]
) -> None:
    inside = (message, change) in TENSOR
    path = changed(saved, tmp_path, lambda data: (data["tensors"]["input"] if inside else data).update(change))
    with pytest.raises(CompileError) as caught:
        load_table(path)
    assert str(caught.value).startswith(f"error: {path}: ") and message in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"format": NaN}', "[" * 5000])
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CompileError, match=r"odd\.json"):
        load_table(path)


def test_factors_for_another_network_are_refused(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(saved, tmp_path, lambda data: data.update(factors=[2.0]))
    assert run_cli([str(MODEL), "--emit=quant", "-O1", "--load-calibration", str(path)]) == 1
    assert "the calibration has 1 channel factors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pass-pipeline=O0", "--calibration-method=mse"], "stands in --pass-pipeline"),
        (["--save-calibration=a", "--load-calibration=b"], "give one"),
        (["--save-calibration=a", "--emit=nn"], "stops before calibration"),
        (["--calibration-method=best"], "invalid choice: 'best'"),
    ],
)
def test_contradictions_are_wrong_usage(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli([str(MODEL), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing" / "ranges.json"
    assert run_cli([str(MODEL), "--emit=quant", "-O0", "--save-calibration", str(missing)]) == 1
    assert f"{missing}: cannot be written" in capsys.readouterr().err


def test_the_names_of_methods_are_told_once() -> None:
    assert ("auto", *NAMED_METHODS) == CALIBRATION_METHODS
    assert {method for method, _ in NAMED_METHODS.values()} == {*get_args(Method)} - {"auto"}
    with pytest.raises(CompileError, match="calibration_method is 'best', expected auto, min-max"):
        accelc.compile(MODEL, calibration_method="best")

"""`--accuracy-report`: the table, the same as data, and where there is nothing to measure."""

import json
from pathlib import Path

import pytest

import accelc
from accelc.compiler.cli import run_cli

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "examples/models/digits_cnn.onnx")
DATA = ("--calibration-data", str(ROOT / "examples/data/digits.calibration.npz"))
PARTS = ("weight_rounding", "activation_rounding", "clipping", "requantization", "interplay")


def test_the_table_and_the_data_say_the_same(tmp_path, capsys):
    path = tmp_path / "report.json"
    assert run_cli([MODEL, *DATA, "-O1", "--accuracy-report", "--report", "--report-json", str(path)]) == 0
    text = capsys.readouterr().out
    found = json.loads(path.read_text())["accuracy_report"]
    assert set(found) == {"samples", "error", "sqnr_db", "layers"}
    assert found["error"] > 0 and found["samples"] > 0
    assert f"SQNR {found['sqnr_db']:.1f} dB on {found['samples']} held-back samples" in text
    assert len(found["layers"]) == 7
    for layer in found["layers"]:
        assert set(layer) == {"name", "nodes", "share", *PARTS}
        assert layer["share"] == pytest.approx(sum(layer[part] for part in PARTS))
    shares = [layer["share"] for layer in found["layers"]]
    assert shares == sorted(shares, reverse=True)
    rows = text[text.index("where the accuracy went") :].splitlines()[2:9]
    assert [row.split()[-6] for row in rows] == [f"{100 * share:.1f}" for share in shares]
    assert rows[0].startswith(found["layers"][0]["nodes"][0])


def test_the_same_from_python():
    program = accelc.compile(MODEL, opt_level=0, calibration=DATA[1], calibration_method="mse", accuracy_report=True)
    assert program.losses is not None and len(program.losses["layers"]) == 7
    assert program.report()["accuracy_report"] == program.losses


def test_bfloat16_is_ranked_too(tmp_path):
    path = tmp_path / "report.json"
    command = [MODEL, *DATA, "--precision", "bf16", "--accuracy-report", "--report-json", str(path)]
    assert run_cli(command) == 0
    found = json.loads(path.read_text())["accuracy_report"]
    assert found["sqnr_db"] > 40 and len(found["layers"]) == 7
    for layer in found["layers"]:
        assert layer["clipping"] == layer["requantization"] == 0.0
        assert layer["share"] == pytest.approx(sum(layer[part] for part in PARTS))
    assert found["layers"][0]["share"] > 0.1


def test_samples_are_needed(capsys):
    assert run_cli([MODEL, "--accuracy-report"]) == 1
    message = f"error: {MODEL}: no calibration samples, which the accuracy report measures on"
    assert capsys.readouterr().err.startswith(message)


def test_a_pipeline_that_quantizes_nothing_is_refused(tmp_path, capsys):
    quantized = str(tmp_path / "quantized.air")
    assert run_cli([MODEL, *DATA, "--emit=quant", "-o", quantized]) == 0
    assert run_cli([quantized, *DATA, "--accuracy-report"]) == 1
    assert "nothing was quantized here" in capsys.readouterr().err


@pytest.mark.parametrize("stop", ["--emit=quant", "--emit=nn"])
def test_a_program_is_needed(stop, capsys):
    assert run_cli([MODEL, *DATA, "--accuracy-report", stop]) == 2
    assert "--accuracy-report needs" in capsys.readouterr().err

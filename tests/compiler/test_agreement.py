"""The comparison with onnxruntime: what it counts, on which model, and what it says where it cannot compare."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from static_quantization import calibration_of, statically_quantized

import accelc
from accelc.compiler import agreement as module
from accelc.compiler.cli import run_cli
from accelc.compiler.report_text import agreement_lines
from accelc.dialects.core.diagnostics import CompileError

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = EXAMPLES / "models/digits_cnn.onnx"
SAMPLES = EXAMPLES / "data/digits.calibration.npz"


@pytest.fixture(scope="module")
def quantized():
    return statically_quantized(MODEL, calibration_of(SAMPLES), "qdq")


def test_a_quantized_model_is_compared_tensor_by_tensor(quantized):
    program = accelc.compile(quantized)
    facts = program.compare_onnxruntime({"input": calibration_of(SAMPLES, 20)}, quantized)
    assert facts["samples"] == 20
    for word in ("disabled", "enabled"):
        assert sum(facts[word]["steps"].values()) == 20 * 10
        assert facts[word]["equal"] == facts[word]["steps"].get("0", 0) / 200
        assert facts[word]["flips"] == 0
    assert facts["tensors"] == sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node)
    assert facts["alone"]["share"] < 1e-4
    assert program.report()["onnxruntime"] == json.loads(json.dumps(facts))
    first, *_, last = agreement_lines(facts)
    assert first.startswith(f"onnxruntime {facts['version']}, optimisations disabled, 20 samples: ")
    assert last.startswith(("the first tensor that differs is", "0.0"))


def test_a_wrong_weight_is_found_where_it_is(quantized):
    """One weight of the third convolution is another than that of the program."""
    program = accelc.compile(quantized)
    changed = onnx.ModelProto()
    changed.CopyFrom(quantized)
    (weight,) = (t for t in changed.graph.initializer if t.name == "features.3.conv.weight_quantized")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0, 0] += np.int8(100 if array[0, 0] < 0 else -100)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    inputs = {"input": calibration_of(SAMPLES, 4)}
    good, bad = program.compare_onnxruntime(inputs, quantized), program.compare_onnxruntime(inputs, changed)
    assert bad["disabled"]["equal"] < good["disabled"]["equal"]


def test_a_float_model_is_compared_as_it_is_exported(tmp_path, capsys):
    report = tmp_path / "report.json"
    flags = ["--calibration-data", str(SAMPLES), "--compare-onnxruntime", str(SAMPLES), "--report-json", str(report)]
    assert run_cli([str(MODEL), *flags]) == 0
    facts = json.loads(report.read_text())["onnxruntime"]
    assert facts["disabled"]["equal"] > 0.95
    assert facts["disabled"]["largest"] <= 1
    assert "optimisations enabled" in capsys.readouterr().out


def test_errors_say_what_to_do(quantized, monkeypatch, tmp_path, capsys):
    program = accelc.compile(quantized)
    inputs = {"input": calibration_of(SAMPLES, 2)}
    with pytest.raises(CompileError, match="the model is not quantized, expected one with QuantizeLinear"):
        program.compare_onnxruntime(inputs, MODEL)
    broken = onnx.ModelProto()
    broken.CopyFrom(quantized)
    broken.ir_version = 10_000
    with pytest.raises(CompileError, match="onnxruntime does not run the quantized model: "):
        program.compare_onnxruntime(inputs, broken)

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(module, "import_module", absent)
    with pytest.raises(CompileError, match=r"needs onnxruntime, which is not installed; pip install"):
        program.compare_onnxruntime(inputs, quantized)
    program.save(tmp_path / "digits.accel")
    assert run_cli([str(tmp_path / "digits.accel"), "--compare-onnxruntime", str(SAMPLES)]) == 1
    assert "already compiled, --compare-onnxruntime cannot change it" in capsys.readouterr().err


def test_samples_that_do_not_fill_a_batch_are_compared_too():
    samples = {"x": np.arange(10.0).reshape(5, 2), "y": np.arange(5.0).reshape(5, 1)}
    first, second = module._runs(samples, {"x": 3, "y": 3})
    assert first["x"].tolist() == samples["x"][:3].tolist()
    assert second["x"][:, 0].tolist() == [6.0, 8.0, 8.0]
    assert second["y"][:, 0].tolist() == [3.0, 4.0, 4.0]

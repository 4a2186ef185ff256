"""Trained networks keep their accuracy in integers; figures are printed (pytest -s)."""

from pathlib import Path

import numpy as np
import pytest
from models import SHARED, shared_model

from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.types import Array
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.quantization.accuracy import Accuracy, accuracy
from accelc.passes.quantization.batching import batched
from accelc.passes.registry import PASSES

EXAMPLES = Path(__file__).parents[3] / "examples"
GRAPH = "canonicalize,fold-constants,propagate-layouts,canonicalize,fold-batch-norm,fuse-activations,fold-constants"


def outputs(module: Module, samples: Array) -> Array:
    wide = batched(module, len(samples))
    assert wide is not None
    (found,) = run(wide, {str(module.main.arguments[0].name): samples}).values()
    return found


def quantized_accuracy(model: Path, data: Path, count: int, options: str = "", passes: str = GRAPH) -> Accuracy:
    module = import_model(model)
    PassManager(parse_pipeline(passes, PASSES)).run(module)
    with np.load(f"{data}.test.npz") as test:
        samples, labels = test["input"][:count], test["labels"][:count]
    reference = outputs(module, samples)
    with np.load(f"{data}.calibration.npz") as calibration:
        environment = Environment(calibration=CalibrationData(dict(calibration)))
    PassManager(parse_pipeline(f"insert-quantization{options}", PASSES)).run(module, environment)
    facts = accuracy(reference, outputs(module, samples), labels)
    print(f"\n{model.stem}{options}: {facts}")
    return facts


@pytest.mark.parametrize("name", ["digits_cnn", "digits_depthwise", "digits_shufflenet"])
def test_digits_lose_less_than_a_point(name: str) -> None:
    facts = quantized_accuracy(EXAMPLES / "models" / f"{name}.onnx", EXAMPLES / "data" / "digits", 360)
    assert facts.samples == 360
    assert facts.program >= facts.float - 0.01
    assert facts.sqnr_db > 25.0


@pytest.mark.parametrize("options", ["{method=min-max}", "{method=percentile percentile=99.99}", ""])
def test_every_method_keeps_the_accuracy(options: str) -> None:
    facts = quantized_accuracy(EXAMPLES / "models" / "digits_cnn.onnx", EXAMPLES / "data" / "digits", 120, options)
    assert facts.flips <= 1
    assert facts.sqnr_db > 25.0


def test_an_unoptimised_graph_is_quantized_too() -> None:
    """Transposes around every node and batch normalisation left alone: slower, not wrong."""
    model = EXAMPLES / "models" / "digits_shufflenet.onnx"
    facts = quantized_accuracy(model, EXAMPLES / "data" / "digits", 60, passes="")
    assert facts.flips <= 1
    assert facts.sqnr_db > 25.0


@pytest.mark.parametrize(
    ("name", "data", "decibels"), [("resnet8_cifar10", "resnet8_cifar10", 22.0), ("kws_dscnn", "kws_dscnn", 22.0)]
)
def test_shared_networks_lose_less_than_a_point(name: str, data: str, decibels: float) -> None:
    facts = quantized_accuracy(shared_model(name), SHARED / "data" / data, 500)
    assert facts.flips <= 8
    assert facts.program >= facts.float - 0.01
    assert facts.sqnr_db > decibels

"""Rounding by second-order information on a trained network, judged on samples that no pass has seen."""

from pathlib import Path

import numpy as np

from accelc.compiler.importer import import_model
from accelc.dialects.core.operation import Constant, Module
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.quantization.lockstep import accumulator_scales, weighted_layers
from accelc.passes.quantization.measure import Fidelity
from accelc.passes.registry import PASSES
from accelc.passes.round_weights import RoundWeights

EXAMPLES = Path(__file__).parents[3] / "examples"
GRAPH = "canonicalize,fold-constants,propagate-layouts,canonicalize,fold-batch-norm,fuse-activations,fold-constants"


def quantized(name: str, precision: str = "int8") -> tuple[Module, Environment, Fidelity]:
    module = import_model(EXAMPLES / "models" / f"{name}.onnx")
    PassManager(parse_pipeline(GRAPH, PASSES)).run(module)
    with np.load(EXAMPLES / "data" / "digits.test.npz") as test:
        fidelity = Fidelity(module.clone(), CalibrationData({"input": test["input"][:100]}))
    with np.load(EXAMPLES / "data" / "digits.calibration.npz") as calibration:
        environment = Environment(calibration=CalibrationData(dict(calibration)), precision=precision)
    PassManager(parse_pipeline("insert-quantization", PASSES)).run(module, environment)
    return module, environment, fidelity


def test_weights_come_closer_to_the_float_network() -> None:
    module, environment, fidelity = quantized("digits_cnn")
    before = fidelity.error(module)
    RoundWeights(check=False).run(module, environment)
    assert fidelity.error(module) < 0.8 * before


def test_weights_of_8_bits_are_most_of_the_error_of_16_bit_activations() -> None:
    module, environment, fidelity = quantized("digits_cnn", "int16x8")
    before = fidelity.error(module)
    RoundWeights().run(module, environment)
    assert fidelity.error(module) < 0.5 * before


def test_weights_of_16_bits_stay() -> None:
    module, environment, _ = quantized("digits_cnn", "int16")
    before = {op: op.operands for op in module.main.body}
    remarks = len(environment.remarks)
    RoundWeights().run(module, environment)
    assert {op: op.operands for op in module.main.body} == before
    assert len(environment.remarks) == remarks


def test_no_partial_sum_leaves_int32_and_scales_stay_consistent() -> None:
    module, environment, _ = quantized("digits_depthwise")
    RoundWeights(check=False).run(module, environment)
    layers = weighted_layers(module, environment.baseline)
    assert len(layers) > 5
    for layer, source in layers.items():
        weight, real = layer.operands[1], source.operands[1]
        assert isinstance(weight, Constant)
        assert isinstance(real, Constant)
        bias = layer.bias.array.astype(np.int64) if isinstance(layer.bias, Constant) else 0
        sums = np.abs(weight.array.astype(np.int64)).reshape(-1, weight.array.shape[-1]).sum(axis=0)
        assert (np.abs(bias) + 256 * sums < 2**31).all()
        steps = accumulator_scales(layer) / layer.operands[0].type.element.scale
        # Making up for errors moves a weight by a step or two, clipping only the largest ones by more.
        moved = np.abs(weight.array - real.array / steps)
        assert np.median(moved) < 0.5
        assert np.quantile(moved, 0.98) < 4.0
        if isinstance(source.bias, Constant):
            found = bias * accumulator_scales(layer)
            np.testing.assert_allclose(found, source.bias.array, atol=float(accumulator_scales(layer).max()))


def test_the_report_says_what_was_gained() -> None:
    module, environment, _ = quantized("digits_cnn")
    RoundWeights().run(module, environment)
    remark = environment.remarks[-1]
    assert remark.kind == "applied"
    assert remark.data["error_after"] < remark.data["error_before"]
    assert remark.data["layers"] > 0

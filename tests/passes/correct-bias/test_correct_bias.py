"""Corrected biases make the average of the executed integers that of the float network."""

import numpy as np

from accelc.dialects.core.operation import Constant, Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.correct_bias import CorrectBias
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.insert_quantization import InsertQuantization
from accelc.passes.quantization.lockstep import accumulator_scales, requantization, walk, weighted_layers

NETWORK = """
const @a : tensor<3x3x2x8xf32> = dense<0.0>
const @b : tensor<3x3x1x8xf32> = dense<0.0>
const @c : tensor<8x4xf32> = dense<0.0>
func @main(%x: tensor<1x6x6x2xf32>) -> tensor<1x4xf32> {
  %0 = nn.conv2d %x, @a {pads = [1, 1, 1, 1], clamp_min = 0.0} : (tensor<1x6x6x2xf32>, tensor<3x3x2x8xf32>) -> tensor<1x6x6x8xf32>
  %1 = nn.conv2d %0, @b {groups = 8, clamp_min = 0.0, clamp_max = 6.0} : (tensor<1x6x6x8xf32>, tensor<3x3x1x8xf32>) -> tensor<1x4x4x8xf32>
  %2 = nn.reduce_mean %1 {axes = [1, 2], keepdims = false} : tensor<1x4x4x8xf32> -> tensor<1x8xf32>
  %3 = nn.matmul %2, @c : (tensor<1x8xf32>, tensor<8x4xf32>) -> tensor<1x4xf32>
  return %3 : tensor<1x4xf32> -> ()
}
"""  # noqa: E501


def quantized(samples: int) -> tuple[Module, Environment]:
    module = parse_module(NETWORK, CONTEXT)
    random = np.random.default_rng(0)
    for op in module.main.body:
        for index, value in enumerate(op.operands):
            if isinstance(value, Constant):
                # A few large weights make the others coarse.
                array = random.standard_normal(value.type.shape) * np.where(random.random(value.type.shape) < 0.1, 9, 1)
                op.set_operand(index, module.add_constant(str(value.name), array.astype(np.float32)))
    data = np.random.default_rng(1).standard_normal((samples, 6, 6, 2)).astype(np.float32)
    environment = Environment(calibration=CalibrationData({"x": data}))
    InsertQuantization().run(module, environment)
    return module, environment


def average_errors(module: Module, environment: Environment) -> list[float]:
    """Of every layer the largest average error of a channel, in steps of its result."""
    data = environment.baseline.calibration
    assert data is not None
    found: list[float] = []
    for visit in walk(module, environment.baseline, data):
        constants = [v.array for v in visit.layer.operands[1:] if isinstance(v, Constant)]
        ((inputs, expected),) = visit.pairs
        actual = visit.layer.evaluate(inputs, *constants) * accumulator_scales(visit.layer)
        error = (expected - actual).reshape(-1, actual.shape[-1]).mean(axis=0)
        found.append(float(np.abs(error).max() / requantization(visit.layer).out.type.element.scale))
    return found


def test_a_walk_visits_every_layer_with_what_both_sides_see() -> None:
    module, environment = quantized(40)
    layers = weighted_layers(module, environment.baseline)
    assert [op.name for op in layers] == ["nn.conv2d", "nn.conv2d", "nn.matmul"]
    data = environment.baseline.calibration
    assert data is not None
    visits = list(walk(module, environment.baseline, data))
    assert [visit.layer for visit in visits] == list(layers)
    first = visits[0].pairs[0]
    assert first[0].dtype == np.int8
    assert first[0].shape == (data.count, 6, 6, 2)
    assert first[1].min() < 0.0, "results are those before the clamp"


def test_averages_agree_afterwards() -> None:
    module, environment = quantized(40)
    before = average_errors(module, environment)
    CorrectBias(check=False).run(module, environment)
    after = average_errors(module, environment)
    # The last layer has no clamp: its average is exact up to half a step of its accumulators.
    assert before[-1] > 0.1
    assert after[-1] < 0.01


def test_corrections_that_do_not_help_are_taken_back() -> None:
    module, environment = quantized(40)
    CorrectBias(check=False).run(module, environment)
    kept = {op: op.operands for op in module.main.body}
    # Everything is corrected already, so that a second round has nothing to gain but rounding.
    environment.baseline.measured = environment.baseline.calibration
    CorrectBias().run(module, environment)
    remark = environment.remarks[-1]
    improved = remark.data["error_after"] < remark.data["error_before"]
    assert remark.kind == ("applied" if improved else "missed")
    assert ({op: op.operands for op in module.main.body} == kept) == (not improved)


def test_every_sample_alone_gives_the_same_as_all_at_once() -> None:
    module, environment = quantized(8)
    data = environment.baseline.calibration
    assert data is not None
    whole = [np.concatenate([pair[1] for pair in v.pairs]) for v in walk(module, environment.baseline, data)]
    for index in range(data.count):
        one = CalibrationData({name: array[index : index + 1] for name, array in data.samples.items()})
        for visit, expected in zip(walk(module, environment.baseline, one), whole, strict=True):
            np.testing.assert_allclose(visit.pairs[0][1], expected[index : index + 1], rtol=1e-4, atol=1e-5)

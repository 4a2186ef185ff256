"""Equalisation gives back what hostile channel scales take, and never changes what the float network computes."""

import numpy as np
import pytest
from models import SHARED, shared_model

from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.types import Array
from accelc.dialects.registry import CONTEXT
from accelc.passes.equalization.absorption import absorb_factors
from accelc.passes.equalization.classes import FIXED, ChannelClasses
from accelc.passes.equalize_channels import EqualizeChannels
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.insert_quantization import InsertQuantization
from accelc.passes.quantization.measure import Fidelity
from accelc.passes.registry import PASSES

GRAPH = "canonicalize,fold-constants,propagate-layouts,canonicalize,fold-batch-norm,fuse-activations,fold-constants"

NETWORK = """
const @stem : tensor<3x3x2x8xf32> = dense<0.0>
const @stem.bias : tensor<8xf32> = dense<0.0>
const @grouped : tensor<1x1x4x8xf32> = dense<0.0>
const @slopes : tensor<8xf32> = dense<[0.1, 0.2, 0.3, 0.4, 0.5, 0.1, 0.2, 0.3]>
const @depthwise : tensor<3x3x1x8xf32> = dense<0.0>
const @head : tensor<8x4xf32> = dense<0.0>
func @main(%x: tensor<1x8x8x2xf32>) -> tensor<1x4xf32> {
  %0 = nn.conv2d %x, @stem, @stem.bias {pads = [1, 1, 1, 1], clamp_min = 0.0} : (tensor<1x8x8x2xf32>, tensor<3x3x2x8xf32>, tensor<8xf32>) -> tensor<1x8x8x8xf32>
  %1 = nn.conv2d %0, @grouped {groups = 2} : (tensor<1x8x8x8xf32>, tensor<1x1x4x8xf32>) -> tensor<1x8x8x8xf32>
  %2 = nn.prelu %1, @slopes : (tensor<1x8x8x8xf32>, tensor<8xf32>) -> tensor<1x8x8x8xf32>
  %3 = nn.conv2d %2, @depthwise {pads = [1, 1, 1, 1], groups = 8, clamp_min = 0.0} : (tensor<1x8x8x8xf32>, tensor<3x3x1x8xf32>) -> tensor<1x8x8x8xf32>
  %4 = nn.add %3, %0 : (tensor<1x8x8x8xf32>, tensor<1x8x8x8xf32>) -> tensor<1x8x8x8xf32>
  %5 = nn.reduce_mean %4 {axes = [1, 2], keepdims = false} : tensor<1x8x8x8xf32> -> tensor<1x8xf32>
  %6 = nn.matmul %5, @head : (tensor<1x8xf32>, tensor<8x4xf32>) -> tensor<1x4xf32>
  return %6 : tensor<1x4xf32> -> ()
}
"""  # noqa: E501


def random_network() -> Module:
    module = parse_module(NETWORK, CONTEXT)
    random = np.random.default_rng(3)
    for op in module.main.body:
        for index, value in enumerate(op.operands):
            if value.name in ("stem", "stem.bias", "grouped", "depthwise", "head"):
                array = random.standard_normal(value.type.shape).astype(np.float32)
                op.set_operand(index, module.add_constant(str(value.name), array))
    module.drop_unused_constants()
    return module


def samples(count: int) -> CalibrationData:
    return CalibrationData({"x": np.random.default_rng(4).standard_normal((count, 8, 8, 2)).astype(np.float32)})


def output(module: Module) -> Array:
    (found,) = run(module, {"x": samples(1).samples["x"]}).values()
    return found


def hostile(module: Module) -> Module:
    """The same function with channels from 1/100 to 100 times as large, wherever factors may go."""
    scaled = module.clone()
    classes = ChannelClasses(scaled.main)
    factors = 10.0 ** np.random.default_rng(5).uniform(-2.0, 2.0, classes.count)
    factors[FIXED] = 1.0
    absorb_factors(scaled, classes, factors)
    return scaled


def test_any_factors_leave_the_function_as_it_is() -> None:
    module = random_network()
    scaled = hostile(module)
    assert not np.array_equal(scaled.constants["head.1.1"].array, module.constants["head.1"].array)
    np.testing.assert_allclose(output(scaled), output(module), rtol=1e-4)


def test_channels_of_a_sum_share_a_class_and_ends_are_fixed() -> None:
    module = random_network()
    classes = ChannelClasses(module.main)
    stem, grouped, prelu, depthwise, total, _, head, _ = module.main.body
    assert (
        classes.of(stem.result).tolist() == classes.of(depthwise.result).tolist() == classes.of(total.result).tolist()
    )
    assert len({*classes.of(stem.result).tolist(), *classes.of(grouped.result).tolist()}) == 16
    assert classes.of(prelu.result).tolist() == classes.of(grouped.result).tolist()
    assert set(classes.of(head.result).tolist()) == {FIXED}
    assert set(classes.of(module.main.arguments[0]).tolist()) == {FIXED}


def test_hostile_scales_are_undone() -> None:
    module = random_network()
    fidelity = Fidelity(module, samples(32))

    def error(network: Module, *, equalize: bool) -> float:
        quantized = network.clone()
        environment = Environment(calibration=samples(64))
        if equalize:
            EqualizeChannels().run(quantized, environment)
        InsertQuantization().run(quantized, environment)
        return fidelity.error(quantized)

    plain, bad = error(module, equalize=False), hostile(module)
    assert error(bad, equalize=False) > 30.0 * plain
    assert error(bad, equalize=True) < 2.0 * plain


def test_factors_that_do_not_help_are_not_kept() -> None:
    """Two channels of one size: whatever noise says about them, the network stays or gets better."""
    module = random_network()
    environment = Environment(calibration=samples(64))
    before = module.clone()
    EqualizeChannels().run(module, environment)
    (remark,) = environment.remarks
    kept = remark.data["error_after"] < remark.data["error_before"]
    assert remark.kind == ("applied" if kept else "missed")
    assert (set(before.constants) != set(module.constants)) == kept


@pytest.mark.parametrize(("name", "decibels"), [("shufflenetv2_cifar10_hardscale", 28.0)])
def test_the_network_with_hostile_scales(name: str, decibels: float) -> None:
    """Without equalisation it has 15 dB."""
    module = import_model(shared_model(name))
    PassManager(parse_pipeline(f"{GRAPH},rewrite-shuffles", PASSES)).run(module)
    with np.load(SHARED / "data" / "cifar10_jpg.test.npz") as test:
        fidelity = Fidelity(module.clone(), CalibrationData({"input": test["input"][:100]}))
    with np.load(SHARED / "data" / "cifar10_jpg.calibration.npz") as calibration:
        environment = Environment(calibration=CalibrationData(dict(calibration)))
    PassManager(parse_pipeline("equalize-channels,insert-quantization", PASSES)).run(module, environment)
    assert -10.0 * np.log10(fidelity.error(module)) > decibels


@pytest.mark.filterwarnings("error")
def test_a_network_that_overflows_is_left_to_the_error_of_insert_quantization():
    module = random_network()
    huge = CalibrationData({"x": np.full((8, 8, 8, 2), 3e38, np.float32)})
    before = {value.name: value.array for value in module.constants.values()}
    with np.errstate(over="ignore", invalid="ignore"):
        EqualizeChannels().run(module, Environment(calibration=huge))
    after = {value.name: value.array for value in module.constants.values()}
    assert list(after) == list(before)
    assert all(after[name] is array for name, array in before.items())

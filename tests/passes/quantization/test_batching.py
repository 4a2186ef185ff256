"""Several samples at once give what they give one by one, or are refused."""

from pathlib import Path

import numpy as np
import pytest
from models import shared_model

from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.verifier import verify
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.environment import Environment
from accelc.passes.insert_quantization import InsertQuantization
from accelc.passes.quantization.batching import batched

EXAMPLES = Path(__file__).parents[3] / "examples" / "models"

NETWORKS = ("resnet8_cifar10", "shufflenetv2_cifar10_bn", "shufflenetv1_cifar10_bn", "resnet20_cifar10_bn", "kws_dscnn")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_is_its_samples(name: str) -> None:
    module = import_model(shared_model(name))
    wide = batched(module, 3)
    assert wide is not None
    verify(wide)
    (argument,) = module.main.arguments
    samples = np.random.default_rng(0).standard_normal((3, *argument.type.shape[1:]), dtype=np.float32)
    (together,) = run(wide, {argument.name: samples}).values()
    for index in range(3):
        (alone,) = run(module, {argument.name: samples[index : index + 1]}).values()
        np.testing.assert_allclose(together[index : index + 1], alone, rtol=1e-3, atol=1e-4)


def test_integers_are_the_same_bit_for_bit() -> None:
    module = import_model(EXAMPLES / "digits_shufflenet.onnx")
    InsertQuantization().run(module, Environment())
    wide = batched(module, 5)
    assert wide is not None
    verify(wide)
    samples = np.random.default_rng(0).standard_normal((5, 1, 8, 8), dtype=np.float32)
    (together,) = run(wide, {"input": samples}).values()
    for index in range(5):
        (alone,) = run(module, {"input": samples[index : index + 1]}).values()
        np.testing.assert_array_equal(together[index : index + 1], alone)


STEPS = """
const @w : tensor<4x5xf32> = dense<0.3>
const @r : tensor<5x5xf32> = dense<0.2>
func @main(%x: tensor<1x3x4xf32>) -> tensor<1x5xf32> {
  %0 = nn.reshape %x {shape = [3, 4]} : tensor<1x3x4xf32> -> tensor<3x4xf32>
  %1 = nn.matmul %0, @w : (tensor<3x4xf32>, tensor<4x5xf32>) -> tensor<3x5xf32>
  %2 = nn.slice %1 {starts = [2, 0], stops = [3, 5], steps = [1, 1]} : tensor<3x5xf32> -> tensor<1x5xf32>
  %3 = nn.matmul %2, @r : (tensor<1x5xf32>, tensor<5x5xf32>) -> tensor<1x5xf32>
  %4 = nn.slice %1 {starts = [0, 0], stops = [3, 5], steps = [1, 1]} : tensor<3x5xf32> -> tensor<3x5xf32>
  %5 = nn.tanh %4 : tensor<3x5xf32> -> tensor<3x5xf32>
  %6 = nn.slice %5 {starts = [1, 0], stops = [2, 5], steps = [1, 1]} : tensor<3x5xf32> -> tensor<1x5xf32>
  %7 = nn.add %3, %6 : (tensor<1x5xf32>, tensor<1x5xf32>) -> tensor<1x5xf32>
  return %7 : tensor<1x5xf32> -> ()
}
"""


@pytest.mark.parametrize("integers", [False, True])
def test_rows_of_several_steps_stay_with_their_sample(integers: bool) -> None:
    module = parse_module(STEPS, CONTEXT)
    if integers:
        InsertQuantization().run(module, Environment())
    wide = batched(module, 4)
    assert wide is not None
    verify(wide)
    samples = np.random.default_rng(0).standard_normal((4, 3, 4), dtype=np.float32)
    (together,) = run(wide, {"x": samples}).values()
    for index in range(4):
        (alone,) = run(module, {"x": samples[index : index + 1]}).values()
        np.testing.assert_allclose(together[index : index + 1], alone, rtol=0 if integers else 1e-5)


REFUSED = {
    "joins samples with steps": ("nn.reshape %x {shape = [2, 2]}", "2x2"),
    "reduces over samples": ("nn.reduce_mean %x {axes = [0], keepdims = true}", "1x4"),
    "moves the sample axis": ("nn.transpose %x {permutation = [1, 0]}", "4x1"),
    "drops the sample axis": ("nn.reshape %x {shape = [4]}", "4"),
    "joins along samples": ("nn.concat %x, %x {axis = 0}", "2x4"),
    "softmax over samples": ("nn.softmax %x {axis = 0}", "1x4"),
    "pads samples": ("nn.pad %x {low = [1, 0], high = [0, 0]}", "2x4"),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_mixing_samples_is_refused(text: tuple[str, str]) -> None:
    operation, shape = text
    count = operation.count("%x")
    operands = ", ".join(["tensor<1x4xf32>"] * count)
    operands = f"({operands})" if count > 1 else operands
    module = parse_module(
        f"""func @main(%x: tensor<1x4xf32>) -> tensor<{shape}xf32> {{
          %0 = {operation} : {operands} -> tensor<{shape}xf32>
          return %0 : tensor<{shape}xf32> -> ()
        }}""",
        CONTEXT,
    )
    verify(module)
    assert batched(module, 2) is None


def test_broadcasting_over_a_missing_sample_axis_is_refused() -> None:
    module = parse_module(
        """func @main(%x: tensor<1x2xf32>, %y: tensor<1x2x2xf32>) -> tensor<1x2x2xf32> {
          %0 = nn.add %x, %y : (tensor<1x2xf32>, tensor<1x2x2xf32>) -> tensor<1x2x2xf32>
          return %0 : tensor<1x2x2xf32> -> ()
        }""",
        CONTEXT,
    )
    verify(module)
    assert batched(module, 2) is None


def test_a_fixed_batch_is_refused() -> None:
    module = parse_module(
        """func @main(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
          %0 = nn.relu %x : tensor<2x4xf32> -> tensor<2x4xf32>
          return %0 : tensor<2x4xf32> -> ()
        }""",
        CONTEXT,
    )
    assert batched(module, 4) is None

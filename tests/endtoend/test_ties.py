"""Values that lie halfway between two integers, which trained networks hardly ever meet, on every form of a program."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from endtoend.agreement import LEVELS, TARGETS, compile_forms, hazard_in, split_pipeline
from oracle.execution import execute

from accelc.backends.target import load_target
from accelc.dialects.core.operation import Operation
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.verifier import verify
from accelc.dialects.registry import CONTEXT

MODULE = """
const @weight : tensor<1x1x4x4xi8> = dense<[2, 0, 0, 1, 0, 2, 0, 1, 0, 0, 2, 1, 0, 0, 0, 1]>
const @taps : tensor<2x2x1x4xi8> = dense<[1, 1, 3, 2, 0, 1, 0, 1, 1, 0, 2, 5, 1, 1, 0, 1]>
const @quarter : tensor<1xf32> = dense<[0.25]>
const @halves : tensor<4xf32> = dense<[0.5, 0.25, 0.125, 0.5]>
func @main(%x: tensor<1x6x6x4xf32>) -> tensor<1x3x3x4xf32> {
  %0 = quant.quantize %x : tensor<1x6x6x4xf32> -> tensor<1x6x6x4x!quant.i8<0.5:3>>
  %1 = nn.conv2d %0, @weight : (tensor<1x6x6x4x!quant.i8<0.5:3>>, tensor<1x1x4x4xi8>) -> tensor<1x6x6x4xi32>
  %2 = quant.requantize %1, @quarter : (tensor<1x6x6x4xi32>, tensor<1xf32>) -> tensor<1x6x6x4x!quant.i8<1.0:-4>>
  %3 = nn.conv2d %2, @taps {pads = [0, 0, 1, 1], groups = 4} : \
(tensor<1x6x6x4x!quant.i8<1.0:-4>>, tensor<2x2x1x4xi8>) -> tensor<1x6x6x4xi32>
  %4 = quant.requantize %3, @halves : (tensor<1x6x6x4xi32>, tensor<4xf32>) -> tensor<1x6x6x4x!quant.i8<0.5:7>>
  %5 = nn.add %4, %0 : \
(tensor<1x6x6x4x!quant.i8<0.5:7>>, tensor<1x6x6x4x!quant.i8<0.5:3>>) -> tensor<1x6x6x4x!quant.i8<1.0:1>>
  %6 = nn.average_pool %5 {kernel = [2, 2], strides = [2, 2]} : \
tensor<1x6x6x4x!quant.i8<1.0:1>> -> tensor<1x3x3x4x!quant.i8<1.0:0>>
  %7 = quant.dequantize %6 : tensor<1x3x3x4x!quant.i8<1.0:0>> -> tensor<1x3x3x4xf32>
  return %7 : tensor<1x3x3x4xf32> -> ()
}
"""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("target", TARGETS)
def test_ties_go_to_even_in_every_form(target: str, level: str) -> None:
    module = parse_module(MODULE, CONTEXT)
    verify(module)
    x = np.random.default_rng(5).integers(-60, 60, (8, 6, 6, 4)).astype(np.float32) / 2
    expected = np.concatenate([execute(module, {"x": sample[None]})["output0"] for sample in x])
    _, passes = split_pipeline(level)
    compiled = compile_forms(module, passes, load_target(target))
    assert hazard_in(compiled.program) is None
    for name, execution in compiled.executions("x"):
        np.testing.assert_array_equal(execution(x)["output0"], expected, name)


def test_ties_are_frequent_here() -> None:
    """In accumulators, sums and averages a good part of the values lies halfway between two results."""
    module = parse_module(MODULE, CONTEXT)
    seen: dict[str, np.ndarray] = {}
    ties: Counter[str] = Counter()

    def observe(op: Operation, result: np.ndarray) -> None:
        seen[f"{op.name}{len(seen)}"] = result.astype(np.int64)

    execute(
        module, {"x": np.random.default_rng(5).integers(-60, 60, (1, 6, 6, 4)).astype(np.float32) / 2}, observer=observe
    )
    for name, values in seen.items():
        if name.startswith("nn.conv2d"):
            ties[name] = np.count_nonzero(values % 4 == 2)
        elif name.startswith("nn.add"):
            ties[name] = np.count_nonzero((values - 1).reshape(1, 3, 2, 3, 2, 4).sum(axis=(2, 4)) % 4 == 2)
    assert len(ties) == 3 and min(ties.values()) >= 5, ties

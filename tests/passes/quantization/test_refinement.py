"""What refinements share: where nothing can become better, nothing is tried."""

import numpy as np
import pytest

from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.printer import print_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.correct_bias import CorrectBias
from accelc.passes.framework.base import Pass
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.insert_quantization import InsertQuantization
from accelc.passes.quantization.calibration import calibrate
from accelc.passes.quantization.measure import Fidelity
from accelc.passes.quantization.network import FloatNetwork
from accelc.passes.quantization.range_search import choose_ranges
from accelc.passes.round_weights import RoundWeights


def classifier(scale: float) -> Module:
    """Logits `scale` apart, and a softmax."""
    noise = np.random.default_rng(0).standard_normal((4, 4))
    weight = (scale * np.eye(4) + 0.01 * noise).round(3).reshape(-1).tolist()
    return parse_module(
        f"""const @w : tensor<4x4xf32> = dense<{weight}>
        const @b : tensor<4xf32> = dense<[0.1, 0.2, 0.3, 0.4]>
        func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {{
          %0 = nn.matmul %x, @w, @b : (tensor<1x4xf32>, tensor<4x4xf32>, tensor<4xf32>) -> tensor<1x4xf32>
          %1 = nn.softmax %0 {{axis = 1}} : tensor<1x4xf32> -> tensor<1x4xf32>
          return %1 : tensor<1x4xf32> -> ()
        }}""",
        CONTEXT,
    )


DATA = CalibrationData({"x": np.tile(np.eye(4, dtype=np.float32), (16, 1))})


def test_ranges_of_a_network_without_error_are_not_searched() -> None:
    trials: list[int] = []
    for scale in (100.0, 3.0):
        module = classifier(scale)
        network = FloatNetwork(module)
        fidelity = Fidelity(module, DATA, recalls=True)
        choice = choose_ranges(network, calibrate(module, DATA, network.sources), DATA, fidelity)
        assert (choice.error == 0.0) == (scale == 100.0)
        trials.append(choice.trials)
    assert trials[0] == 1 and trials[1] > 6


@pytest.mark.parametrize("refinement", [CorrectBias(), RoundWeights()])
def test_a_network_without_error_is_left_as_it_is(refinement: Pass) -> None:
    module, environment = classifier(100.0), Environment(calibration=DATA)
    InsertQuantization().run(module, environment)
    before = print_module(module)
    refinement.run(module, environment)
    assert print_module(module) == before
    assert environment.remarks[-1].message.startswith("nothing is left to improve")

"""Method `auto`: readers decide first, executed integers in the end, outputs are never clipped."""

import numpy as np
import pytest

from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.insert_quantization import InsertQuantization
from accelc.passes.quantization import range_search
from accelc.passes.quantization.calibration import calibrate
from accelc.passes.quantization.clipping import NAMED_METHODS, range_method
from accelc.passes.quantization.consumers import consumer_errors
from accelc.passes.quantization.measure import Fidelity
from accelc.passes.quantization.network import FloatNetwork
from accelc.passes.quantization.range_search import Choice, choose_ranges
from accelc.passes.quantization.ranges import Range, activation_type

NETWORK = """const @w : tensor<8x4xf32> = dense<{weight}>
func @main(%x: tensor<1x8xf32>) -> tensor<1x4xf32> {{
  %0 = nn.mul %x, @scale : (tensor<1x8xf32>, tensor<8xf32>) -> tensor<1x8xf32> loc("scale")
  %1 = nn.matmul %0, @w : (tensor<1x8xf32>, tensor<8x4xf32>) -> tensor<1x4xf32> loc("product")
  return %1 : tensor<1x4xf32> -> ()
}}
const @scale : tensor<8xf32> = dense<[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]>"""


def network(first_row: float = 1.0) -> Module:
    rows = [first_row] * 4 + np.random.default_rng(5).standard_normal(28).round(3).tolist()
    return parse_module(NETWORK.format(weight=rows), CONTEXT)


def outliers(count: int = 64) -> CalibrationData:
    """Normal noise; the first of 8 channels now and then holds a value 500 times as large."""
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((count, 8)).astype(np.float32)
    rows[::8, 0] *= 500.0
    return CalibrationData({"x": rows})


def chosen(module: Module, data: CalibrationData) -> tuple[FloatNetwork, Choice]:
    float_network = FloatNetwork(module)
    statistics, fidelity = calibrate(module, data, float_network.sources), Fidelity(module, data, recalls=True)
    return float_network, choose_ranges(float_network, statistics, data, fidelity)


def test_channels_that_nothing_reads_may_be_clipped() -> None:
    """Weights of 0 make the outliers worthless, large weights make them the signal."""
    for weight, clipped in ((0.0, True), (1.0, False)):
        module, data = network(weight), outliers()
        float_network, choice = chosen(module, data)
        limits = calibrate(module, data, float_network.sources)[float_network.sources[1]].limits
        kept = choice.ranges[float_network.sources[1]].magnitude / limits.magnitude
        assert (kept < 0.2) == clipped
        assert (kept > 0.9) != clipped


def test_readers_feel_the_noise_of_rounding() -> None:
    module = network()
    float_network, data = FloatNetwork(module), CalibrationData({"x": np.ones((4, 8), np.float32)})
    root = float_network.groups.group(float_network.sources[1])
    coarse, fine = activation_type(Range(0.0, 255 * 0.7)), activation_type(Range(0.0, 1.0))
    errors = consumer_errors(float_network, {root: [coarse, fine]}, data)[root]
    # Every 1 becomes 0.7, so the product loses 30 % whatever the weights are.
    assert errors[0] == pytest.approx(0.3**2, rel=1e-5)
    assert errors[1] == pytest.approx(0.0, abs=1e-10)


@pytest.mark.filterwarnings("error")
def test_squares_beyond_float32_are_compared_too() -> None:
    module, large = network(), np.float32(3e19)
    float_network, data = FloatNetwork(module), CalibrationData({"x": np.full((4, 8), large)})
    root = float_network.groups.group(float_network.sources[1])
    coarse, fine = activation_type(Range(0.0, 255 * 0.7 * 3e19)), activation_type(Range(0.0, 3e19))
    errors = consumer_errors(float_network, {root: [coarse, fine]}, data)[root]
    assert errors[0] == pytest.approx(0.3**2, rel=1e-5)
    assert errors[1] == pytest.approx(0.0, abs=1e-10)


def test_the_result_is_at_least_as_good_as_every_method_alone() -> None:
    for seed in range(3):
        module, data = network(float(seed)), outliers(64)
        float_network, choice = chosen(module, data)
        statistics = calibrate(module, data, float_network.sources)
        fidelity = Fidelity(module, data)
        assert choice.error == fidelity.error(float_network.trial(choice.ranges))
        for method, percentile in NAMED_METHODS.values():
            ranges = {value: range_method(method, percentile)(seen) for value, seen in statistics.items()}
            ranges[float_network.sources[-1]] = statistics[float_network.sources[-1]].limits
            assert choice.error <= fidelity.error(float_network.trial(ranges))


def test_outputs_are_not_clipped() -> None:
    module, data = network(), outliers()
    float_network, choice = chosen(module, data)
    output = float_network.sources[-1]
    assert choice.names[output] == "min-max"
    assert choice.ranges[output] == calibrate(module, data, [output])[output].limits


def test_refinement_keeps_to_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_search, "FEWEST_TRIALS", 2)
    monkeypatch.setattr(range_search, "BUDGET_SECONDS", 0.0)
    monkeypatch.setattr(range_search, "WORTH_TRYING", np.inf)
    assert chosen(network(), outliers())[1].trials == 1 + len(NAMED_METHODS) + 2


def test_the_choice_is_the_same_every_time_and_is_told() -> None:
    texts: list[str] = []
    for _ in range(2):
        environment = Environment(calibration=outliers())
        InsertQuantization().run(network(), environment)
        (remark,) = [remark for remark in environment.remarks if remark.kind == "analysis"]
        texts.append(remark.message)
    assert texts[0] == texts[1]
    assert texts[0].startswith("ranges of 3 tensors: ") and "dB on 64 samples" in texts[0]


def test_held_back_samples_widen_the_ranges_in_the_end() -> None:
    """The output's type covers every sample that was given, whichever part of the data holds it."""
    for index in range(0, 64, 3):
        data = CalibrationData({"x": np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)})
        data.samples["x"][index] *= 50.0
        environment = Environment(calibration=data)
        InsertQuantization().run(network(), environment)
        assert environment.baseline.table is not None
        assert environment.baseline.measured is not None and environment.baseline.measured.count == 16
        (expected,) = run(network(), {"x": data.samples["x"][index : index + 1]}).values()
        output = environment.baseline.table.tensors["product"]
        assert output.range.low <= min(expected.min(), 0.0) and max(expected.max(), 0.0) <= output.range.high
        assert output.statistics.samples == 64

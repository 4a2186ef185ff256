"""The label-free measure: what it counts, what is held back for it."""

import numpy as np
import pytest

from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.insert_quantization import InsertQuantization
from accelc.passes.quantization.measure import Fidelity, expose_logits, held_back, judging


def scaled(factor: float, last: str = "") -> Module:
    result = "%1" if last else "%0"
    return parse_module(
        f"""const @factor : tensor<f32> = dense<{factor}>
        func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {{
          %0 = nn.mul %x, @factor : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xf32>
          {last}
          return {result} : tensor<1x4xf32> -> ()
        }}""",
        CONTEXT,
    )


SOFTMAX = "%1 = nn.softmax %0 {axis = 1} : tensor<1x4xf32> -> tensor<1x4xf32>"


def noise(count: int) -> CalibrationData:
    return CalibrationData({"x": np.random.default_rng(1).standard_normal((count, 4), dtype=np.float32)})


def test_the_error_is_noise_over_signal() -> None:
    fidelity = Fidelity(scaled(1.0), noise(90))
    assert fidelity.error(scaled(1.0)) == 0.0
    assert fidelity.error(scaled(1.25)) == pytest.approx(0.25**2)
    errors = fidelity.errors(scaled(0.5))
    assert errors.shape == (90,) and errors.mean() == pytest.approx(0.25) and errors.std() > 0.01


def test_what_is_far_off_is_not_measured_on_all_samples() -> None:
    fidelity = Fidelity(scaled(1.0), noise(90))
    whole = fidelity.errors(scaled(0.5))
    for limit in (2.0 * whole.mean(), np.nextafter(whole.mean(), 1.0)):
        assert np.array_equal(fidelity.errors(scaled(0.5), limit), whole), "below the limit nothing is left out"
    for limit, measured in ((0.9 * whole[:16].sum() / 90, 16), (0.999 * whole.mean(), 90)):
        early = fidelity.errors(scaled(0.5), limit)
        assert np.array_equal(early[:measured], whole[:measured]) and np.isinf(early[measured:]).all()
        assert fidelity.error(scaled(0.5), limit) >= limit


def test_a_silent_reference_divides_by_nothing() -> None:
    fidelity = Fidelity(scaled(0.0), noise(8))
    assert fidelity.error(scaled(0.0)) == 0.0
    assert 0.0 < fidelity.error(scaled(1.0)) < np.inf


def test_integers_are_measured_as_they_execute() -> None:
    data = noise(64)
    module = scaled(3.0)
    InsertQuantization(method="min-max").run(module, Environment(calibration=data))
    # The noise of rounding is 1 / 12 of the square of a step; three times a stored integer is the same integer.
    step = float(np.ptp(data.samples["x"])) / 255
    assert Fidelity(scaled(3.0), data).error(module) == pytest.approx(step**2 / 12, rel=0.2)


def test_passes_behind_quantization_find_what_to_compare_with() -> None:
    environment, module = Environment(calibration=noise(64)), scaled(3.0)
    assert environment.baseline.module is None
    InsertQuantization().run(module, environment)
    assert environment.baseline.module is not None and environment.baseline.measured is not None
    fidelity = Fidelity(environment.baseline.module, environment.baseline.measured)
    assert 0.0 < fidelity.error(module) < 1e-3 and fidelity.count == 16
    assert environment.baseline.calibration is not None and environment.baseline.calibration.count == 48


def test_a_softmax_counts_by_the_logarithms_of_what_it_can_show() -> None:
    data = noise(16)

    def logarithms(factor: float) -> np.ndarray:
        logits = data.samples["x"].astype(np.float64) * factor
        logarithms = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return np.maximum(logarithms, logarithms.max(axis=1, keepdims=True) + np.log(2.0**-9))

    real, found = logarithms(4.0), logarithms(4.4)
    expected = np.square(real - found).sum() / np.square(real).sum()
    assert Fidelity(scaled(4.0, SOFTMAX), data).error(scaled(4.4, SOFTMAX)) == pytest.approx(expected, rel=1e-5)


def test_a_softmax_that_is_sure_of_nothing_is_measured_too() -> None:
    """A thousand classes of about the same probability, each of them far below what 8 bits show of a sure softmax."""
    data = CalibrationData({"x": np.random.default_rng(3).standard_normal((8, 1000), dtype=np.float32)})

    def network(factor: float) -> Module:
        return parse_module(
            f"""const @factor : tensor<f32> = dense<{factor}>
            func @main(%x: tensor<1x1000xf32>) -> tensor<1x1000xf32> {{
              %0 = nn.mul %x, @factor : (tensor<1x1000xf32>, tensor<f32>) -> tensor<1x1000xf32>
              %1 = nn.softmax %0 {{axis = 1}} : tensor<1x1000xf32> -> tensor<1x1000xf32>
              return %1 : tensor<1x1000xf32> -> ()
            }}""",
            CONTEXT,
        )

    fidelity = Fidelity(network(0.3), data)
    assert fidelity.error(network(0.3)) == 0.0
    assert 0.0 < fidelity.error(network(0.31)) < fidelity.error(network(0.35))


def test_integers_below_a_softmax_count_by_their_logits() -> None:
    """Probabilities of 8 bits would be off by 1 / 1024 on average, their logarithms by far more."""
    data, module = noise(64), scaled(3.0, SOFTMAX)
    InsertQuantization(method="min-max").run(module, Environment(calibration=data))
    assert 0.0 < Fidelity(scaled(3.0, SOFTMAX), data).error(module) < 1e-4


def test_logits_are_what_the_softmax_reads() -> None:
    exposed = expose_logits(scaled(1.0, SOFTMAX))
    assert [op.name for op in exposed.main.body] == ["nn.mul", "return"]
    assert expose_logits(scaled(1.0)).main.body.terminator.name == "return"


@pytest.mark.parametrize(("count", "rest", "measured"), [(3, 3, 3), (12, 12, 8), (64, 48, 16), (1000, 888, 112)])
def test_some_samples_are_held_back(count: int, rest: int, measured: int) -> None:
    data = CalibrationData({"x": np.arange(4 * count, dtype=np.float32).reshape(count, 4)})
    calibration, measurement = held_back(scaled(1.0), data)
    assert (calibration.count, measurement.count) == (rest, measured)
    if rest < count:
        union = np.concatenate([calibration.samples["x"], measurement.samples["x"]])
        assert np.array_equal(np.sort(union[:, 0]), data.samples["x"][:, 0])


def test_others_than_those_held_back_judge_too() -> None:
    module, data = scaled(1.0), noise(64)
    fitted, held = held_back(module, data)
    together = judging(module, fitted, held)
    assert (held.count, together.count) == (16, 64), "a small network is measured on all there are"
    assert np.array_equal(together.samples["x"][:16], held.samples["x"])
    few, same = held_back(module, noise(8))
    assert judging(module, few, same) is same and judging(module, None, held) is held

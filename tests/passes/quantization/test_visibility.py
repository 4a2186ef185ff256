"""What readers see of a value: calibration gives no range to numbers that are all the same to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.nn.activation import HardSigmoidOp, HardSwishOp, ReluOp, SigmoidOp
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.environment import CalibrationData
from accelc.passes.quantization.calibration import calibrate
from accelc.passes.quantization.visibility import Visibility, flat_ends

F = "tensor<1x4xf32>"


def network(body: str, returned: str) -> Module:
    return parse_module(
        f"""const @minus : tensor<f32> = dense<-1.0>
        func @main(%x: {F}, %y: {F}) -> {F} {{
          %a = nn.mul %x, @minus : ({F}, tensor<f32>) -> {F}
          {body}
          return {returned} : {F} -> ()
        }}""",
        CONTEXT,
    )


def limits(module: Module, x: list[float], y: list[float]) -> tuple[float, float]:
    """Of `%a` = -x."""
    value = module.main.body.first.result
    samples = {"x": np.array([x], np.float32), "y": np.array([y], np.float32)}
    seen = calibrate(module, CalibrationData(samples), [value])[value].limits
    return seen.low, seen.high


SUM = f"%0 = nn.add %a, %y {{clamp_min = 0.0}} : ({F}, {F}) -> {F}"


def test_what_a_clamp_behind_a_sum_hides_takes_no_range() -> None:
    """-9 + 2 is as good as -2 + 2; 3 + 1 counts as it is, and so does -1 + 4."""
    assert limits(network(SUM, "%0"), [9.0, -3.0, 1.0, 0.0], [2.0, 1.0, 4.0, 0.0]) == (-2.0, 3.0)


def test_a_range_never_grows() -> None:
    """-1 - 5 is clamped: any number up to 5 would do, 0 is the nearest to 0."""
    assert limits(network(SUM, "%0"), [1.0, 0.0, 0.0, 0.0], [-5.0, 0.0, 0.0, 0.0]) == (0.0, 0.0)


@pytest.mark.parametrize("end", ["%a", "%1"])
def test_a_value_that_is_read_elsewhere_counts_as_it_is(end: str) -> None:
    body = f"{SUM}\n%1 = nn.add %0, %a : ({F}, {F}) -> {F}"
    assert limits(network(body, end), [9.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0])[0] == -9.0


def test_a_function_hides_what_it_makes_all_the_same_of() -> None:
    moved = f"%0 = nn.reshape %a {{shape = [1, 4]}} : {F} -> {F}\n%1 = nn.hard_swish %0 : {F} -> {F}"
    assert limits(network(moved, "%1"), [9.0, 1.0, -8.0, 0.0], [0.0] * 4) == (-3.0, 8.0)
    both = f"%0 = nn.relu %a : {F} -> {F}\n%1 = nn.hard_swish %a : {F} -> {F}\n%2 = nn.add %0, %1 : ({F}, {F}) -> {F}"
    assert limits(network(both, "%2"), [9.0, 1.0, -8.0, 0.0], [0.0] * 4) == (-3.0, 8.0)
    assert limits(network(f"%0 = nn.tanh %a : {F} -> {F}", "%a"), [9.0] * 4, [0.0] * 4) == (-9.0, -9.0)


@given(st.lists(st.floats(-8, 8, width=16), min_size=8, max_size=8), st.sampled_from(["nn.add", "nn.sub"]))
@settings(max_examples=60, deadline=None)
def test_what_is_shown_of_both_operands_gives_the_same_result(numbers: list[float], operation: str) -> None:
    module = parse_module(
        f"""func @main(%x: {F}, %y: {F}) -> {F} {{
          %0 = {operation} %x, %y {{clamp_min = -1.0, clamp_max = 2.5}} : ({F}, {F}) -> {F}
          return %0 : {F} -> ()
        }}""",
        CONTEXT,
    )
    x, y = np.array([numbers[:4]], np.float32), np.array([numbers[4:]], np.float32)
    expected = run(module, {"x": x, "y": y})
    shown: dict[object, np.ndarray] = {}
    visibility = Visibility(module.main.arguments)
    for value, array in (*zip(module.main.arguments, (x, y), strict=True), (module.main.returns[0], np.zeros(4))):
        visibility.show(value, array, shown.__setitem__)
    counted = [shown[argument].astype(np.float32) for argument in module.main.arguments]
    assert all((np.abs(new) <= np.abs(old) + 1e-6).all() for new, old in zip(counted, (x, y), strict=True))
    found = run(module, dict(zip("xy", counted, strict=True)))
    np.testing.assert_allclose(next(iter(found.values())), next(iter(expected.values())), atol=1e-5)


def test_where_functions_are_flat() -> None:
    assert flat_ends(ReluOp.formula) == (0.0, np.inf)
    assert flat_ends(HardSwishOp.formula) == (-3.0, np.inf)
    assert flat_ends(lambda x: HardSigmoidOp.formula(x, alpha=0.2, beta=0.5)) == (-2.5, 2.5)
    assert flat_ends(np.exp) == flat_ends(np.abs) == (-np.inf, np.inf)
    assert flat_ends(np.zeros_like) == (0.0, 0.0)
    low, high = flat_ends(SigmoidOp.formula)
    assert -low == high and 12.0 < high < 13.0, "1 / (1 + e^12.7) is 2^-18"

"""Joint rounding of weights: better where inputs are alike, the same where they are not, exact algebra."""

import itertools

import numpy as np
import pytest

from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.quantization.patches import input_rows
from accelc.passes.quantization.rounding import (
    BLOCK,
    Moments,
    clip_scales,
    in_steps,
    joint_parts,
    nearest,
    round_jointly,
)
from accelc.passes.round_weights import best_rounding


def cost(steps: np.ndarray, stored: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    errors = steps - stored
    return np.einsum("kc,kl,lc->c", errors, hessian, errors)


def moments(length: int, alike: float, seed: int = 0) -> np.ndarray:
    """Of inputs that share a part of `alike` standard deviations."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((4 * length, length)) + alike * random.standard_normal((4 * length, 1))
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("length", [1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_inputs_that_are_alike_let_errors_cancel(length: int) -> None:
    steps = np.random.default_rng(1).uniform(-100, 100, (length, 16))
    hessian = moments(length, alike=3.0)
    stored = round_jointly(steps, Moments.of(hessian))
    assert np.array_equal(stored, np.rint(stored))
    assert np.abs(stored).max() <= 127
    apart, jointly = (cost(steps, each, hessian).sum() for each in (nearest(steps), stored))
    assert jointly <= apart * (1.001 if length < 5 else 0.8)


def test_uncorrelated_inputs_round_to_the_nearest() -> None:
    steps = np.random.default_rng(2).uniform(-100, 100, (50, 4))
    assert np.array_equal(round_jointly(steps, Moments.of(np.diag(np.arange(1.0, 51.0)))), nearest(steps))


def test_blocks_do_the_same_as_one_weight_after_the_other() -> None:
    """The definition in float64: condition on the errors so far, in the order of falling importance."""
    length = BLOCK + 20
    steps = np.random.default_rng(3).uniform(-100, 100, (length, 3))
    hessian = moments(length, alike=1.0)
    damped = hessian + 0.01 * np.diagonal(hessian).mean() * np.eye(length)
    left = list(np.argsort(np.diagonal(hessian)))
    stored, wanted = np.zeros_like(steps), steps.copy()
    while left:
        index = left.pop()
        stored[index] = nearest(wanted[index])
        if left:
            # The best continuous change of what is left makes up for this error (Frantar et al., equation 2).
            gain = np.linalg.solve(damped[np.ix_(left, left)], damped[left, index])
            wanted[left] += np.outer(gain, wanted[index] - stored[index])
    assert (stored != round_jointly(steps, Moments.of(hessian))).mean() < 0.02, "but for ties within float32"


def test_joint_rounding_is_close_to_the_best_of_all_roundings() -> None:
    hessian = moments(6, alike=1.0)
    steps = np.random.default_rng(4).uniform(-50, 50, (6, 1))
    corners = [np.floor(steps) + np.reshape(corner, (6, 1)) for corner in itertools.product((0.0, 1.0), repeat=6)]
    best = min(float(cost(steps, corner, hessian)[0]) for corner in corners)
    assert float(cost(steps, round_jointly(steps, Moments.of(hessian)), hessian)[0]) <= 2.0 * best


def test_inputs_that_never_occur_do_no_harm() -> None:
    hessian = moments(8, alike=1.0)
    hessian[3], hessian[:, 3] = 0.0, 0.0
    steps = np.random.default_rng(5).uniform(-50, 50, (8, 2))
    assert np.array_equal(round_jointly(steps, Moments.of(hessian))[3], nearest(steps)[3])
    assert np.array_equal(round_jointly(steps, Moments.of(np.zeros((8, 8)))), nearest(steps))


def test_clipping_takes_an_outlier_only_where_it_pays() -> None:
    random = np.random.default_rng(6)
    weights = np.column_stack([random.standard_normal(4000) * 0.1, random.uniform(-1.0, 1.0, 4000)])
    weights[0] = (0.6, 1.0)
    scales = np.abs(weights).max(axis=0) / 127
    clipped = clip_scales(weights, scales, np.ones(4000))
    assert clipped[0] < scales[0], "one large weight makes thousands coarse"
    assert clipped[1] == scales[1], "clipping uniform weights costs more than it gains"
    important = np.where(np.arange(4000) == 0, 1e6, 1.0)
    assert clip_scales(weights, scales, important)[0] == scales[0], "an input that matters must not be clipped"


def test_long_reductions_are_cut_between_input_channels() -> None:
    assert [part.tolist() for part in joint_parts(9, 3)] == [list(range(27))]
    parts = joint_parts(9, 512)
    assert sorted(np.concatenate(parts).tolist()) == list(range(9 * 512))
    assert [len(part) for part in parts] == [9 * n for n in (171, 171, 170)]
    assert set(parts[1] % 512) == set(range(171, 342)), "all taps of a channel stay together"
    assert [len(part) for part in joint_parts(5000, 1)] == [5000], "one channel cannot be cut"


CONV = """
const @weight : tensor<3x2x4x6xi8> = dense<1>
func @main(%x: tensor<2x7x6x8x!quant.i8<0.5:3>>) -> tensor<2x4x2x6xi32> {
  %0 = nn.conv2d %x, @weight {groups = 2, strides = [2, 3], pads = [1, 2, 1, 0], dilations = [1, 2]} : (tensor<2x7x6x8x!quant.i8<0.5:3>>, tensor<3x2x4x6xi8>) -> tensor<2x4x2x6xi32>
  return %0 : tensor<2x4x2x6xi32> -> ()
}
"""  # noqa: E501


def test_rows_times_weights_are_the_accumulators() -> None:
    module = parse_module(CONV, CONTEXT)
    layer = module.main.body.first
    random = np.random.default_rng(7)
    data = random.integers(-128, 128, (2, 7, 6, 8)).astype(np.int8)
    weight = random.integers(-127, 128, (3, 2, 4, 6)).astype(np.int8)
    expected = layer.evaluate(data, weight)
    rows = input_rows(layer, data, 1000)
    columns = weight.reshape(-1, 2, 3).transpose(1, 0, 2)
    assert np.array_equal(np.concatenate(list(rows @ columns), axis=-1), expected.reshape(-1, 6))
    few = input_rows(layer, data, 5)
    assert few.shape == (2, 5, 24)
    assert np.array_equal(few, input_rows(layer, data, 5))
    assert all((rows[0] == row).all(axis=1).any() for row in few[0])


@pytest.mark.filterwarnings("error")
def test_weights_far_beyond_their_scale_overflow_nothing() -> None:
    """Float32 squares end at 1.8e19 steps; such a channel keeps its scale, and the others get theirs."""
    weights = np.random.default_rng(3).standard_normal((64, 4))
    weights[0] *= 4
    scales, importance = np.abs(weights).max(axis=0) / 127, np.full(64, 255.0**2)
    usual = clip_scales(weights, scales, importance)
    weights[:, 1] *= 1e30
    weights[:, 2] *= 1e300
    found = clip_scales(weights, np.where(np.arange(4) == 2, 1e-300, scales), importance)
    np.testing.assert_array_equal(found, [usual[0], scales[1], 1e-300, usual[3]])
    assert np.isfinite(round_jointly(in_steps(weights, scales), Moments.of(np.eye(64)))).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [2.0**90, 2.0**-90])
def test_errors_are_compared_alike_at_all_magnitudes(size: float) -> None:
    random = np.random.default_rng(4)
    reals, seen = random.standard_normal((48, 8)), random.integers(0, 255, (512, 48)).astype(np.float32)
    scales = np.abs(reals).max(axis=0) / 127
    stored, parts = nearest(reals / scales), [np.arange(48)]
    usual, _ = best_rounding(stored, scales, reals, seen, seen, parts)
    found, _ = best_rounding(stored, scales * size, reals * size, seen, seen, parts)
    assert (usual != stored).any()
    np.testing.assert_array_equal(found, usual)

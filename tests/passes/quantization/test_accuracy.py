"""The figures that compare a program with the float model."""

import math

import numpy as np
import pytest

from accelc.passes.quantization.accuracy import accuracy, paired_interval, sqnr_db


def test_accuracy_counts_hits_and_flips() -> None:
    reference = np.eye(4, dtype=np.float32)
    outputs = reference[[0, 1, 3, 2]]
    facts = accuracy(reference, outputs, np.array([0, 1, 2, 0]))
    assert (facts.float, facts.program, facts.samples, facts.flips) == (0.75, 0.5, 4, 2)
    assert facts.low < -0.25 < facts.high


def test_equal_outputs_differ_by_nothing() -> None:
    outputs = np.random.default_rng(0).standard_normal((8, 1, 3))
    facts = accuracy(outputs, outputs, np.zeros((8, 1), np.int64))
    assert facts.flips == 0
    assert facts.sqnr_db == math.inf
    assert facts.low == pytest.approx(-0.325, abs=0.001) and facts.high == pytest.approx(0.325, abs=0.001)


def test_sqnr_is_in_decibels() -> None:
    signal = np.full(100, 10.0, np.float32)
    assert sqnr_db(signal, signal + np.float32(1.0)) == pytest.approx(20.0)
    assert sqnr_db(np.zeros(3), np.ones(3)) == -math.inf


def test_misfitting_arrays_are_refused() -> None:
    outputs = np.zeros((2, 3))
    with pytest.raises(ValueError, match="expected equal sample counts"):
        accuracy(outputs, outputs, np.zeros(3))
    with pytest.raises(ValueError, match="expected one a sample"):
        accuracy(outputs, outputs, np.zeros((2, 2)))


def pairs(gained: int, lost: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.ones(count, bool), np.ones(count, bool)
    before[:gained] = False
    after[gained : gained + lost] = False
    return before, after


@pytest.mark.parametrize(("gained", "lost", "count"), [(1, 0, 44), (9, 2, 80), (3, 7, 500), (0, 5, 60)])
def test_at_both_ends_the_score_test_is_undecided(gained: int, lost: int, count: int) -> None:
    """The likeliest share of lost samples under each difference is searched for on a grid, not computed."""
    for end, sign in zip(paired_interval(*pairs(gained, lost, count)), (1.0, -1.0), strict=True):
        shares = np.linspace(max(0.0, -end), (1.0 - end) / 2.0, 2_000_001)[1:-1]
        chances = (shares + end, shares, 1.0 - end - 2.0 * shares)
        terms = zip((gained, lost, count - gained - lost), chances, strict=True)
        share = shares[np.argmax(sum(n * np.log(chance) for n, chance in terms if n))]
        score = (gained - lost - count * end) / math.sqrt(count * (2.0 * share + end - end**2))
        assert score == pytest.approx(1.96 * sign, abs=2e-3)


def test_the_paired_interval_is_antisymmetric_and_shrinks_with_samples() -> None:
    low, high = paired_interval(*pairs(7, 3, 500))
    assert paired_interval(*pairs(3, 7, 500)) == pytest.approx((-high, -low))
    narrow = paired_interval(*pairs(70, 30, 5000))
    assert low < narrow[0] < 0.008 < narrow[1] < high
    # With many samples it is the normal approximation of McNemar.
    margin = 1.96 * math.sqrt((100 - 40**2 / 5000) / 5000**2)
    assert narrow == pytest.approx((0.008 - margin, 0.008 + margin), abs=3e-4)
    assert paired_interval(*pairs(0, 0, 2000)) == pytest.approx((-0.0019, 0.0019), abs=1e-4)

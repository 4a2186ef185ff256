"""The figures that compare a program with the float model."""

import math

import numpy as np
import pytest

from accelc.passes.quantization.accuracy import accuracy, sqnr_db


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
    assert facts.low == facts.high == 0.0


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

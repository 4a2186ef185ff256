"""How far a program's outputs are from the float model's: top-1, label flips, signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...dialects.core.types import Array

NORMAL_95 = 1.959964
"""The standard normal quantile of 97.5 %."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Facts about two sets of outputs for the same samples.

    `float` and `program` are top-1 shares (0 to 1) against the labels; `flips` counts samples whose top-1 class differs
    between the two; `sqnr_db` is the signal-to-quantization-noise ratio of the outputs in decibels (infinite if equal);
    `low` and `high` bound program - float: a 95 % interval for paired samples.
    """

    float: float
    program: float
    samples: int
    flips: int
    sqnr_db: float
    low: float
    high: float


def accuracy(reference: Array, outputs: Array, labels: Array) -> Accuracy:
    """Compare float outputs and program outputs, both [samples, ..., classes], with integer `labels` [samples].

    ValueError if the shapes do not fit together or there are no samples.
    """
    if reference.shape != outputs.shape or len(reference) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"outputs {reference.shape} and {outputs.shape} with {len(labels)} labels, expected equal sample counts"
        )
    expected = labels.reshape(len(labels), -1)
    if expected.shape[1] != 1:
        raise ValueError(f"labels have shape {labels.shape}, expected one a sample")
    before, after = top1(reference), top1(outputs)
    right_before, right_after = before == expected[:, 0], after == expected[:, 0]
    low, high = paired_interval(right_before, right_after)
    return Accuracy(
        float=float(right_before.mean()),
        program=float(right_after.mean()),
        samples=len(labels),
        flips=int((before != after).sum()),
        sqnr_db=sqnr_db(reference, outputs),
        low=low,
        high=high,
    )


def paired_interval(before: Array, after: Array) -> tuple[float, float]:
    """A 95 % score interval for the change of the share of hits, from bool arrays [samples] of the same samples.

    All differences d that a score test does not refuse: |b - c - n d| <= z sqrt(n (2 q + d (1 - d))), with b samples
    gained and c lost of n, and q the most likely share of lost ones if the difference is d, that is the positive root
    of 2 n q^2 + (-b - c + (2 n - b + c) d) q - c d (1 - d) = 0. It has a width even where nothing differs. (T. Tango,
    "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17, 1998.)
    """
    count = len(before)
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())

    def score(difference: float) -> float:
        linear = -gained - lost + (2 * count - gained + lost) * difference
        constant = -lost * difference * (1.0 - difference)
        share = (math.sqrt(max(linear * linear - 8 * count * constant, 0.0)) - linear) / (4 * count)
        variance = count * (2.0 * share + difference * (1.0 - difference))
        return (gained - lost - count * difference) / math.sqrt(max(variance, 1e-12))

    estimate = (gained - lost) / count
    return _crossing(score, NORMAL_95, -1.0, estimate), _crossing(score, -NORMAL_95, estimate, 1.0)


def _crossing(score: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where the falling function `score` passes `wanted` between `low` and `high`, to 2^-50."""
    for _ in range(52):
        middle = (low + high) / 2.0
        low, high = (middle, high) if score(middle) > wanted else (low, middle)
    return (low + high) / 2.0


def top1(outputs: Array) -> Array:
    """The index of the largest element of every sample, [samples]; the first one where several are equal."""
    return outputs.reshape(len(outputs), -1).argmax(axis=1)


def sqnr_db(reference: Array, outputs: Array) -> float:
    """10 log10(sum reference^2 / sum (reference - outputs)^2) over all elements; infinite if they are equal."""
    signal = np.square(reference, dtype=np.float64).sum()
    noise = np.square(np.subtract(reference, outputs, dtype=np.float64)).sum()
    if noise == 0.0:
        return math.inf
    return float(10.0 * np.log10(signal / noise)) if signal else -math.inf

"""How far a program's outputs are from the float model's: top-1, label flips, signal-to-noise ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...dialects.core.types import Array


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
    difference = right_after.astype(np.float64) - right_before
    # The normal approximation of a paired difference of shares (McNemar).
    margin = 1.96 * float(difference.std()) / math.sqrt(len(labels))
    mean = float(difference.mean())
    return Accuracy(
        float=float(right_before.mean()),
        program=float(right_after.mean()),
        samples=len(labels),
        flips=int((before != after).sum()),
        sqnr_db=sqnr_db(reference, outputs),
        low=mean - margin,
        high=mean + margin,
    )


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

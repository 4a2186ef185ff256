"""Intervals for figures that depend on two draws at once: of the samples calibrated on, and of those tested on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

NORMAL_95 = 1.959964
"""The standard normal quantile of 97.5 %."""


class Estimate(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def crossed(values: np.ndarray) -> Estimate:
    """The mean of `values` [draws, samples] over all draws and all samples, both taken as random.

    Every draw is tested on the same samples, so values of one draw go together and so do values of one sample:
    v = mean + draw + sample + rest, three independent random parts. With the mean squares of the two-way analysis of
    variance the variance of the mean is (MS_draws + max(MS_samples - MS_rest, 0)) / (draws * samples), and the interval
    is Student's with (MS_draws + max(MS_samples - MS_rest, 0))^2 / (MS_draws^2 / (draws - 1)) degrees of freedom: the
    analysis of several readers of the same cases (Dorfman, Berbaum and Metz, "Receiver operating characteristic rating
    analysis", Investigative Radiology 27, 1992) with the degrees of freedom of Hillis ("A comparison of denominator
    degrees of freedom methods for multiple observer ROC analysis", Statistics in Medicine 26, 2007), applied to the
    difference of two methods.
    """
    draws, samples = values.shape
    if draws < 2 or samples < 2:
        raise ValueError(f"{draws} draws and {samples} samples, expected at least two of each")
    mean, rows, columns = values.mean(), values.mean(axis=1), values.mean(axis=0)
    rest = values - rows[:, None] - columns + mean
    of_draws = samples * np.square(rows - mean).sum() / (draws - 1)
    of_samples = draws * np.square(columns - mean).sum() / (samples - 1)
    of_rest = np.square(rest).sum() / ((draws - 1) * (samples - 1))
    spread = of_draws + max(of_samples - of_rest, 0.0)
    freedom = spread**2 * (draws - 1) / of_draws**2 if of_draws else math.inf
    half = student_95(freedom) * math.sqrt(spread / (draws * samples))
    return Estimate(float(mean), float(mean - half), float(mean + half))


def student_95(freedom: float) -> float:
    """The 97.5 % quantile of Student's distribution, to 1 % from 2 degrees of freedom on.

    The expansion around the normal quantile in Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5.
    """
    z = NORMAL_95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def decibels(signal: float, noise: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratios whose mean over the samples is that of each draw, [draws, samples].

    `noise` is the power of the error of every draw and sample, `signal` the mean power of the reference. The ratio of a
    draw is not a mean over its samples, so each sample stands with what it adds to first order (the delta method).
    """
    totals = noise.mean(axis=1, keepdims=True)
    return 10.0 * np.log10(signal / totals) + 10.0 / math.log(10.0) * (1.0 - noise / totals)

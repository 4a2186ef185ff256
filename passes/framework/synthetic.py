"""Made-up samples, for ranges and comparisons where nobody gave any."""

from __future__ import annotations

import numpy as np

from ...dialects.core.operation import Function
from ...dialects.core.types import Array
from .environment import CalibrationData

SYNTHETIC_ELEMENTS = 1 << 18
"""Input numbers that make the ranges of synthetic calibration steady: two images of 224x224x3, 64 small ones."""
MOST_SAMPLES = 64
"""However small they are."""


def synthetic_samples(function: Function, count: int, seed: int) -> CalibrationData:
    """`count` samples for every argument of `function`, from `seed`: standard normal numbers; 0 and 1 for integers.

    Integers are indices and flags that the host reads: these are the ones that hardly any network refuses.
    """
    generator = np.random.default_rng(seed)
    samples: dict[str, Array] = {}
    for argument in function.arguments:
        shape, dtype = (count, *argument.type.shape), argument.type.element.dtype
        if dtype == np.float32:
            samples[str(argument.name)] = generator.standard_normal(shape, dtype=np.float32)
        else:
            samples[str(argument.name)] = generator.integers(0, 2, shape).astype(dtype)
    return CalibrationData(samples)


def synthetic_count(function: Function) -> int:
    """How many synthetic samples are enough: about `SYNTHETIC_ELEMENTS` numbers in all, 2 to 64 samples."""
    elements = sum(argument.type.size for argument in function.arguments)
    return min(max(SYNTHETIC_ELEMENTS // max(elements, 1), 2), MOST_SAMPLES)

"""`--evaluate`: the program against the float model on labelled samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backends.simulator.threads import in_threads
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.interpreter import run
from ..dialects.core.operation import Module
from ..dialects.core.types import Array
from ..passes.framework.environment import Progress, silent_progress
from ..passes.quantization.accuracy import accuracy, top1
from ..passes.quantization.batching import batched

Outputs = dict[str, Array]

LARGEST_BATCH = 32
"""Samples the float model takes at once, where it can."""


def run_float(
    module: Module, samples: Mapping[str, Array], *, jobs: int = 1, progress: Progress = silent_progress
) -> Outputs:
    """Interpret a float module on checked samples (first axis: samples); the outputs of all samples, joined.

    Several samples run at once where every operation keeps them apart, else as many as the model takes; `jobs` such
    batches run side by side, in threads.
    """
    main = module.main
    own = {str(a.name): a.type.shape[0] if a.type.rank else 1 for a in main.arguments}
    name, rows = next(iter(own.items()))
    runs = len(samples[name]) // rows
    size = min(LARGEST_BATCH, runs)
    wide = batched(module, size) if size > 1 else None
    whole = runs // size * size if wide is not None else 0
    starts = [(start, size) for start in range(0, whole, size)] + [(start, 1) for start in range(whole, runs)]

    def work(_: int, part: tuple[int, int]) -> Outputs:
        start, count = part
        taken = {n: samples[n][start * r : (start + count) * r] for n, r in own.items()}
        with np.errstate(all="ignore"):
            return run(wide if wide is not None and count > 1 else module, taken)

    parts: list[Outputs] = []
    with progress("running the float model", runs) as advance:
        for (_, count), part in zip(starts, in_threads(work, starts, jobs), strict=True):
            parts.append(part)
            advance(count)
    return {output: np.concatenate([np.atleast_1d(part[output]) for part in parts]) for output in parts[0]}


def compare(outputs: Mapping[str, Array], reference: Mapping[str, Array] | None, labels: Array) -> dict[str, Any]:
    """Top-1 and differences between float model and program, as in the report's key `accuracy`.

    Keys: `float` and `program` (top-1 shares), `samples`, `flips` (samples whose top-1 class differs), `sqnr_db` (of
    the first output; None where both are equal), `low` and `high` (95 % interval of program - float, paired). Without a
    reference all but `program` and `samples` are None. Raises CompileError if the first output is no row a sample.
    """
    name, integer = next(iter(outputs.items()))
    if len(integer) != len(labels):
        raise CompileError(f"output '{name}' has {len(integer)} rows for {len(labels)} labels, expected one a sample")
    if reference is None:
        right = float((top1(integer) == labels).mean())
        nothing = dict.fromkeys(("flips", "sqnr_db", "low", "high"))
        return {"float": None, "program": right, "samples": len(labels), **nothing}
    facts = accuracy(reference[name], integer, labels)
    return {
        "float": facts.float,
        "program": facts.program,
        "samples": facts.samples,
        "flips": facts.flips,
        "sqnr_db": facts.sqnr_db if math.isfinite(facts.sqnr_db) else None,
        "low": facts.low,
        "high": facts.high,
    }

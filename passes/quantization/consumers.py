"""The error that a candidate type for a tensor makes at the results of the operations that read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...dialects.core.interpreter import last_uses, run
from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import Array
from ...dialects.quant.types import QuantizedType
from ..framework.environment import CalibrationData
from .grouping import MOVING
from .network import FloatNetwork
from .sampling import Run, Samples, runs

Candidates = Mapping[Value[Any], Sequence[QuantizedType]]
"""The types to compare for each group of values, by its representative."""


def consumer_errors(network: FloatNetwork, candidates: Candidates, data: CalibrationData) -> dict[Value[Any], Array]:
    """For every group of values the error of each of its candidate types, float64 [candidates].

    One operation that reads the group at a time is computed in float from values rounded and clipped to the type, all
    else being real; the error is the noise of the result over its signal, summed over these operations. So channels
    count by the weights that read them. Operations that only move values are looked through; a value that is returned
    counts by itself. Of all values only those that are still to be read are in memory.
    """
    errors = {root: np.zeros(len(types)) for root, types in candidates.items()}
    for each in runs(network.module, Samples(network.module.main, data)):
        _add_run(network, each, candidates, errors)
    return errors


def _add_run(network: FloatNetwork, executed: Run, candidates: Candidates, errors: dict[Value[Any], Array]) -> None:
    main, original = executed.module.main, network.module.main
    twins = dict(zip(main.body, original.body, strict=True))
    inside = set(network.operations)
    known: dict[Value[Any], Any] = {argument: executed.inputs[str(argument.name)] for argument in main.arguments}
    final = last_uses(main)

    def compare(op: Operation, result: Any) -> None:
        twin = twins[op]
        arguments = [v.array if isinstance(v, Constant) else known[v] for v in op.operands]
        if twin in inside and not isinstance(op, MOVING):
            reads = [None if isinstance(v, Constant) else network.groups.group(v) for v in twin.operands]
            for root in dict.fromkeys(root for root in reads if root in candidates):
                assert root is not None
                signal = _power(result) or 1.0
                for index, type in enumerate(candidates[root]):
                    rounded = [_rounded(a, type) if r is root else a for a, r in zip(arguments, reads, strict=True)]
                    errors[root][index] += _power(op.evaluate(*rounded) - result) / signal

    def observe(op: Operation, results: tuple[Any, ...]) -> None:
        compare(op, results[0])
        known.update(zip(op.results, results, strict=True))
        for value in final.get(op, ()):
            known.pop(value, None)

    with np.errstate(all="ignore"):
        found = run(executed.module, executed.inputs, observer=observe)
    for value, array in zip(original.returns, found.values(), strict=True):
        root = network.groups.group(network.integer_value(value))
        for index, type in enumerate(candidates.get(root, ())):
            errors[root][index] += _power(_rounded(array, type) - array) / (_power(array) or 1.0)


def _rounded(array: Array, type: QuantizedType) -> Array:
    return type.dequantize(type.quantize(array))


def _power(array: Array) -> float:
    """The sum of squares, by BLAS in the precision of the array, as a few digits are enough to choose; else float64."""
    flat = array.reshape(-1)
    with np.errstate(over="ignore"):
        total = float(np.dot(flat, flat))
    return total if np.isfinite(total) else float(np.square(flat, dtype=np.float64).sum())

"""Calibration method `auto`: chooses the range of every tensor by measuring, without labels, what integers compute.

Candidates are the ranges of all other methods, group by group of values that share a type. First each group takes the
candidate that disturbs its readers least (`consumer_errors`, in float, all groups at once). Then whole networks are
executed in integers and measured (`Fidelity`): this choice, and each method for all groups. The best one is refined:
group by group, those whose readers suffer most first, other candidates are tried and kept where the executed network
gets better, as long as the budget lasts. Outputs are never clipped: a largest logit that is cut off may tie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.operation import Value
from ...dialects.core.types import TensorType
from ...dialects.quant.types import QuantizedType
from ..framework.environment import Advance, CalibrationData, Progress, silent_progress
from .clipping import NAMED_METHODS, range_method
from .consumers import consumer_errors
from .measure import Fidelity
from .network import FloatNetwork
from .ranges import Range
from .statistics import TensorStatistics

UNCLIPPED = "min-max"
"""What outputs take."""

MAC_SECONDS, ELEMENT_SECONDS = 4e-11, 2e-8
"""Estimated cost of executing integers on one core, for a budget that is the same on every machine: measured 25 to
35 GMAC/s and 15 to 20 ns for each number that is accumulated and requantized (AVX2, OpenBLAS, one thread)."""

BUDGET_SECONDS, FEWEST_TRIALS = 3.0, 6
"""Refinement may cost this many estimated seconds, but at least this many trials."""

MOST_ASKED = 32
"""Samples from which it is known what readers suffer: that only says what to try, and in which order."""

WORTH_TRYING = 4.0
"""A candidate is tried if its readers suffer at most this many times as much as with the best one."""

GAIN = 1e-3
"""A candidate is kept if it lowers the measured error by at least this share: less is chance."""


@dataclass
class Choice:
    """The range of every source, the candidate it comes from, and the measured error of the network."""

    ranges: dict[Value[Any], Range]
    names: dict[Value[Any], str]
    error: float
    trials: int = 0


@dataclass
class _Group:
    """Sources that share a type: the distinct candidate types by name, and what their readers suffer from each.

    `alias` leads from the name of every candidate to that of the first one with the same type.
    """

    sources: list[Value[Any]] = field(default_factory=list[Value[Any]])
    types: dict[str, QuantizedType] = field(default_factory=dict[str, QuantizedType])
    alias: dict[str, str] = field(default_factory=dict[str, str])
    errors: dict[str, float] = field(default_factory=dict[str, float])


def choose_ranges(
    network: FloatNetwork,
    statistics: Mapping[Value[Any], TensorStatistics],
    measured: CalibrationData,
    fidelity: Fidelity,
    *,
    progress: Progress = silent_progress,
) -> Choice:
    """The ranges for all sources of `network`, by executing it on the samples of `fidelity`, which is of its module.

    What readers suffer comes from up to MOST_ASKED of the samples `measured`, spread evenly over them.
    """
    table = {
        name: {source: range_method(method, percentile)(statistics[source]) for source in network.sources}
        for name, (method, percentile) in NAMED_METHODS.items()
    }
    groups = _grouped(network, table)
    limit = _trial_limit(network, fidelity.count)
    with progress("choosing ranges", len(NAMED_METHODS) + 2 + limit) as advance:
        candidates = {root: tuple(group.types.values()) for root, group in groups.items()}
        for root, errors in consumer_errors(network, candidates, _spread(measured, MOST_ASKED)).items():
            groups[root].errors = dict(zip(groups[root].types, errors.tolist(), strict=True))
        advance(1)
        search = _Search(network, groups, table, fidelity)
        search.start(advance)
        search.refine(limit, advance)
    return Choice(search.ranges(search.chosen), search.source_names(), search.error, search.trials)


class _Search:
    def __init__(
        self,
        network: FloatNetwork,
        groups: Mapping[Value[Any], _Group],
        table: Mapping[str, Mapping[Value[Any], Range]],
        fidelity: Fidelity,
    ) -> None:
        self.network, self.groups, self.table, self.fidelity = network, groups, table, fidelity
        self.chosen: dict[Value[Any], str] = {}
        self.error = float("inf")
        self.trials = 0
        self.problem: CompileError | None = None

    def start(self, advance: Advance) -> None:
        """Take the best of: every group's own best, and each method for all groups that may choose."""
        self._try({root: min(group.errors, key=group.errors.__getitem__) for root, group in self.groups.items()})
        advance(1)
        for name in NAMED_METHODS:
            if self.error > 0.0:
                self._try({root: group.alias[name] for root, group in self.groups.items()})
            advance(1)
        if not self.chosen and self.problem is not None:
            raise self.problem

    def refine(self, limit: int, advance: Advance) -> None:
        """Try other candidates group by group, as often as `limit` says."""
        worst_first = sorted(self.groups.items(), key=lambda item: -min(item[1].errors.values()))
        for root, group in worst_first:
            ranked = sorted(group.errors, key=group.errors.__getitem__)
            for name in ranked:
                if limit <= 0 or self.error == 0.0:
                    return
                if name == self.chosen[root] or group.errors[name] > WORTH_TRYING * group.errors[ranked[0]]:
                    continue
                self._try({**self.chosen, root: name}, GAIN)
                limit -= 1
                advance(1)

    def ranges(self, chosen: Mapping[Value[Any], str]) -> dict[Value[Any], Range]:
        """The range of every source under a choice for every group."""
        items = self.groups.items()
        return {source: self.table[chosen[root]][source] for root, group in items for source in group.sources}

    def source_names(self) -> dict[Value[Any], str]:
        """What every source has taken."""
        return {source: self.chosen[root] for root, group in self.groups.items() for source in group.sources}

    def _try(self, chosen: dict[Value[Any], str], gain: float = 0.0) -> None:
        self.trials += 1
        try:
            error = self.fidelity.error(self.network.trial(self.ranges(chosen)), self.error * (1.0 - gain))
        except CompileError as problem:
            # Constants may have no integers at some scales; other candidates may do.
            self.problem = problem
            return
        if not self.chosen or error < self.error * (1.0 - gain):
            self.chosen, self.error = chosen, error
            self.fidelity.keep()


def _spread(data: CalibrationData, most: int) -> CalibrationData:
    """At most so many of the samples, spread evenly over all."""
    chosen = np.arange(min(most, data.count)) * data.count // min(most, data.count)
    return CalibrationData({name: array[chosen] for name, array in data.samples.items()})


def _grouped(network: FloatNetwork, table: Mapping[str, Mapping[Value[Any], Range]]) -> dict[Value[Any], _Group]:
    """The sources by group, each with the candidates that give it different types."""
    groups: dict[Value[Any], _Group] = {}
    for source in network.sources:
        groups.setdefault(network.groups.group(source), _Group()).sources.append(source)
    outputs = {network.groups.group(network.integer_value(value)) for value in network.module.main.returns}
    types = {name: network.types(ranges) for name, ranges in table.items()}
    for root, group in groups.items():
        for name in NAMED_METHODS:
            wanted = UNCLIPPED if root in outputs else name
            type = types[wanted][root]
            group.alias[name] = next((other for other, known in group.types.items() if known == type), wanted)
            group.types.setdefault(group.alias[name], type)
    return groups


def _trial_limit(network: FloatNetwork, samples: int) -> int:
    macs = sum(getattr(op, "macs_total", 0) for op in network.operations)
    elements = sum(op.result.type.size for op in network.operations if isinstance(op.result.type, TensorType))
    seconds = samples * (macs * MAC_SECONDS + elements * ELEMENT_SECONDS)
    return max(int(BUDGET_SECONDS / max(seconds, 1e-9)), FEWEST_TRIALS)

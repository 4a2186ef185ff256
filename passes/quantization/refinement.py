"""What all passes share that improve an integer network by looking at the float network it was made from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ...dialects.core.operation import Module, Operation, Value
from ...dialects.core.types import I32, I64
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.matmul import MatmulOp
from ..framework.base import Pass, at_least
from ..framework.environment import Baseline, CalibrationData, Environment
from .lockstep import Visit, walk, walk_capacity, weighted_layers
from .measure import Fidelity, decibels, judging
from .repetition import is_repeated


@dataclass(frozen=True)
class LayerRefinement(Pass):
    """A pass that changes weights or biases layer by layer, from front to back on executed integers.

    The steps of a recurrent layer keep the weights and biases that they share, which are then loaded once.
    With `check` everything is taken back unless the network comes closer to the float network. `samples` limits how
    many others than held-back ones it looks at. Without calibration data nothing happens, unless `noise` is set: then
    the noise that insert-quantization made up counts.
    """

    title: ClassVar[str]

    samples: int = at_least(1, 64)
    check: bool = True
    noise: bool = False

    def run(self, module: Module, environment: Environment) -> None:
        refinement = Refinement.begin(self.name, module, environment, noise=self.noise, check=self.check)
        if refinement is None:
            return
        data, fitted = self.seen(refinement)
        changed: list[int] = []
        with environment.progress(self.title, len(weighted_layers(module, environment.baseline))) as advance:
            for visit in walk(module, environment.baseline, data):
                changed.append(0 if is_repeated(visit.source) else self.change(module, visit, fitted))
                advance(1)
        layers = sum(map(bool, changed))
        if layers:
            message = self.summary(sum(changed), f"{layers} layer{'s' if layers != 1 else ''}")
            refinement.finish(message, channels=sum(changed), layers=layers)

    def seen(self, refinement: Refinement) -> tuple[CalibrationData, int]:
        """The samples of the walk, and how many of them, from the first on, may decide about numbers."""
        data = refinement.samples(self.samples)
        return data, data.count

    def change(self, module: Module, visit: Visit, fitted: int) -> int:
        """Replace constants of one layer; returns how many of its channels have changed."""
        raise NotImplementedError(type(self).__name__)

    def summary(self, channels: int, layers: str) -> str:
        """What was done, for a remark."""
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True)
class Judge:
    """What refinements of one module measure with, and the error when its operations had these operands.

    `insert-quantization` leaves one that has not measured the module yet.
    """

    fidelity: Fidelity
    operands: dict[Operation, tuple[Value[Any], ...]] = field(default_factory=dict[Operation, tuple[Value[Any], ...]])
    error: float = math.inf

    @classmethod
    def of(cls, module: Module, baseline: Baseline) -> Judge:
        """That of the refinement before, as far as it still holds."""
        assert baseline.module is not None and baseline.measured is not None
        known, operands = baseline.judge, _operands(module)
        if isinstance(known, Judge) and known.operands == operands:
            return known
        judges = judging(baseline.module, baseline.calibration, baseline.measured)
        fidelity = known.fidelity if isinstance(known, Judge) else Fidelity(baseline.module, judges)
        return cls(fidelity, operands, fidelity.error(module))


@dataclass
class Refinement:
    """One attempt to bring integers closer to the float network: begin, change constant operands, finish.

    `finish` takes everything back if the network is not closer than it was at `begin`, on the samples of `judging`.
    """

    pass_name: str
    module: Module
    environment: Environment
    operands: dict[Operation, tuple[Value[Any], ...]]
    fidelity: Fidelity | None
    error: float

    @classmethod
    def begin(
        cls, pass_name: str, module: Module, environment: Environment, *, noise: bool, check: bool
    ) -> Refinement | None:
        """The state before; None if there is nothing to refine, or neither calibration data nor the wish to use noise.

        What a model brings quantized is not refined, nor is a network without an error. Raises a CompileError at the
        first integer layer if insert-quantization did not run in this pipeline.
        """
        products = [op for op in module.main.body if isinstance(op, (Conv2dOp, MatmulOp))]
        layers = [op for op in products if op.out.type.element in (I32, I64)]
        if not layers:
            return None
        baseline = environment.baseline
        if not baseline.is_known:
            message = f"the float network it stands for is not known, expected insert-quantization before {pass_name}"
            raise layers[0].error(message, notes=("run both in one pipeline",))
        if baseline.module is None or baseline.measured is None or (environment.calibration is None and not noise):
            return None
        if not check:
            return cls(pass_name, module, environment, _operands(module), None, math.inf)
        judge = Judge.of(module, baseline)
        baseline.judge = judge
        if judge.error == 0.0:
            message = "nothing is left to improve: on the samples that judge it the network is exact"
            environment.remark(pass_name, "missed", message, error_before=0.0)
            return None
        return cls(pass_name, module, environment, judge.operands, judge.fidelity, judge.error)

    def samples(self, limit: int) -> CalibrationData:
        """At most `limit` of the samples that decide about numbers, and as many as fit the memory of a walk."""
        data = self.environment.baseline.calibration
        assert data is not None
        return CalibrationData(
            {name: array[: min(limit, walk_capacity(self.module))] for name, array in data.samples.items()}
        )

    def fitted_and_held(self, limit: int) -> tuple[CalibrationData, int]:
        """Samples for one walk: so many, given second, that decide about numbers, at most `limit`; then held-back ones.

        As many as fit the memory of a walk, of which held-back ones are a quarter at most.
        """
        held = self.environment.baseline.measured
        assert held is not None
        room = walk_capacity(self.module)
        judged = min(held.count, max(room // 4, 1))
        fitted = self.samples(min(limit, max(room - judged, 1)))
        samples = {name: np.concatenate([array, held.samples[name][:judged]]) for name, array in fitted.samples.items()}
        return CalibrationData(samples), fitted.count

    def finish(self, message: str, **facts: Any) -> bool:
        """Keep the changes or take them back, and remark `message`; True if they are kept."""
        remark = self.environment.remark
        if self.fidelity is None:
            self.module.drop_unused_constants()
            remark(self.pass_name, "applied", message, **facts)
            return True
        after = self.fidelity.error(self.module)
        facts |= {"error_before": self.error, "error_after": after}
        ratios = f"SQNR {decibels(self.error):.1f} dB before, {decibels(after):.1f} dB after"
        kept = after < self.error
        if not kept:
            for op, operands in self.operands.items():
                if op.operands != operands:
                    op.set_operands(operands)
        else:
            self.environment.baseline.judge = Judge(self.fidelity, _operands(self.module), after)
        self.module.drop_unused_constants()
        text = message if kept else f"took back what did not help ({message})"
        remark(self.pass_name, "applied" if kept else "missed", f"{text}: {ratios}", **facts)
        return kept


def _operands(module: Module) -> dict[Operation, tuple[Value[Any], ...]]:
    return {op: op.operands for op in module.main.body}

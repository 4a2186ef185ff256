"""What all passes share that improve an integer network by looking at the float network it was made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...dialects.core.operation import Module, Operation, Value
from ...dialects.core.types import I32, I64
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.matmul import MatmulOp
from ..framework.environment import CalibrationData, Environment
from .lockstep import walk_capacity
from .measure import Fidelity, decibels


@dataclass
class Refinement:
    """One attempt to bring integers closer to the float network: begin, change constant operands, finish.

    `finish` takes everything back if the network is not closer than it was at `begin`, on the held-back samples and as
    many others.
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

        What a model brings quantized is not refined. Raises a CompileError at the first integer layer if
        insert-quantization did not run in this pipeline.
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
        fidelity = Fidelity(baseline.module, _judges(baseline.calibration, baseline.measured)) if check else None
        operands = {op: op.operands for op in module.main.body}
        error = fidelity.error(module) if fidelity else math.inf
        return cls(pass_name, module, environment, operands, fidelity, error)

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
        self.module.drop_unused_constants()
        text = message if kept else f"took back what did not help ({message})"
        remark(self.pass_name, "applied" if kept else "missed", f"{text}: {ratios}", **facts)
        return kept


def _judges(fitted: CalibrationData | None, held: CalibrationData) -> CalibrationData:
    """The held-back samples and as many of the others.

    Ranges were chosen by the held-back samples alone: on these an improvement has to outdo what fits them by chance.
    """
    if fitted is None:
        return held
    samples = {name: np.concatenate([rows, fitted.samples[name][: len(rows)]]) for name, rows in held.samples.items()}
    return CalibrationData(samples)

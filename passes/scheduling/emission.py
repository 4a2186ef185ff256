"""Emits the strips and chunks of every unit, software-pipelined over the four engines."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...dialects.core.operation import Operation
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.memory import LoadOp
from ...dialects.tile.pooling import DepthwiseOp
from ..lowering.emission import Share
from .buffers import Buffers, Step
from .layers import Unit
from .products import ProductSteps
from .residency import Cut, Residency
from .strips import cut_rows


@dataclass
class StripEmitter:
    """Builds the scheduled operations; buffers of the lowered program are replaced by buffers that fit."""

    plan: Residency
    operations: list[Operation] = field(default_factory=list[Operation])
    buffers: Buffers = field(init=False)

    def __post_init__(self) -> None:
        self.buffers = Buffers(self.plan)

    def emit(self) -> list[Operation]:
        """All instructions in order."""
        for unit, cut in zip(self.plan.program.units, self.plan.cuts, strict=True):
            if isinstance(unit.main, LoadOp) and self.buffers.spills.keep_input(unit.main):
                continue
            if isinstance(unit.main, MatmulOp):
                self._pipeline(ProductSteps(self.buffers, unit, cut).steps())
            else:
                self._pipeline(self._steps(unit, cut))
        return self.operations

    def _pipeline(self, steps: list[Step]) -> None:
        """Stages in an order in which the array of one step overlaps the vector unit and the stores of earlier ones.

        Without double buffering every step ends before the next begins.
        """
        if not self.plan.double_buffered:
            for step in steps:
                self.operations += step.loads + step.array + step.vector + step.stores
            return
        for index in range(len(steps) + 2):
            if index < len(steps):
                self.operations += steps[index].loads + steps[index].array
            if 0 < index <= len(steps):
                self.operations += steps[index - 1].vector
            if index > 1:
                self.operations += steps[index - 2].stores

    def _steps(self, unit: Unit, cut: Cut) -> list[Step]:
        steps: list[Step] = []
        macs = Share(unit.main.useful_macs if isinstance(unit.main, DepthwiseOp) else 0, unit.rows)
        for start in range(0, unit.rows, cut.rows):
            count = min(cut.rows, unit.rows - start)
            op = cut_rows(unit.main, start, count)
            if isinstance(op, DepthwiseOp):
                op.useful_macs = macs.next(count)
            strips = self.buffers.strips(unit, [op])
            step = Step(self.buffers.constants(unit) + strips.loads, stores=strips.stores)
            own = self.buffers.bound([op], strips)
            match op.engine:
                case "load":
                    step.loads += own
                case "store":
                    step.stores[:0] = own
                case _:
                    step.vector += own
            steps.append(step)
        return steps

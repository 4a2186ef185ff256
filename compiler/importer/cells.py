"""The steps of LSTM, GRU and RNN as operations: gates, states and how one state follows from the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...dialects.core.operation import Operation
from ...dialects.nn.elementwise import AddOp, MulOp, SubOp
from ...dialects.nn.matmul import MatmulOp
from .lowering import Imported, Known, Lowering, Unsupported
from .movement import sliced


class State(NamedTuple):
    """Hidden and cell state, both [N, H]; None stands for zeros, and for the cell of a layer that has none."""

    hidden: Imported | None
    cell: Imported | None = None


Curve = Callable[[Imported], Imported]
Step = Callable[[int, State], State]


@dataclass(frozen=True)
class Direction:
    """One direction of a layer: `data` are the inputs [T * N, I], `curves` the activations."""

    lowering: Lowering
    index: int
    rows: int
    hidden: int
    data: Imported
    curves: tuple[Curve, ...]

    def gates(self, first: int, count: int, *, all_biases: bool = True) -> Gates:
        """`count` gates from the `first` on; without `all_biases` the bias Rb of their recurrent product is apart."""
        span = slice(first * self.hidden, (first + count) * self.hidden)
        weights = [self._rows(index, what, span).moved(lambda array: array.T) for index, what in ((1, "W"), (2, "R"))]
        bias: Known | None = None
        apart: Known | None = None
        if self.lowering.has(3):
            of_input, of_state = np.split(self.lowering.array(3, "B")[self.index], 2)
            label = f"{self.lowering.node.label}.bias"
            bias = Known(label, (of_input + of_state if all_biases else of_input)[span])
            apart = None if all_biases else Known(label, of_state[span])
        inputs = self.emit(MatmulOp, self.data, weights[0], bias)
        return Gates(self, inputs, weights[1], apart)

    def peepholes(self) -> list[Known]:
        """The rows [1, H] of P; none where the layer has none."""
        if not self.lowering.has(7):
            return []
        rows = self.lowering.array(7, "P")[self.index].reshape(3, 1, self.hidden)
        return [Known(f"{self.lowering.node.label}.peephole", row) for row in rows]

    def emit(self, kind: type[Operation], *operands: Imported | None) -> Imported:
        """One operation without attributes."""
        return self.lowering.emit(kind, *operands)

    def part(self, value: Imported, number: int) -> Imported:
        """Gate `number` of [N, k * H]."""
        columns = (number * self.hidden, (number + 1) * self.hidden)
        return sliced(self.lowering, value, {1: columns})

    def _rows(self, index: int, what: str, span: slice) -> Known:
        known = self.lowering.input(index)
        if not isinstance(known, Known):
            raise Unsupported(f"input '{what}' is computed at run time, expected a constant")
        return Known(f"{known.name}[{self.index}]", known.array, known.steps).moved(lambda a: a[self.index, span])


@dataclass(frozen=True)
class Gates:
    """Gates that are computed together: x W^T + b of all steps [T * N, k * H], R^T [H, k * H], and a bias of h R^T."""

    direction: Direction
    inputs: Imported
    recurrent: Known
    bias: Known | None

    def of_input(self, step: int) -> Imported:
        """What the input gives in one step: x W^T + b, [N, k * H]."""
        rows = self.direction.rows
        return sliced(self.direction.lowering, self.inputs, {0: (step * rows, (step + 1) * rows)})

    def of_state(self, hidden: Imported) -> Imported:
        """What the state gives: h R^T and its bias, if that is apart, [N, k * H]."""
        return self.direction.emit(MatmulOp, hidden, self.recurrent, self.bias)

    def at(self, step: int, hidden: Imported | None) -> Imported:
        """Both: x W^T + h R^T + b, [N, k * H]."""
        own = self.of_input(step)
        return own if hidden is None else self.direction.emit(AddOp, self.of_state(hidden), own)


def rnn_step(direction: Direction) -> Step:
    """The products of all inputs, then h' = f(x W^T + h R^T + b)."""
    gate = direction.gates(0, 1)
    (curve,) = direction.curves
    return lambda step, state: State(curve(gate.at(step, state.hidden)))


def gru_step(direction: Direction) -> Step:
    """The products of all inputs, then h' = (1 - z) n + z h, as n + z (h - n)."""
    emit = direction.emit
    reset_last = bool(direction.lowering.node.integer("linear_before_reset", 0))
    gates, candidate = direction.gates(0, 2), direction.gates(2, 1, all_biases=not reset_last)
    opening, curve = direction.curves

    def step(time: int, state: State) -> State:
        hidden = state.hidden
        opened = opening(gates.at(time, hidden))
        update, reset = direction.part(opened, 0), direction.part(opened, 1)
        if not reset_last:
            new = curve(candidate.at(time, None if hidden is None else emit(MulOp, reset, hidden)))
        else:
            kept = candidate.bias if hidden is None else candidate.of_state(hidden)
            own = candidate.of_input(time)
            new = curve(own if kept is None else emit(AddOp, own, emit(MulOp, reset, kept)))
        if hidden is None:
            return State(emit(SubOp, new, emit(MulOp, update, new)))
        return State(emit(AddOp, new, emit(MulOp, update, emit(SubOp, hidden, new))))

    return step


def lstm_step(direction: Direction) -> Step:
    """The products of all inputs, then c' = f c + i g and h' = o tanh(c'), with or without peepholes."""
    emit = direction.emit
    gates, candidate, peepholes = direction.gates(0, 3), direction.gates(3, 1), direction.peepholes()
    opening, curve, last = direction.curves

    def opened(before: Imported, number: int, cell: Imported | None) -> Imported:
        """One gate, which sees the cell through its peephole."""
        own = direction.part(before, number)
        return opening(own if cell is None else emit(AddOp, own, emit(MulOp, cell, peepholes[number])))

    def step(time: int, state: State) -> State:
        before = gates.at(time, state.hidden)
        if peepholes:
            enter, leave, keep = opened(before, 0, state.cell), None, opened(before, 2, state.cell)
        else:
            enter, leave, keep = (direction.part(opening(before), number) for number in range(3))
        cell = emit(MulOp, enter, curve(candidate.at(time, state.hidden)))
        if state.cell is not None:
            cell = emit(AddOp, emit(MulOp, keep, state.cell), cell)
        leave = opened(before, 1, cell) if leave is None else leave
        return State(emit(MulOp, leave, last(cell)), cell)

    return step

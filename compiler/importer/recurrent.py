"""LSTM, GRU and RNN: a sequence has a fixed length, so that every step becomes operations of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...dialects.core.operation import Operation
from ...dialects.nn.activation import HardSigmoidOp, LeakyReluOp, ReluOp, SigmoidOp, TanhOp
from ...dialects.nn.functions import EluOp, SoftplusOp, SoftsignOp
from ...dialects.nn.movement import ConcatOp
from .cells import Curve, Direction, State, Step, gru_step, lstm_step, rnn_step
from .lowering import Imported, Known, Lowering, Unsupported, shape_of
from .movement import sliced

STEP_LIMIT = 1024
"""The longest sequence: the program grows with it."""

_CURVES: dict[str, tuple[type[Operation], dict[str, float]]] = {
    "elu": (EluOp, {"alpha": 1.0}),
    "hardsigmoid": (HardSigmoidOp, {"alpha": 0.2, "beta": 0.5}),
    "leakyrelu": (LeakyReluOp, {"alpha": 0.01}),
    "relu": (ReluOp, {}),
    "sigmoid": (SigmoidOp, {}),
    "softplus": (SoftplusOp, {}),
    "softsign": (SoftsignOp, {}),
    "tanh": (TanhOp, {}),
}
"""What computes an activation, with the defaults of the standard for its parameters."""


def lower_rnn(lowering: Lowering) -> Sequence[Imported | None]:
    """RNN."""
    return _lowered(lowering, rnn_step, 1, ("Tanh",))


def lower_gru(lowering: Lowering) -> Sequence[Imported | None]:
    """GRU, with linear_before_reset or without."""
    return _lowered(lowering, gru_step, 3, ("Sigmoid", "Tanh"))


def lower_lstm(lowering: Lowering) -> Sequence[Imported | None]:
    """LSTM."""
    return _lowered(lowering, lstm_step, 4, ("Sigmoid", "Tanh", "Tanh"))


def _lowered(
    lowering: Lowering, cell: Callable[[Direction], Step], gates: int, curves: tuple[str, ...]
) -> Sequence[Imported | None]:
    """The outputs Y [T, D, N, H], Y_h and Y_c [D, N, H]; with layout 1 the samples N come first."""
    node = lowering.node
    last = bool(node.integer("layout", 0))
    data, directions = lowering.input(0), _directions(lowering)
    _check_shapes(lowering, len(directions), gates, last=last)
    if last:
        data = lowering.transposed(data, (1, 0, 2))
    steps, rows, width = shape_of(data)
    hidden = lowering.shape(2)[2]
    _check_steps(lowering, steps)
    data = lowering.reshaped(data, (steps * rows, width))
    functions = _curves(lowering, curves * len(directions))
    sequences: list[Imported] = []
    ends: list[State] = []
    for index, backward in enumerate(directions):
        own = functions[index * len(curves) : (index + 1) * len(curves)]
        step = cell(Direction(lowering, index, rows, hidden, data, own))
        state = State(*(_initial(lowering, place, index, last=last) for place in (5, 6)))
        made: list[Imported] = []
        for time in reversed(range(steps)) if backward else range(steps):
            state = step(time, state)
            assert state.hidden is not None
            made.append(state.hidden)
        joined = _joined(lowering, made[::-1] if backward else made, 0)
        sequences.append(lowering.reshaped(joined, (steps, 1, rows, hidden)))
        ends.append(state)
    outputs: list[Imported | None] = [_joined(lowering, sequences, 1)]
    for values in zip(*ends, strict=True):
        present = [lowering.reshaped(value, (1, rows, hidden)) for value in values if value is not None]
        outputs.append(_joined(lowering, present, 0) if present else None)
    if last:
        orders = ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))
        outputs = [value and lowering.transposed(value, order) for value, order in zip(outputs, orders, strict=True)]
    return outputs[: len(node.outputs)]


def _directions(lowering: Lowering) -> tuple[bool, ...]:
    """For every direction whether it runs backward."""
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    direction = lowering.node.text("direction", "forward")
    if direction not in known:
        raise lowering.error(f"direction is '{direction}', expected {', '.join(known)}")
    return known[direction]


def _check_shapes(lowering: Lowering, directions: int, gates: int, *, last: bool) -> None:
    """Raise the located error for an input that does not fit the others."""
    data, recurrent = lowering.shape(0), lowering.shape(2)
    if len(data) != 3 or len(recurrent) != 3:
        raise lowering.error(f"X and R have shapes {list(data)} and {list(recurrent)}, expected three axes")
    rows, width, hidden = data[0 if last else 1], data[2], recurrent[2]
    asked = lowering.node.integer("hidden_size", hidden)
    if asked != hidden:
        raise lowering.error(f"hidden_size is {asked}, R has {hidden} columns")
    state = (rows, directions, hidden) if last else (directions, rows, hidden)
    expected = {
        1: ("W", (directions, gates * hidden, width)),
        2: ("R", (directions, gates * hidden, hidden)),
        3: ("B", (directions, 2 * gates * hidden)),
        4: ("sequence_lens", (rows,)),
        5: ("initial_h", state),
        6: ("initial_c", state),
        7: ("P", (directions, 3 * hidden)),
    }
    for index, (what, shape) in expected.items():
        if index < len(lowering.inputs) and lowering.inputs[index] is not None and lowering.shape(index) != shape:
            raise lowering.error(f"{what} has shape {list(lowering.shape(index))}, expected {list(shape)}")


def _check_steps(lowering: Lowering, steps: int) -> None:
    """Raise Unsupported for a sequence that is too long or not of the full length."""
    if steps > STEP_LIMIT:
        raise Unsupported(f"the sequence has {steps} steps, at most {STEP_LIMIT} are written out")
    if lowering.has(4) and set(lowering.integers(4, "sequence_lens")) != {steps}:
        lengths = sorted(set(lowering.integers(4, "sequence_lens")))
        raise Unsupported(f"sequences have lengths {lengths}, expected the full {steps} steps of all: cut or pad them")


def _curves(lowering: Lowering, names: tuple[str, ...]) -> tuple[Curve, ...]:
    """The activations of all directions, one after the other; parameters are taken by those that have them."""
    given = lowering.node.attributes.get("activations")
    if isinstance(given, tuple):
        if len(given) != len(names):
            raise lowering.error(f"{len(given)} activations, expected {len(names)}")
        names = tuple(map(str, given))
    parameters = {name: iter(_numbers(lowering, f"activation_{name}")) for name in ("alpha", "beta")}
    return tuple(_curve(lowering, name, parameters) for name in names)


def _curve(lowering: Lowering, name: str, parameters: dict[str, Iterator[float]]) -> Curve:
    if name.lower() not in _CURVES:
        raise Unsupported(f"the activation '{name}' is not supported, expected one of {', '.join(_CURVES)}")
    kind, defaults = _CURVES[name.lower()]
    attributes: dict[str, Any] = {key: next(parameters[key], default) for key, default in defaults.items()}
    return lambda value: lowering.emit(kind, value, **attributes)


def _numbers(lowering: Lowering, name: str) -> tuple[float, ...]:
    value = lowering.node.attributes.get(name)
    return tuple(map(float, value)) if isinstance(value, tuple) else ()


def _initial(lowering: Lowering, index: int, direction: int, *, last: bool) -> Imported | None:
    """The state [N, H] that a direction begins with; None for zeros."""
    value = lowering.optional(index)
    if value is None:
        return None
    axis = 1 if last else 0
    if isinstance(value, Known):
        array = value.array.take(direction, axis)
        return Known(f"{value.name}[{direction}]", array) if array.any() else None
    picked = sliced(lowering, value, {axis: (direction, direction + 1)})
    shape = shape_of(picked)
    return lowering.reshaped(picked, (*shape[:axis], *shape[axis + 1 :]))


def _joined(lowering: Lowering, values: Sequence[Imported], axis: int) -> Imported:
    return values[0] if len(values) == 1 else lowering.emit(ConcatOp, *values, axis=axis)

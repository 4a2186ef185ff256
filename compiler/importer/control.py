"""If, Loop and Scan whose course is known at import: the branch that is taken, and the iterations one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.nn.movement import ConcatOp
from .lowering import Imported, Known, Lowering, Meaning, Unsupported, shape_of
from .movement import sliced

_HINT = "--input-value makes an input that decides it a constant"

Results = list[Meaning]


def lower_if(lowering: Lowering) -> Results:
    """If: the branch that the condition chooses."""
    condition = lowering.input(0)
    if not isinstance(condition, Known):
        raise Unsupported(f"control flow is not supported where the condition is computed at run time; {_HINT}")
    name = "then_branch" if _truth(lowering, condition) else "else_branch"
    results = lowering.run(name, [])
    if len(results) != len(lowering.node.outputs):
        raise lowering.error(f"'{name}' has {len(results)} outputs, the node {len(lowering.node.outputs)}")
    return results


def lower_loop(lowering: Lowering) -> Results:
    """Loop: the carried values behind the last iteration, then what every iteration gave, along a new first axis."""
    limit = _trip_count(lowering)
    going = lowering.optional(1)
    carried = [lowering.meaning(index) for index in range(2, len(lowering.inputs))]
    rows: list[Results] = []
    while (limit is None or len(rows) < limit) and (going is None or _truth(lowering, going)):
        number = Known("iteration", np.array(len(rows), np.int64))
        condition = Known("condition", np.array(True)) if going is None else going
        results = lowering.run("body", [Meaning(number), Meaning(condition), *carried])
        if len(results) <= len(carried):
            raise lowering.error(f"the body has {len(results)} outputs for {len(carried)} carried values")
        going, carried, made = results[0].value, results[1 : 1 + len(carried)], results[1 + len(carried) :]
        rows.append(made)
    if not rows and any(lowering.node.outputs[len(carried) :]):
        raise Unsupported("the result is empty: there is no iteration")
    made = [_stacked(lowering, column, 0) for column in zip(*rows, strict=True)]
    return [*carried, *made, *(Meaning(None) for _ in lowering.node.outputs[len(carried) + len(made) :])]


def lower_scan(lowering: Lowering) -> Results:
    """Scan: the states behind the last iteration, then what every iteration gave, along a new axis."""
    given = [lowering.meaning(index) for index in range(len(lowering.inputs))]
    count = lowering.node.integer("num_scan_inputs", 0)
    if not 0 < count <= len(given):
        raise lowering.error(f"num_scan_inputs is {count}, the node has {len(given)} inputs")
    states, sequences = given[:-count], given[-count:]
    shapes = [lowering.shape(index) for index in range(len(states), len(given))]
    axes = [
        lowering.axis(axis, len(shape))
        for axis, shape in zip(_per_value(lowering, "scan_input_axes", count), shapes, strict=True)
    ]
    backward = _per_value(lowering, "scan_input_directions", count)
    lengths = sorted({shape[axis] for axis, shape in zip(axes, shapes, strict=True)})
    if len(lengths) != 1:
        raise lowering.error(f"sequences have lengths {lengths}, expected one length")
    rows: list[Results] = []
    for step in range(lengths[0]):
        elements = [
            _picked(lowering, sequence, axis, lengths[0] - 1 - step if back else step)
            for sequence, axis, back in zip(sequences, axes, backward, strict=True)
        ]
        results = lowering.run("body", [*states, *elements])
        if len(results) < len(states):
            raise lowering.error(f"the body has {len(results)} outputs for {len(states)} states")
        states, made = results[: len(states)], results[len(states) :]
        rows.append(made)
    columns = list(zip(*rows, strict=True))
    places = _per_value(lowering, "scan_output_axes", len(columns))
    turned = _per_value(lowering, "scan_output_directions", len(columns))
    made = [column[::-1] if back else column for column, back in zip(columns, turned, strict=True)]
    return [*states, *(_stacked(lowering, column, place) for column, place in zip(made, places, strict=True))]


def _trip_count(lowering: Lowering) -> int | None:
    if not lowering.has(0):
        return None
    given = lowering.input(0)
    if not isinstance(given, Known):
        raise Unsupported(f"control flow is not supported where the number of iterations is computed; {_HINT}")
    if given.array.size != 1 or given.array.dtype != np.int64:
        raise lowering.error(
            f"the number of iterations is {given.array.dtype}{list(given.shape)}, expected int64[] or int64[1]"
        )
    return int(given.array.reshape(-1)[0])


def _truth(lowering: Lowering, condition: Imported) -> bool:
    if not isinstance(condition, Known):
        raise Unsupported(f"control flow is not supported where the end of a loop is computed at run time; {_HINT}")
    array = condition.array
    if array.size != 1 or array.dtype != bool:
        raise lowering.error(f"the condition is {array.dtype}{list(array.shape)}, expected bool[] or bool[1]")
    return bool(array.reshape(-1)[0])


def _per_value(lowering: Lowering, name: str, count: int) -> list[int]:
    """A list attribute with a number for each of `count` values, zeros by default."""
    given = lowering.node.integers(name) or (0,) * count
    if len(given) != count:
        raise lowering.error(f"{name} has {len(given)} numbers, expected {count}")
    return list(given)


def _picked(lowering: Lowering, sequence: Meaning, axis: int, index: int) -> Meaning:
    """One element of an axis, without that axis."""
    value = sequence.value
    if isinstance(value, Known):
        return Meaning(Known(f"{value.name}[{index}]", value.array.take(index, axis)))
    assert value is not None
    shape = shape_of(value)
    element = sliced(lowering, value, {axis: (index, index + 1)})
    return Meaning(lowering.reshaped(element, (*shape[:axis], *shape[axis + 1 :])), sequence.kind)


def _stacked(lowering: Lowering, meanings: Sequence[Meaning], axis: int) -> Meaning:
    """The values of all iterations along a new axis."""
    values = [meaning.value for meaning in meanings if meaning.value is not None]
    shapes = sorted({shape_of(value) for value in values})
    if len(shapes) != 1:
        raise Unsupported(f"iterations give the shapes {[list(shape) for shape in shapes]}, expected one shape")
    axis = lowering.axis(axis, len(shapes[0]) + 1)
    if all(isinstance(value, Known) for value in values):
        arrays = [value.array for value in values if isinstance(value, Known)]
        return Meaning(Known(lowering.node.label, np.stack(arrays, axis)))
    parts = [lowering.reshaped(value, (*shapes[0][:axis], 1, *shapes[0][axis:])) for value in values]
    joined = parts[0] if len(parts) == 1 else lowering.emit(ConcatOp, *parts, axis=axis)
    return Meaning(joined, meanings[0].kind)

"""What the readers of a value can see of it: numbers beyond a point where nothing depends on them take no range.

A sum of a convolution and a shortcut that a ReLU follows hides how far below -shortcut the convolution is; a
hard-swish hides everything below -3. Many integers of such a tensor would otherwise stand for what is all the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ...dialects.core.operation import Constant, Operation, Value
from ...dialects.core.types import Array
from ...dialects.nn.activation import UnaryOperation
from ...dialects.nn.elementwise import AddOp, SubOp
from .grouping import MOVING, compares

FLAT = 2.0**-18
"""A function is constant where it differs by less than this share of its largest magnitude in [-1, 1]: a quarter of the
finest step that a 16-bit result may have."""

FARTHEST = 2.0**16
"""Numbers of larger magnitude count as this."""

_GRID = np.sort(
    np.concatenate(
        [sign * 32.0 * 2.0 ** np.linspace(0.0, 11.0, 353) for sign in (-1, 1)] + [np.arange(-2048, 2049) / 64]
    )
)
"""Where functions are looked at: 64 points a unit up to 32, then 32 an octave up to `FARTHEST`."""

See = Callable[[Value[Any], Array], None]


class Visibility:
    """Shows what counts of each of `values` of a function while it is executed, operation by operation.

    For a value that functions of one number alone read, moved or not, that is the nearest number from which on they are
    not constant; for an operand that only a clamped sum or difference reads, where the clamp acts, the number nearest
    to 0 that gives the same result (where both operands are such, they share the way to the bound by their magnitudes).
    Everything else counts as it is.
    """

    def __init__(self, values: Iterable[Value[Any]]) -> None:
        self._bounds: dict[Value[Any], tuple[float, float]] = {}
        self._sums: dict[Operation, list[int]] = {}
        self._waiting: dict[Value[Any], Array] = {}
        self._readers: dict[Value[Any], int] = {}
        self._wanted = frozenset(values)
        for value in self._wanted:
            reader = _clamped_sum(value)
            if reader is not None:
                self._sums.setdefault(reader, []).append(0 if reader.operands[0] is value else 1)
            elif (bounds := visible_bounds(value)) != (-math.inf, math.inf):
                self._bounds[value] = bounds
        self._sums_left = Counter(value for op in self._sums for value in {*op.operands})

    def show(self, value: Value[Any], array: Array, see: See) -> None:
        """Call `see` with what counts of the result or argument `value`, now or when its reader is shown."""
        if value in self._sums_left:
            self._waiting[value] = array
            self._readers[value] = self._sums_left[value]
        op = value.defining_op
        if op in self._sums:
            assert isinstance(op, (AddOp, SubOp))
            self._show_operands(op, see)
        if value not in self._wanted or _clamped_sum(value) is not None:
            return
        bounds = self._bounds.get(value)
        see(value, array if bounds is None else np.clip(array, *bounds))

    def _show_operands(self, op: AddOp | SubOp, see: See) -> None:
        arrays = [v.array if isinstance(v, Constant) else self._waiting[v] for v in op.operands]
        signs = (1, 1) if isinstance(op, AddOp) else (1, -1)
        terms = [sign * array for sign, array in zip(signs, arrays, strict=True)]
        total = terms[0] + terms[1]
        excess = op.clamp(total) - total
        # How far each term lies on the side that the clamp cuts off: the one that is to blame goes back.
        shares: list[Any] = [1.0, 1.0]
        if len(self._sums[op]) > 1:
            reaches = [np.maximum(-np.sign(excess) * term, 0) for term in terms]
            blame = reaches[0] + reaches[1]
            np.maximum(blame, np.finfo(blame.dtype).smallest_subnormal, out=blame)
            shares = [reach / blame for reach in reaches]
        # What a clamp from below raised goes up to 0 at most, and down to it what one from above lowered; choosing by
        # `np.where` takes ten times as long.
        largest = np.finfo(total.dtype).max
        low, high = -largest * (excess >= 0), largest * (excess <= 0)
        for index in self._sums[op]:
            counts = terms[index] + shares[index] * excess
            see(op.operands[index], signs[index] * np.clip(counts, low, high, out=counts))
        for value in {*op.operands} & self._waiting.keys():
            self._readers[value] -= 1
            if not self._readers[value]:
                del self._waiting[value]


def _clamped_sum(value: Value[Any]) -> AddOp | SubOp | None:
    """The clamped sum or difference that alone reads `value`, whose shape is that of the result."""
    if not value.has_one_use:
        return None
    (reader,) = value.users
    if not isinstance(reader, (AddOp, SubOp)) or not reader.is_clamped or value.type.shape != reader.out.type.shape:
        return None
    return reader


def visible_bounds(value: Value[Any]) -> tuple[float, float]:
    """The interval outside of which nothing that reads `value` depends on it; infinite where everything counts.

    Of comparisons that is so: they may change at one number between those that functions are looked at.
    """
    low, high = 0.0, 0.0
    for user in value.users:
        if isinstance(user, MOVING):
            ends = visible_bounds(user.result)
        elif isinstance(user, UnaryOperation) and not compares(user):
            ends = flat_ends(user.apply)
        else:
            return -math.inf, math.inf
        low, high = min(low, ends[0]), max(high, ends[1])
    return (low, high) if value.users else (-math.inf, math.inf)


def flat_ends(function: Callable[[Array], Array]) -> tuple[float, float]:
    """(low, high), low <= 0 <= high: `function` is constant below low and above high; infinite where it is not."""
    with np.errstate(all="ignore"):
        found = np.asarray(function(_GRID), np.float64)
    tolerance = FLAT * float(np.abs(found[np.abs(_GRID) <= 1.0]).max())
    if not np.isfinite(found).all():
        return -math.inf, math.inf
    moves = np.flatnonzero(np.abs(found - found[0]) > tolerance)
    low = _GRID[moves[0] - 1] if moves.size else 0.0
    moves = np.flatnonzero(np.abs(found - found[-1]) > tolerance)
    high = _GRID[moves[-1] + 1] if moves.size else 0.0
    return (
        -math.inf if low <= -FARTHEST else min(float(low), 0.0),
        math.inf if high >= FARTHEST else max(float(high), 0.0),
    )

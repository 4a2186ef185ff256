"""Einsum of one or two operands as transposes, reshapes, sums and one matrix product."""

from __future__ import annotations

import math
import re

from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.reduction import ReduceMeanOp
from .lowering import Imported, Lowering, Unsupported, shape_of

_EQUATION = re.compile(r"([a-zA-Z]*)(?:,([a-zA-Z]*))?(?:->([a-zA-Z]*))?")


def lower_einsum(lowering: Lowering) -> Imported:
    """Einsum: axes of both operands are batch or, where the result lacks them, reduced; others are rows or columns."""
    terms, result = _parsed(lowering)
    sizes: dict[str, int] = {}
    values: list[Imported] = []
    for index, term in enumerate(terms):
        shape = lowering.shape(index)
        if len(shape) != len(term):
            raise lowering.error(f"term '{term}' has {len(term)} axes, input {index} has shape {list(shape)}")
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise lowering.error(f"axis '{letter}' is {size} in input {index}, expected {sizes[letter]}")
        kept = result + "".join(terms[:index] + terms[index + 1 :])
        value, terms[index] = _summed(lowering, lowering.input(index), term, kept)
        values.append(value)
    if len(terms) == 1:
        return _ordered(lowering, values[0], terms[0], result)
    left, right = terms
    batch = "".join(letter for letter in left if letter in right and letter in result)
    inner = "".join(letter for letter in left if letter in right and letter not in result)
    rows = "".join(letter for letter in left if letter not in right)
    columns = "".join(letter for letter in right if letter not in left)

    def matrix(value: Imported, term: str, first: str, second: str) -> Imported:
        moved = _ordered(lowering, value, term, batch + first + second)
        return lowering.reshaped(moved, [*(sizes[a] for a in batch), *(_size(part, sizes) for part in (first, second))])

    product: Imported = lowering.emit(
        MatmulOp, matrix(values[0], left, rows, inner), matrix(values[1], right, inner, columns)
    )
    order = batch + rows + columns
    return _ordered(lowering, lowering.reshaped(product, [sizes[letter] for letter in order]), order, result)


def _parsed(lowering: Lowering) -> tuple[list[str], str]:
    """The terms of the operands and of the result; without an arrow that is what occurs once, in alphabetical order."""
    equation = lowering.node.text("equation", "").replace(" ", "")
    found = _EQUATION.fullmatch(equation)
    if found is None:
        raise Unsupported(f"equation is '{equation}', expected one or two terms without an ellipsis")
    terms = [term for term in found.groups()[:2] if term is not None]
    if len(terms) != len(lowering.inputs):
        raise lowering.error(f"equation '{equation}' has {len(terms)} terms for {len(lowering.inputs)} inputs")
    if any(len(set(term)) != len(term) for term in terms):
        raise Unsupported(f"equation '{equation}' names an axis of one operand twice, which takes a diagonal")
    letters = "".join(terms)
    result = found.group(3)
    if result is None:
        result = "".join(letter for letter in sorted(letters) if letters.count(letter) == 1)
    if len(set(result)) != len(result) or not set(result) <= set(letters):
        raise lowering.error(f"equation '{equation}' has a result that does not follow from its terms")
    return terms, result


def _summed(lowering: Lowering, value: Imported, term: str, kept: str) -> tuple[Imported, str]:
    """The value summed over the axes that nothing else names."""
    axes = tuple(index for index, letter in enumerate(term) if letter not in kept)
    if not axes:
        return value, term
    count = math.prod(shape_of(value)[axis] for axis in axes)
    total = lowering.emit(ReduceMeanOp, value, axes=axes, keepdims=False, factor=float(count))
    return total, "".join(letter for index, letter in enumerate(term) if index not in axes)


def _ordered(lowering: Lowering, value: Imported, term: str, order: str) -> Imported:
    return lowering.transposed(value, tuple(term.index(letter) for letter in order))


def _size(part: str, sizes: dict[str, int]) -> int:
    return math.prod(sizes[letter] for letter in part)

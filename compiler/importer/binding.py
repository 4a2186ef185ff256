"""Inputs that are given a value become constants of the model: sampling rates, flags, lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...dialects.core.diagnostics import CompileError
from ...dialects.core.types import Array
from .model import GraphInput, Model


def bind_inputs(model: Model, values: Mapping[str, Any]) -> Model:
    """The model with constants in the place of inputs: a number, or an array, for each name.

    One number fills a shape; a size that is not fixed counts as 1. Raises CompileError for a name that the model does
    not have, a type that does not hold the numbers, and a shape that does not fit.
    """
    if not values:
        return model
    inputs = {value.name: value for value in model.inputs}
    bound: dict[str, Array] = {}
    for name, given in values.items():
        if name not in inputs:
            known = ", ".join(f"'{each}'" for each in inputs) or "none"
            problem = f"a value is given for input '{name}', which the model does not have; its inputs: {known}"
            raise CompileError(f"{model.source}: {problem}")
        what = f"{model.source}: the value given for input '{name}'"
        bound[name] = _shaped(_typed(given, inputs[name], what), inputs[name], what)
    left = tuple(value for value in model.inputs if value.name not in bound)
    return replace(model, inputs=left, initializers={**model.initializers, **bound})


def _typed(given: Any, value: GraphInput, what: str) -> Array:
    """The numbers in the element type of the input, which must hold them."""
    try:
        array = np.asarray(given)
        dtype = np.dtype(value.dtype)
    except (TypeError, ValueError):
        raise CompileError(f"{what} is {given!r}, expected numbers of type {value.dtype}") from None
    if array.dtype.kind not in "biuf" or not array.size:
        raise CompileError(f"{what} is {given!r}, expected numbers of type {value.dtype}")
    with np.errstate(all="ignore"):
        typed = array.astype(dtype)
        kept = bool((typed.astype(np.float64) == array.astype(np.float64)).all())
    if not np.isfinite(array.astype(np.float64)).all() or (dtype.kind != "f" and not kept):
        raise CompileError(f"{what} is {given!r}, which {value.dtype} does not hold")
    return typed


def _shaped(array: Array, value: GraphInput, what: str) -> Array:
    """The numbers in the shape of the input; CompileError if they do not fit."""
    declared = value.shape
    if declared is None or array.shape == declared:
        return array
    if array.size == 1:
        sizes = [size if isinstance(size, int) else 1 for size in declared]
        if all(size > 0 for size in sizes) and math.prod(sizes) <= _MOST_FILLED:
            return np.full(sizes, array.reshape(-1)[0])
    fits = len(declared) == array.ndim and all(
        isinstance(own, str) or own == size for own, size in zip(declared, array.shape, strict=True)
    )
    if not fits:
        shape = ", ".join(map(str, declared))
        raise CompileError(f"{what} has the shape {list(array.shape)}, the model has [{shape}]")
    return array


_MOST_FILLED = 2**20
"""One number fills no more elements than this."""

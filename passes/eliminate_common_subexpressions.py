"""Computes equal things once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dialects.core.operation import Constant, Module, Operation, Pure
from ..dialects.core.types import Array
from .framework.base import Pass
from .framework.environment import Environment

SAMPLES = 61
"""How many bytes of a constant are looked at first."""


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Merge constants with equal content and pure operations with equal operands and attributes."""

    name: ClassVar[str] = "eliminate-common-subexpressions"

    def run(self, module: Module, environment: Environment) -> None:
        merge_constants(module)
        for function in module.functions.values():
            known: dict[Hashable, Operation] = {}
            for op in function.body:
                if not op.has_trait(Pure) or not op.results:
                    continue
                twin = known.setdefault(_key(op), op)
                if twin is op:
                    continue
                for old, new in zip(op.results, twin.results, strict=True):
                    old.replace_all_uses_with(new)
                twin.location = twin.location.merged(op.location)
                op.erase()


def merge_constants(module: Module) -> None:
    """Let one constant stand for all with the same type and bytes.

    Only constants that agree in type and in some sampled bytes are compared in full.
    """
    known: defaultdict[Hashable, list[Constant]] = defaultdict(list)
    for constant in list(module.constants.values()):
        if constant.is_unused:
            continue
        stored = _bytes(constant)
        alike = known[constant.type, stored[:: max(1, stored.size // SAMPLES)].tobytes()]
        twin = next((other for other in alike if np.array_equal(_bytes(other), stored)), None)
        if twin is None:
            alike.append(constant)
        else:
            constant.replace_all_uses_with(twin)
            del module.constants[str(constant.name)]


def _bytes(constant: Constant) -> Array:
    return np.ascontiguousarray(constant.array).reshape(-1).view(np.uint8)


def _key(op: Operation) -> Hashable:
    attributes = tuple((name, repr(op.attribute_or_default(name))) for name in op.attribute_fields)
    return type(op), tuple(id(value) for value in op.operands), attributes, tuple(r.type for r in op.results)

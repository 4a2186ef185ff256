"""Computes equal things once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dialects.core.operation import Constant, Module, Operation, Pure, Value
from .framework.base import Pass
from .framework.environment import Environment


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
    """Let one constant stand for all with the same type and bytes; content is hashed only where types coincide."""
    by_type: defaultdict[Hashable, list[Constant]] = defaultdict(list)
    for constant in module.constants.values():
        by_type[constant.type].append(constant)
    for group in by_type.values():
        if len(group) == 1:
            continue
        first: dict[bytes, Value[Any]] = {}
        for constant in group:
            content = hashlib.blake2b(np.ascontiguousarray(constant.array).view(np.uint8).data).digest()
            twin = first.setdefault(content, constant)
            if twin is not constant:
                constant.replace_all_uses_with(twin)
                del module.constants[str(constant.name)]


def _key(op: Operation) -> Hashable:
    attributes = tuple((name, repr(op.attribute_or_default(name))) for name in op.attribute_fields)
    return type(op), tuple(id(value) for value in op.operands), attributes, tuple(r.type for r in op.results)

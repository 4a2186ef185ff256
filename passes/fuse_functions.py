"""Chains of element-wise operations on one tensor become one operation, and in integers one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..dialects.core.operation import Module, Operation, Value
from ..dialects.nn.activation import UnaryOperation
from ..dialects.nn.chain import ChainOp, call
from ..dialects.nn.elementwise import AddOp, BinaryOperation, DivOp, MulOp, SubOp
from .framework.base import Pass
from .framework.environment import Environment
from .framework.matching import is_float, splat_value
from .framework.rewriting import RewritePattern, Rewriter, apply_patterns

_BINARY = (AddOp, SubOp, MulOp, DivOp)
Cone = dict[Operation, None]
"""Operations from a result upwards, as an ordered set."""

LONGEST = 64
"""Steps of the longest chain: what exporters write is shorter. Longer ones become several chains."""


@dataclass(frozen=True)
class FuseFunctions(Pass):
    """Fuse element-wise operations that together are a function of one tensor, as a GELU that is spelled out."""

    name: ClassVar[str] = "fuse-functions"

    def run(self, module: Module, environment: Environment) -> None:
        apply_patterns(module, [FuseChain()])


@dataclass(frozen=True)
class FuseChain(RewritePattern[Operation]):
    """f(g(x), h(x), c) == chain(x), where nothing else reads what lies between x and the result."""

    op_classes: ClassVar[tuple[type[Operation], ...]] = (UnaryOperation, *_BINARY)

    def rewrite(self, op: Operation, rewriter: Rewriter) -> None:
        if isinstance(op, ChainOp) or not is_float(op.result) or any(_continues(user, op) for user in op.result.users):
            return
        found = _largest_cone(op)
        if found is None:
            return
        root, cone = found
        steps = tuple(_steps(op.result, root, cone))
        rewriter.merge_location(op, *reversed(cone))
        rewriter.replace(op, ChainOp.build(root, steps=steps))


def _continues(user: Operation, op: Operation) -> bool:
    """True if a chain that ends in `user` would contain `op`: then that one is fused."""
    if not _is_elementwise(user) or user.result.type != op.result.type:
        return False
    found = _largest_cone(user)
    return found is not None and op in found[1]


def _largest_cone(op: Operation) -> tuple[Value[Any], Cone] | None:
    """(x, operations) of the largest set that computes the result of `op` from one tensor x, if it is worth a table.

    One unary operation is a table already; one with two operands, of which one is a number or both are x, reads less.
    At most LONGEST steps spell it. An operation that several others of the set read is spelled for each of them, so
    that lengths are counted before anything is spelled: a square of a square of a square doubles them every time.
    """
    cone: Cone = {}
    roots: dict[Value[Any], int] = {op.result: 1}
    inner, length = op, 1
    best: tuple[Value[Any], Cone] | None = None
    while True:
        cone[inner] = None
        times = roots.pop(inner.result)
        length += times * (len(inner.operands) + (isinstance(inner, BinaryOperation) and inner.is_clamped))
        for value in inner.operands:
            if splat_value(value) is None:
                roots[value] = roots.get(value, 0) + times
        if length > LONGEST or any(root.type != op.result.type for root in roots):
            return best
        if len(roots) == 1 and (len(cone) > 1 or isinstance(op, _BINARY)):
            best = next(iter(roots)), dict(cone)
        joined = next((p for root in roots if (p := root.defining_op) is not None and _joins(p, op, cone)), None)
        if joined is None:
            return best
        inner = joined


def _joins(inner: Operation, op: Operation, cone: Cone) -> bool:
    return (
        _is_elementwise(inner)
        and inner.result.type == op.result.type
        and all(user in cone for user in inner.result.users)
    )


def _is_elementwise(op: Operation) -> bool:
    return isinstance(op, (UnaryOperation, *_BINARY)) and not isinstance(op, ChainOp)


def _steps(value: Value[Any], root: Value[Any], cone: Cone) -> list[str]:
    """The postfix form of a value."""
    op = value.defining_op
    if value is root:
        return ["x"]
    if op is None or op not in cone:
        return [repr(splat_value(value))]
    steps = [step for operand in op.operands for step in _steps(operand, root, cone)]
    if isinstance(op, UnaryOperation):
        return [*steps, call(op)]
    steps.append(op.name.removeprefix("nn."))
    assert isinstance(op, BinaryOperation)
    if op.is_clamped:
        low, high = (float(b if v is None else v) for v, b in ((op.clamp_min, "-inf"), (op.clamp_max, "inf")))
        steps.append(f"clip(min={low!r}, max={high!r})")
    return steps

"""Removes the layout transposes that ONNX's channels-first order brings into a channels-last graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dialects.core.operation import BlockArgument, Constant, Module, Operation, Value
from ..dialects.nn.activation import UnaryOperation
from ..dialects.nn.matmul import MatmulOp
from ..dialects.nn.movement import ReshapeOp, TransposeOp
from ..dialects.nn.reduction import ReduceMeanOp
from .canonical.movement import MOVEMENT, moves_elements
from .framework.base import Pass
from .framework.environment import Environment
from .framework.matching import defined_by
from .framework.rewriting import RewritePattern, Rewriter, apply_patterns
from .layouts.reshaping import ReshapeBeforeTranspose
from .layouts.transparent import TRANSPARENT, in_other_layout, inverse, keeps_channels, laid_out


@dataclass(frozen=True)
class PropagateLayouts(Pass):
    """Move transposes together until they cancel, or to the inputs and outputs of the network.

    First every transpose sinks through the operations that can work in either layout (element-wise, concat, slice,
    pad, gather, means, softmax, reshapes of whole axes), as long as each of their other operands is a constant or is
    transposed alike, and into the rows of a weight behind a flattening. Neighbours cancel or merge. What is left then
    rises where it reaches an input of the network (or another transpose that it cancels). Neither step ever adds a
    transpose to a path, sinking only goes down and rising only up, so both come to an end.
    """

    name: ClassVar[str] = "propagate-layouts"

    def run(self, module: Module, environment: Environment) -> None:
        apply_patterns(module, [*MOVEMENT, SinkTranspose(), ReshapeBeforeTranspose(), FlattenIntoWeight()])
        apply_patterns(module, [*MOVEMENT, RaiseTranspose(), MergeTwins()])


@dataclass(frozen=True)
class SinkTranspose(RewritePattern[Operation]):
    """op(T(x), T(y), c) == T(op(x, y, T^-1(c)))."""

    op_classes: ClassVar[tuple[type[Operation], ...]] = TRANSPARENT

    def rewrite(self, op: Operation, rewriter: Rewriter) -> None:
        transposes = [t for value in laid_out(op) if (t := defined_by(value, TransposeOp)) is not None]
        if not transposes:
            return
        permutation = transposes[0].permutation
        if not all(is_free(value, permutation) for value in laid_out(op)):
            return
        operands = [freely(value, permutation, op, rewriter) for value in laid_out(op)]
        moved = in_other_layout(op, permutation, operands)
        if moved is None:
            return
        twin, result_permutation = moved
        rewriter.insert_before(op, twin)
        sunk = TransposeOp.build(twin.result, permutation=result_permutation, location=transposes[0].location)
        rewriter.insert_before(op, sunk)
        rewriter.replace(op, sunk.out)


@dataclass(frozen=True)
class RaiseTranspose(RewritePattern[TransposeOp]):
    """T(op(x, c)) == op(T(x), T(c)), where everything above up to an input of the network can follow."""

    def rewrite(self, op: TransposeOp, rewriter: Rewriter) -> None:
        target = inverse(op.permutation)
        if not rises(op.data, target):
            return
        below = op.data.defining_op
        assert below is not None
        operands: list[Value[Any]] = []
        for value in laid_out(below):
            if is_free(value, target):
                operands.append(freely(value, target, below, rewriter))
            else:
                raised = TransposeOp.build(value, permutation=op.permutation, location=op.location)
                operands.append(rewriter.insert_before(below, raised).out)
        moved = in_other_layout(below, target, operands)
        assert moved is not None and moved[1] == target
        rewriter.insert_before(op, moved[0])
        rewriter.replace(op, moved[0].result)


@dataclass(frozen=True)
class FlattenIntoWeight(RewritePattern[MatmulOp]):
    """flatten(T(x)) @ w == flatten(x) @ w', where w' has the rows of w in the order in which x stores them."""

    def rewrite(self, op: MatmulOp, rewriter: Rewriter) -> None:
        value = op.lhs
        while isinstance(value.defining_op, UnaryOperation) and value.has_one_use:
            value = value.defining_op.data
        flatten = defined_by(value, ReshapeOp, only_use=True)
        transpose = defined_by(flatten.data, TransposeOp) if flatten is not None else None
        if flatten is None or transpose is None or not isinstance(op.rhs, Constant) or op.rhs.type.rank != 2:
            return
        shape, permutation = transpose.out.type.shape, transpose.permutation
        if permutation[0] != 0 or flatten.shape != (shape[0], flatten.data.type.size // max(shape[0], 1)):
            return
        stored = np.arange(flatten.shape[1]).reshape(transpose.data.type.shape[1:])
        order = stored.transpose([axis - 1 for axis in permutation[1:]]).reshape(-1)
        rows = op.rhs.array.take(np.argsort(order), axis=0)
        weight = rewriter.module.add_constant(str(op.rhs.name), rows)
        rewriter.set_operand(op, 1, weight)
        rewriter.replace(flatten, ReshapeOp.build(transpose.data, shape=flatten.shape))


@dataclass(frozen=True)
class MergeTwins(RewritePattern[TransposeOp]):
    """Equal transposes of one input of the network are one: the first."""

    def rewrite(self, op: TransposeOp, rewriter: Rewriter) -> None:
        if not isinstance(op.data, BlockArgument) or op.parent is None:
            return
        twins = {u for u in op.data.users if isinstance(u, TransposeOp) and u.permutation == op.permutation}
        if len(twins) < 2:
            return
        # Users are in no order, and only the first of the block is defined before all others are read.
        first = next(each for each in op.parent if isinstance(each, TransposeOp) and each in twins)
        for twin in twins - {first}:
            rewriter.replace(twin, first.out)


def is_free(value: Value[Any], permutation: tuple[int, ...]) -> bool:
    """True if some T^-1(value) costs nothing: T(x) itself, a constant, or a shape in which T moves only unit axes."""
    transpose = defined_by(value, TransposeOp)
    if transpose is not None:
        return transpose.permutation == permutation
    rank = len(permutation)
    if value.type.rank > rank:
        return False
    shape = (1,) * (rank - value.type.rank) + value.type.shape
    return isinstance(value, Constant) or not moves_elements(shape, inverse(permutation))


def freely(value: Value[Any], permutation: tuple[int, ...], anchor: Operation, rewriter: Rewriter) -> Value[Any]:
    """The T^-1(value) that `is_free` promises; what it takes is inserted before `anchor`."""
    transpose = defined_by(value, TransposeOp)
    if transpose is not None:
        return transpose.data
    back = inverse(permutation)
    shape = (1,) * (len(permutation) - value.type.rank) + value.type.shape
    if isinstance(value, Constant):
        array = value.array.reshape(shape).transpose(back)
        kind = value.type.with_shape(tuple(int(n) for n in array.shape))
        return rewriter.module.add_constant(str(value.name), array, kind)
    target = tuple(shape[axis] for axis in back)
    return rewriter.insert_before(anchor, ReshapeOp.build(value, shape=target)).out


def rises(value: Value[Any], permutation: tuple[int, ...]) -> bool:
    """True if T^-1(value) can be had by transposing one input of the network instead, and no other transpose."""
    op = value.defining_op
    if op is None or not isinstance(op, TRANSPARENT) or not value.has_one_use:
        return False
    while True:
        if len(op.result.type.shape) != len(permutation) or drops_axes(op) or keeps_channels(op, permutation):
            return False
        costly = [operand for operand in laid_out(op) if not is_free(operand, permutation)]
        if not costly:
            return any(defined_by(operand, TransposeOp) is not None for operand in laid_out(op))
        if len(costly) > 1:
            return False
        (operand,) = costly
        if operand.type.rank != len(permutation):
            return False
        if isinstance(operand, BlockArgument):
            return True
        above = operand.defining_op
        if above is None or not isinstance(above, TRANSPARENT) or not operand.has_one_use:
            return False
        op = above


def drops_axes(op: Operation) -> bool:
    """True for a mean whose result has fewer axes than its operand."""
    return isinstance(op, ReduceMeanOp) and not op.keepdims

"""Reshapes behind a transpose: where they split or join whole axes, they can stand before it."""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects.nn.movement import ReshapeOp, TransposeOp
from ..canonical.movement import Span, matching_groups
from ..framework.matching import defined_by
from ..framework.rewriting import RewritePattern, Rewriter


@dataclass(frozen=True)
class ReshapeBeforeTranspose(RewritePattern[ReshapeOp]):
    """reshape(transpose(x)) == transpose'(reshape'(x)), where axes that are joined or split stay together in x."""

    def rewrite(self, op: ReshapeOp, rewriter: Rewriter) -> None:
        transpose = defined_by(op.data, TransposeOp)
        if transpose is None or not op.out.type.size:
            return
        groups = matching_groups(transpose.out.type.shape, op.shape)
        source_shape = transpose.data.type.shape
        placed: list[tuple[int, Span]] = []
        for (begin, end), target in groups:
            axes = [axis for axis in transpose.permutation[begin:end] if source_shape[axis] != 1]
            between = range(axes[0], axes[-1] + 1) if axes else range(0)
            if axes != [axis for axis in between if source_shape[axis] != 1]:
                return
            placed.append((axes[0] if axes else -1, target))
        order = sorted(range(len(placed)), key=lambda index: placed[index][0])
        axes_in_order = [axis for index in order for axis in range(*placed[index][1])]
        permutation = tuple(axes_in_order.index(axis) for axis in range(len(op.shape)))
        moved = ReshapeOp.build(transpose.data, shape=tuple(op.shape[a] for a in axes_in_order), location=op.location)
        rewriter.insert_before(op, moved)
        if permutation == tuple(range(len(permutation))):
            rewriter.replace(op, moved.out)
            return
        sunk = TransposeOp.build(moved.out, permutation=permutation, location=transpose.location)
        rewriter.insert_before(op, sunk)
        rewriter.replace(op, sunk.out)

"""Sequences get a row for every step, so that strips can be cut from them as from images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..dialects.core.operation import Module, Value
from ..dialects.tile.indexing import GatherOp
from ..dialects.tile.memory import AllocOp, LoadOp, TransferOp
from ..dialects.tile.movement import FillOp
from .framework.base import Pass, at_least
from .framework.environment import Environment
from .scheduling.layers import Program, Unit
from .scheduling.rows import can_split, pixel_strides, row_strides, split, split_transfer


@dataclass(frozen=True)
class SplitRows(Pass):
    """Make the pixels of an instruction its rows where a tensor is a sequence: strips are cut along rows only.

    One row of pixels (a sequence [1, T, C], a signal [N, 1, L, C]) is turned into T rows of one pixel. A tensor whose
    pixels are rows for one instruction (the scores of an attention, of which a product writes a matrix at a time) has
    them as rows for all others that take each pixel by itself: rows that follow each other without gaps are joined. The
    instructions do the same to the same bytes in the same order.

    A constant that is read row by row (a mask, embeddings of positions) and takes more than 1 / `share` of the SRAM
    becomes a tensor with rows as well, which can be loaded strip by strip.
    """

    name: ClassVar[str] = "split-rows"

    share: int = at_least(1, 8)

    def run(self, module: Module, environment: Environment) -> None:
        """Rewrite the instructions of @main, and the rows of the tensors that they touch."""
        program = Program.of(module.main)
        rows: dict[Value[Any], int] = {}
        waiting = [unit for unit in program.units if can_split(unit)]
        for unit in waiting:
            if unit.main.attributes.get("out_h") == 1:
                split(unit)
        for unit in program.units:
            if unit.rows > 1 and unit.main.attributes.get("out_w") == 1:
                _note(rows, row_strides(unit))
        while ready := [unit for unit in waiting if can_split(unit) and _has_finer_rows(rows, pixel_strides(unit))]:
            for unit in ready:
                split(unit)
                _note(rows, row_strides(unit))
        finer = {tensor: stride for tensor, stride in rows.items() if _divides(stride, program.row_stride(tensor))}
        for tensor, stride in finer.items():
            alloc = tensor.defining_op
            assert isinstance(alloc, AllocOp)
            alloc.row_stride = stride
        for unit in program.units:
            if isinstance(unit.main, (TransferOp, GatherOp, FillOp)):
                for tensor in finer.keys() & set(unit.tensors):
                    split_transfer(unit.main, finer[tensor])
        limit = environment.require_target(self.name).sram_bytes // self.share
        _give_rows_to_constants(program, limit)


def _give_rows_to_constants(program: Program, limit: int) -> None:
    """Constants of more than `limit` bytes that units read only row by row become tensors."""
    users: dict[LoadOp, list[Unit]] = {}
    for unit in program.units:
        for load in unit.constants:
            if load.size > limit:
                users.setdefault(load, []).append(unit)
    for load, units in users.items():
        strides = [row_strides(unit).get(load.destination, 0) for unit in units]
        alloc = load.destination.defining_op
        if min(strides) and not load.size % min(strides) and isinstance(alloc, AllocOp):
            alloc.row_stride = min(strides)
            split_transfer(load, alloc.row_stride)


def _divides(stride: int, whole: int) -> bool:
    return stride < whole and whole % stride == 0


def _note(rows: dict[Value[Any], int], strides: dict[Value[Any], int]) -> None:
    for tensor, stride in strides.items():
        rows[tensor] = min(stride, rows.get(tensor, stride))


def _has_finer_rows(rows: dict[Value[Any], int], pixels: dict[Value[Any], int]) -> bool:
    """True if the pixels of any tensor are rows already."""
    return any(rows.get(tensor, 0) == stride for tensor, stride in pixels.items())

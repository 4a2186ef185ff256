"""Which results are worth padding: a simple rule that never lets a reduction grow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...backends.target import Target
from ...dialects.core.operation import Function, Operation, Value
from ...dialects.nn.activation import PReluOp
from ...dialects.nn.convolution import Conv2dOp
from ...dialects.nn.elementwise import BinaryOperation
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.movement import ConcatOp, PadOp, PermuteChannelsOp, ReshapeOp, SliceOp, TransposeOp
from ...dialects.nn.pooling import AveragePoolOp, MaxPoolOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.quant.ops import LookupOp, RequantizeOp
from .layout import Layout

_KEEPING = (
    BinaryOperation,
    RequantizeOp,
    LookupOp,
    PReluOp,
    MaxPoolOp,
    AveragePoolOp,
    ReduceMeanOp,
    PermuteChannelsOp,
    PadOp,
    ReshapeOp,
    TransposeOp,
)


@dataclass(eq=False)
class Family:
    """Values whose channels are the same ones, connected by operations that treat channels one by one."""

    values: list[Value[Any]] = field(default_factory=list[Value[Any]])
    parts: list[Family] = field(default_factory=list["Family"])
    """The families that concats and slices of channels make this one of."""

    growth: int = 0
    """How many channels wider it becomes if everything that may be padded is."""

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.values[0].type.shape[-1] if self.values[0].type.rank else 1


def pad_everything(function: Function, multiple: int) -> dict[Value[Any], Layout]:
    """Every dense convolution and every product with weights gets a multiple of `multiple` output channels."""
    return {
        op.result: Layout.padded(op.result.type.shape[-1], multiple) for op in function.body if _has_free_outputs(op)
    }


def pad_where_free(function: Function, multiple: int, target: Target) -> dict[Value[Any], Layout]:
    """Pad what a channel concat would otherwise place across lanes, if no reduction gets longer.

    Only machines without lane rotation gain: there a tensor that starts within a line cannot be read in line. A family
    of values is padded when all of these hold: it ends in a channel concat that puts something behind it; all of it
    comes from convolutions and products whose outputs are free to choose; nothing that reads it, or what concats and
    slices make of it, must have the empty places cut away; and every product that reads it needs as many reduction
    vectors, taps and channels folded together, as before: ceil(taps * padded / lanes) == ceil(taps * channels / lanes),
    even if everything else is padded too.
    """
    if target.crossbar.lane_rotation:
        return {}
    families = _families(function)
    candidates = [family for family in families if _is_candidate(family, multiple)]
    for family in candidates:
        family.growth = -family.channels % multiple
    for family in families:
        # Parts come before what is made of them.
        family.growth += sum(part.growth for part in family.parts)
    spoilt = {
        part
        for family in reversed(families)
        if family.growth and _is_worse(family, target.array.lanes)
        for part in _ancestors(family)
    }
    return {
        op.result: Layout.padded(family.channels, multiple)
        for family in candidates
        if family not in spoilt
        for op in _sources(family)
        if op is not None
    }


def _has_free_outputs(op: Operation) -> bool:
    if isinstance(op, Conv2dOp):
        return op.groups == 1
    return isinstance(op, MatmulOp) and op.has_weights


def _keeps_channels(op: Operation) -> bool:
    return isinstance(op, _KEEPING) or (isinstance(op, Conv2dOp) and op.is_depthwise)


def _is_channel_concat(op: Operation) -> bool:
    return isinstance(op, ConcatOp) and op.axis == op.out.type.rank - 1


def _families(function: Function) -> list[Family]:
    """All families, in the order of their first value."""
    of: dict[Value[Any], Family] = {value: Family([value]) for value in function.arguments}
    mixing: list[Operation] = []
    for op in function.body:
        for result in op.results:
            of[result] = Family([result])
            if _keeps_channels(op):
                for value in op.operands:
                    if value in of and value.type.shape[-1:] == result.type.shape[-1:]:
                        _merge(of, of[value], of[result])
            elif isinstance(op, SliceOp) or _is_channel_concat(op):
                mixing.append(op)
    for op in mixing:
        of[op.result].parts += [of[value] for value in op.operands if value in of]
    return list(dict.fromkeys(of.values()))


def _merge(of: dict[Value[Any], Family], first: Family, second: Family) -> None:
    if first is not second:
        first.values += second.values
        of.update(dict.fromkeys(second.values, first))


def _sources(family: Family) -> list[Operation | None]:
    return [op for value in family.values if (op := value.defining_op) is None or not _keeps_channels(op)]


def _is_candidate(family: Family, multiple: int) -> bool:
    followed = any(
        _is_channel_concat(user) and index < len(user.operands) - 1
        for value in family.values
        for user, index in value.uses
    )
    if not followed or family.channels % multiple == 0:
        return False
    return all(op is not None and _has_free_outputs(op) for op in _sources(family))


def _ancestors(family: Family) -> set[Family]:
    found: set[Family] = set()
    waiting = [family]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += current.parts
    return found


def _is_worse(family: Family, lanes: int) -> bool:
    """True if a reader of the family would need more reduction vectors, or have the empty places cut away first."""
    inside = set(family.values)
    for value in family.values:
        for op in value.users:
            if isinstance(op, Conv2dOp) and op.groups == 1 and op.operands[0] is value:
                taps = op.weight.type.shape[0] * op.weight.type.shape[1]
            elif _has_free_outputs(op) and op.operands[0] is value:
                taps = 1
            elif _carries(op) or (op.results and op.results[0] in inside):
                continue
            else:
                return True
            if _vectors(taps * family.channels, lanes) != _vectors(taps * (family.channels + family.growth), lanes):
                return True
    return False


def _carries(op: Operation) -> bool:
    return _is_channel_concat(op) or (isinstance(op, SliceOp) and op.steps[-1] == 1)


def _vectors(length: int, lanes: int) -> int:
    return -(-length // lanes)

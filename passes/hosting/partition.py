"""Which operations run on the host, and in how few calls."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ...dialects.core.operation import Constant, Function, Operation, Terminator
from ...dialects.nn.movement import DATA_MOVEMENT
from ..quantization.legality import float_operations, problem_of


@dataclass
class Stages:
    """An order of all operations in which machine and host take turns: stage by stage, the machine first.

    A host operation is in the last stage of what it reads; a machine operation comes one stage after what it reads of
    the host. All host operations of a stage are one call: a path that leaves them for the machine ends in a later
    stage, so no call waits for itself, and there are no more calls than turns on the longest path.
    """

    machine: list[list[Operation]] = field(default_factory=list[list[Operation]])
    host: list[list[Operation]] = field(default_factory=list[list[Operation]])

    @classmethod
    def of(cls, function: Function, on_host: Collection[Operation]) -> Stages:
        """The stages of all operations but the terminator."""
        stages, stage = cls(), dict[Operation, int]()
        for op in function.body:
            if op.has_trait(Terminator):
                continue
            found = 0
            for value in op.operands:
                source = value.defining_op
                if source is not None:
                    found = max(found, stage[source] + (source in on_host and op not in on_host))
            stage[op] = found
            while len(stages.machine) <= found:
                stages.machine.append([])
                stages.host.append([])
            (stages.host if op in on_host else stages.machine)[found].append(op)
        return stages


def host_operations(function: Function) -> dict[Operation, str]:
    """The operations that have no integer form, with the reason, and those that only move data between them."""
    refused = {op: reason for op in float_operations(function) if (reason := problem_of(op))}
    between = [op for op in float_operations(function) if isinstance(op, DATA_MOVEMENT) and op not in refused]
    kept = set(between)
    while True:
        lost = {op for op in kept if not _is_between(op, refused.keys() | kept)}
        if not lost:
            break
        kept -= lost
    reason = "moves data between operations of the host"
    return {op: refused.get(op, reason) for op in function.body if op in refused or op in kept}


def _is_between(op: Operation, host: Collection[Operation]) -> bool:
    sources = [value.defining_op for value in op.operands if not isinstance(value, Constant)]
    users = [user for result in op.results for user in result.users]
    return all(source in host for source in sources) and all(u in host or u.has_trait(Terminator) for u in users)

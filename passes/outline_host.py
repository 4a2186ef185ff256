"""What has no integer form moves into functions that the host runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..dialects.builtin import ReturnOp
from ..dialects.core.operation import Constant, Module, Operation, Terminator, Value
from ..dialects.nn.onnx import HostOp, host_word
from .framework.base import Pass
from .framework.environment import Environment
from .hosting.partition import Stages, host_operations


@dataclass(frozen=True)
class OutlineHost(Pass):
    """Move the operations without an integer form into functions of the host, called by nn.host, if the user allows it.

    The calls are as few as the order of the network permits, and no call needs its own results. What such a call reads
    of the machine is dequantized on the way out, and what the machine reads of it is quantized on the way back. Without
    the permission nothing moves: then insert-quantization refuses these operations. A warning names all that the host
    runs, calls that the module came with included.
    """

    name: ClassVar[str] = "outline-host"

    def run(self, module: Module, environment: Environment) -> None:
        main = module.main
        on_host = host_operations(main) if environment.allow_host else {}
        stages = Stages.of(main, on_host) if on_host else Stages()
        terminator = main.body.terminator
        for machine, host in zip(stages.machine, stages.host, strict=True):
            for op in machine:
                main.body.insert_before(terminator, op)
            if host:
                for op in host:
                    message = f"runs on the host: {on_host[op]}"
                    environment.remark(self.name, "missed", message, location=op.location)
                _outline(module, host, terminator)
        remark_host_calls(module, environment)


def remark_host_calls(module: Module, environment: Environment) -> None:
    """Warn of all that the host runs, call by call; nothing without calls."""
    calls = [op for op in module.main.body if isinstance(op, HostOp)]
    bodies = [[op for op in module.functions[call.callee].body if not op.has_trait(Terminator)] for call in calls]
    if not calls:
        return
    total = sum(map(len, bodies))
    words = "; ".join(", ".join(host_word(op) for op in body) for body in bodies)
    count = f"{total} operation{'s' if total > 1 else ''} in {len(calls)} call{'s' if len(calls) > 1 else ''}"
    message = f"the host runs {count}, in float: {words}"
    environment.remark(OutlineHost.name, "warning", message, operations=total, calls=len(calls))


def _outline(module: Module, operations: Sequence[Operation], anchor: Operation) -> HostOp:
    """Move operations of @main into a function of its own; a call takes their place before `anchor`."""
    inside = set(operations)
    read: dict[Value[Any], None] = {}
    for op in operations:
        outside = (v for v in op.operands if not isinstance(v, Constant) and v.defining_op not in inside)
        read.update(dict.fromkeys(outside))
    returned = [v for op in operations for v in op.results if any(user not in inside for user in v.users)]
    function = module.add_function(_name(module), _arguments(list(read)), [v.type for v in returned])
    body = dict(zip(read, function.arguments, strict=True))
    for op in operations:
        function.body.append(op)
        for index, value in enumerate(op.operands):
            if value in body:
                op.set_operand(index, body[value])
    location = operations[0].location.merged(*(op.location for op in operations[1:]))
    call = HostOp(list(read), [v.type for v in returned], {"callee": function.name}, location)
    for value, result in zip(returned, call.results, strict=True):
        result.name = value.name
        for user, index in value.uses:
            if user not in inside:
                user.set_operand(index, result)
    function.body.append(ReturnOp.build(*returned))
    anchor.function.body.insert_before(anchor, call)
    return call


def _name(module: Module) -> str:
    return next(name for n in range(len(module.functions) + 1) if (name := f"host{n}") not in module.functions)


def _arguments(values: Sequence[Value[Any]]) -> list[tuple[str, Any]]:
    return [(f"input{index}", value.type) for index, value in enumerate(values)]

"""Tokens between the engines: a legal order of execution, deadlocks, and which instruction is ordered after which."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..dialects.core.diagnostics import CompileError
from ..dialects.tile.instruction import ENGINES
from .encoding import Instruction

Clocks = npt.NDArray[np.int32]


def execution_order(
    instructions: Sequence[Instruction], describe: Callable[[int], str] | None = None
) -> tuple[list[int], Clocks]:
    """An order in which the four in-order engines may execute the program, and a vector clock of every instruction.

    The order is that of the program wherever tokens allow it. clocks[i, e] is the number of instructions of engine e
    (of `ENGINES`) that are complete before instruction i starts, whatever the timing: instruction j of engine e, the
    k-th of its engine, is ordered before i exactly if k < clocks[i, e]. Engines complete in order.
    CompileError names every engine's blocked instruction if a token never comes; `describe(i)` words it.
    """
    queues = {name: deque[int]() for name in ENGINES}
    for index, instruction in enumerate(instructions):
        queues[instruction.op_class.engine].append(index)
    tokens = {(source, to): deque[list[int]]() for source in ENGINES for to in ENGINES}
    clock = {name: [0] * len(ENGINES) for name in ENGINES}
    clocks = np.zeros((len(instructions), len(ENGINES)), np.int32)
    order: list[int] = []
    while len(order) < len(instructions):
        ready = [
            (queue[0], name)
            for name, queue in queues.items()
            if queue and all(tokens[source, name] for source in instructions[queue[0]].wait)
        ]
        if not ready:
            raise CompileError(_deadlock(instructions, queues, tokens, describe))
        index, name = min(ready)
        queues[name].popleft()
        instruction, now = instructions[index], clock[name]
        for source in instruction.wait:
            now = [max(pair) for pair in zip(now, tokens[source, name].popleft(), strict=True)]
        clocks[index] = now
        now = list(now)
        now[ENGINES.index(name)] += 1
        clock[name] = now
        for to in instruction.signal:
            tokens[name, to].append(now)
        order.append(index)
    return order, clocks


def _deadlock(
    instructions: Sequence[Instruction],
    queues: dict[str, deque[int]],
    tokens: dict[tuple[str, str], deque[list[int]]],
    describe: Callable[[int], str] | None,
) -> str:
    blocked: list[str] = []
    for name, queue in queues.items():
        if queue:
            index = queue[0]
            missing = [source for source in instructions[index].wait if not tokens[source, name]]
            words = describe(index) if describe else f"instruction {index} ({instructions[index].op_class.name})"
            blocked.append(f"{words} waits for a token of {' and '.join(missing)} that never comes")
    return "deadlock: " + "; ".join(blocked)

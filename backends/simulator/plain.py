"""The plain path: one instruction is the `evaluate` of its tile operation, one sample after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..encoding import Instruction, space_of
from .memory import Memory

Step = Callable[[], None]


def plain_step(instruction: Instruction, memory: Memory) -> Step:
    """Bind an instruction to the memories; the step executes it for all samples."""
    bases: dict[str, int] = {}
    located = {
        name: memory.locate(space_of(instruction.op_class, name), address)
        for name, address in instruction.addresses.items()
    }
    for name, (_, base, _) in located.items():
        bases[name] = base
    op = instruction.operation(bases)
    arguments = [
        [array if shared else array[s] for array, _, shared in located.values()] for s in range(memory.samples)
    ]

    def step() -> None:
        for sample in arguments:
            op.evaluate(*sample)

    return step


def sequence(steps: Sequence[Step]) -> Step:
    """One step that runs all of them."""
    if len(steps) == 1:
        return steps[0]
    chain = tuple(steps)

    def run() -> None:
        for step in chain:
            step()

    return run

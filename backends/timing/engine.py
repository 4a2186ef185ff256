"""The timeline of a program: when every instruction starts and ends on the four engines, and what it waited for.

An engine starts its instructions in order. The start is the earliest cycle at which the engine is free, a token of
every awaited engine is there and the resources are free. Resources are the ports of the bank groups, of which an
instruction holds a part from its start until its latency has passed, and the one DRAM channel, held by load or store
for the occupancy. What all engines hold of the read (or write) ports of a group is at most the whole; an engine counts
with the largest part that one of its instructions holds, because they access the banks one after the other. Tokens are
put when the latency has passed; there is one counter for every ordered pair of engines. Of several instructions that
could start next the one with the earliest start does; ties go in the order of `PRIORITY`.

Whatever starts next can only delay others and put tokens later than its start, so committing starts in the order of
time is exact; one step a commit makes the whole linear in the number of instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from ...dialects.core.diagnostics import UNKNOWN, CompileError, Diagnostic, Location
from .record import PARTS, InstructionTiming

PRIORITY: tuple[str, ...] = ("array", "vector", "load", "store")
"""The engines, and who goes first when two could start in the same cycle."""

DRAM_ENGINES = frozenset(("load", "store"))


@dataclass(frozen=True, slots=True)
class QueuedInstruction:
    """An instruction in the queue of its engine, in program order.

    `wait` names the engines of which one token each is taken at the start, `signal` those that get one at the end.
    `layer` is an index that the ledger groups by; `name` and `location` appear in messages.
    """

    engine: str
    timing: InstructionTiming
    wait: tuple[str, ...] = ()
    signal: tuple[str, ...] = ()
    layer: int = 0
    name: str = "instruction"
    location: Location = field(default=UNKNOWN)


@dataclass(frozen=True, slots=True)
class Slot:
    """When one instruction ran and what kept it from starting earlier; indices are positions in the program.

    From `free` (its engine is free) to `ready` it waited for the token that instruction `producer` put (-1: no wait);
    from `ready` to `start` for the resource that instruction `holder` held (-1: no wait), ports of a bank group or the
    DRAM `channel`. The occupancy ends at `end`; at `done` the effect is visible, tokens are put and banks released.
    """

    free: int
    ready: int
    start: int
    end: int
    done: int
    producer: int
    holder: int
    channel: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """The slots in program order, and the number of cycles until the last instruction is done."""

    program: tuple[QueuedInstruction, ...]
    slots: tuple[Slot, ...]
    cycles: int

    def previous(self) -> list[int]:
        """For every instruction the one before it on its engine, or -1."""
        latest: dict[str, int] = {}
        found: list[int] = []
        for index, instruction in enumerate(self.program):
            found.append(latest.get(instruction.engine, -1))
            latest[instruction.engine] = index
        return found


def run_timeline(program: Sequence[QueuedInstruction]) -> Timeline:
    """The timeline of a program; CompileError names the instructions that wait for tokens nobody puts."""
    return _Machine(tuple(program)).run()


@dataclass(frozen=True, slots=True)
class _Hold:
    """`parts` of the ports of a bank group that an instruction holds until `released`."""

    released: int
    index: int
    parts: int


class _Machine:
    """The state between two commits: queues, tokens on their way, and until when resources are held."""

    def __init__(self, program: tuple[QueuedInstruction, ...]) -> None:
        self.program = program
        self.queues: dict[str, list[int]] = {engine: [] for engine in PRIORITY}
        for index, instruction in enumerate(program):
            self.queues[instruction.engine].append(index)
        self.position = dict.fromkeys(PRIORITY, 0)
        self.engine_free = dict.fromkeys(PRIORITY, 0)
        self.channel = (0, -1)
        self.tokens: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self.held: dict[tuple[int, int], dict[str, list[_Hold]]] = {}
        """By (group, is write) and engine; what was released before the last start is forgotten."""
        self.reached: dict[str, tuple[int, int, int, bool]] = {}
        """By engine: when its next instruction was ready, the earliest start known for it, and what it waits for.

        Commits only delay it, and all of them started by then, so that the search goes on from there, unless a token
        that comes earlier than the one it had in view has been put since.
        """

    def run(self) -> Timeline:
        """Commit one instruction after the other."""
        slots: list[Slot | None] = [None] * len(self.program)
        for _ in self.program:
            best: tuple[int, Slot] | None = None
            for engine in PRIORITY:
                candidate = self._candidate(engine)
                if candidate and (best is None or candidate[1].start < best[1].start):
                    best = candidate
            if best is None:
                raise self._deadlock()
            slots[best[0]] = best[1]
            self._commit(*best)
        complete = tuple(slot for slot in slots if slot is not None)
        return Timeline(self.program, complete, max((slot.done for slot in complete), default=0))

    def _candidate(self, engine: str) -> tuple[int, Slot] | None:
        """The next instruction of an engine and its earliest slot, None if there is none or a token is missing."""
        queue, position = self.queues[engine], self.position[engine]
        if position == len(queue):
            return None
        index = queue[position]
        instruction = self.program[index]
        free = ready = self.engine_free[engine]
        producer = holder = -1
        for source in instruction.wait:
            tokens = self.tokens.get((source, engine))
            if not tokens:
                return None
            if tokens[0][0] > ready:
                ready, producer = tokens[0]
        start, channel = ready, False
        known = self.reached.get(engine)
        if known and known[0] == ready:
            _, start, holder, channel = known
        if engine in DRAM_ENGINES and self.channel[0] > start:
            start, holder = self.channel
            channel = True
        timing = instruction.timing
        for write, groups in enumerate((timing.reads, timing.writes)):
            for group, parts in groups.items():
                released, by = self._released(engine, group, write, parts, start)
                if released > start:
                    start, holder, channel = released, by, False
        self.reached[engine] = (ready, start, holder, channel)
        end = start + timing.occupancy
        return index, Slot(free, ready, start, end, end + timing.latency, producer, holder, channel)

    def _released(self, engine: str, group: int, write: int, parts: int, start: int) -> tuple[int, int]:
        """The first cycle from `start` on in which the other engines leave `parts`, and who then lets go."""
        others = [
            [hold for hold in holds if hold.released > start]
            for other, holds in self.held.get((group, write), {}).items()
            if other != engine
        ]
        by = -1
        while sum(max((hold.parts for hold in holds), default=0) for holds in others) + parts > PARTS:
            next_release = min((hold for holds in others for hold in holds), key=lambda hold: hold.released)
            start, by = next_release.released, next_release.index
            others = [[hold for hold in holds if hold.released > start] for holds in others]
        return start, by

    def _commit(self, index: int, slot: Slot) -> None:
        instruction = self.program[index]
        engine = instruction.engine
        self.position[engine] += 1
        self.reached.pop(engine, None)
        self.engine_free[engine] = slot.end
        if engine in DRAM_ENGINES:
            self.channel = (slot.end, index)
        for source in instruction.wait:
            heappop(self.tokens[source, engine])
        for destination in instruction.signal:
            heappush(self.tokens.setdefault((engine, destination), []), (slot.done, index))
        for write, groups in enumerate((instruction.timing.reads, instruction.timing.writes)):
            for group, parts in groups.items():
                holders = self.held.setdefault((group, write), {})
                live = [hold for hold in holders.get(engine, ()) if hold.released > slot.start]
                holders[engine] = [*live, _Hold(slot.done, index, parts)]

    def _deadlock(self) -> CompileError:
        """One message for every engine that waits for a token that is never put."""
        problems: list[Diagnostic] = []
        for engine in PRIORITY:
            if self.position[engine] == len(self.queues[engine]):
                continue
            index = self.queues[engine][self.position[engine]]
            instruction = self.program[index]
            missing = [source for source in instruction.wait if not self.tokens.get((source, engine))]
            names = " and ".join(missing)
            text = f"deadlock: instruction {index} ({instruction.name}, {engine}) waits for a token from {names}"
            problems.append(Diagnostic(text, instruction.location))
        return CompileError(problems)

"""The timeline of a program: when every instruction starts and ends on the four engines, and what it waited for.

An engine starts its instructions in order. The start is the earliest cycle at which the engine is free, a token of
every awaited engine is there and, for load and store, the one DRAM channel is free. Tokens are put when the latency has
passed; there is one counter for every ordered pair of engines. Of load and store the load goes first.

While it executes, an instruction demands a part of the ports of bank groups (`InstructionTiming`). The engines take
what they demand in the order of `PRIORITY`; one that finds less left goes on at the share of its speed for which that
is enough, until others start or end. Speeds are in `PARTS` of the whole, rounded down, so that an instruction of n
cycles is n * PARTS units of work and all times are exact integers. What fills and empties the memory goes first: the
array waits for both.

Nothing that starts later changes what has happened, so that going from one start or end to the next is exact; a few
steps an instruction make the whole linear in the number of instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from ...dialects.core.diagnostics import UNKNOWN, CompileError, Diagnostic, Location
from .record import PARTS, InstructionTiming

PRIORITY: tuple[str, ...] = ("load", "store", "vector", "array")
"""The engines in the order in which they get the ports of banks."""

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
    """When one instruction ran and what kept it from starting or ending earlier; indices are positions in the program.

    From `free` (its engine is free) to `ready` it waited for the token that instruction `producer` put (-1: no wait);
    from `ready` to `start` for the DRAM channel that instruction `holder` held (-1: no wait). It executes until `end`,
    `stalled` cycles longer than its occupancy, because `rival` (the first of those, -1: none) and others used the ports
    of its banks. At `done` the effect is visible and tokens are put.
    """

    free: int
    ready: int
    start: int
    end: int
    done: int
    producer: int
    holder: int
    stalled: int
    rival: int


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


@dataclass(slots=True)
class _Engine:
    """The queue of an engine, and the instruction it executes (-1: none) with its units of work and its speed."""

    name: str
    queue: list[int] = field(default_factory=list[int])
    position: int = 0
    free: int = 0
    current: int = -1
    work: int = 0
    speed: int = 0
    rival: int = -1

    @property
    def next(self) -> int:
        """The next instruction, -1 if none is left."""
        return self.queue[self.position] if self.position < len(self.queue) else -1


class _Machine:
    """The state between two events: what the engines execute, and the tokens that are put or on their way."""

    def __init__(self, program: tuple[QueuedInstruction, ...]) -> None:
        self.program = program
        self.engines = [_Engine(name) for name in PRIORITY]
        by_name = {engine.name: engine for engine in self.engines}
        for index, instruction in enumerate(program):
            by_name[instruction.engine].queue.append(index)
        self.tokens: dict[tuple[str, str], list[tuple[int, int]]] = {}
        """By source and destination, the earliest first: when a token is put, and by which instruction."""
        self.transfer = -1
        """The last instruction that has held the DRAM channel."""
        self.begun: dict[int, tuple[int, int, int, int, int]] = {}
        self.slots: list[Slot | None] = [None] * len(program)
        self.now = 0

    def run(self) -> Timeline:
        """Go from event to event."""
        changed = False
        while True:
            for engine in self.engines:
                changed |= engine.current < 0 and self._start(engine)
            if changed:
                self._share()
            times = [self._next_event(engine) for engine in self.engines]
            coming = [time for time in times if time is not None]
            if not coming:
                break
            changed = self._advance(min(coming))
        if any(engine.next >= 0 for engine in self.engines):
            raise self._deadlock()
        complete = tuple(slot for slot in self.slots if slot is not None)
        return Timeline(self.program, complete, max((slot.done for slot in complete), default=0))

    def _start(self, engine: _Engine) -> bool:
        """Start the next instruction of an idle engine if it may start now."""
        index = engine.next
        ready = self._ready(engine)
        if ready is None or ready > self.now:
            return False
        instruction, free, producer, holder = self.program[index], engine.free, -1, -1
        if engine.name in DRAM_ENGINES:
            if any(other.current >= 0 for other in self.engines if other.name in DRAM_ENGINES):
                return False
            holder = self.transfer if self.now > ready else -1
            self.transfer = index
        latest = free
        for source in instruction.wait:
            put, by = heappop(self.tokens[source, engine.name])
            if put > latest:
                latest, producer = put, by
        self.begun[index] = (free, ready, self.now, producer, holder)
        engine.position += 1
        engine.current, engine.work, engine.rival = index, instruction.timing.occupancy * PARTS, -1
        return True

    def _ready(self, engine: _Engine) -> int | None:
        """When the tokens of the next instruction are there, as far as they are put; None if one is missing."""
        if engine.next < 0:
            return None
        ready = engine.free
        for source in self.program[engine.next].wait:
            tokens = self.tokens.get((source, engine.name))
            if not tokens:
                return None
            ready = max(ready, tokens[0][0])
        return ready

    def _next_event(self, engine: _Engine) -> int | None:
        """When an engine ends what it executes, or could start; None if that depends on other events."""
        if engine.current >= 0:
            return self.now + -(-engine.work // engine.speed) if engine.speed else None
        ready = self._ready(engine)
        return ready if ready is not None and ready > self.now else None

    def _advance(self, time: int) -> bool:
        """Let all engines work until then; true if one of them ends what it executes."""
        ended = False
        for engine in self.engines:
            if engine.current >= 0:
                engine.work -= engine.speed * (time - self.now)
                if engine.work <= 0:
                    self._end(engine, time)
                    ended = True
        self.now = time
        return ended

    def _end(self, engine: _Engine, time: int) -> None:
        index, instruction = engine.current, self.program[engine.current]
        free, ready, start, producer, holder = self.begun.pop(index)
        done = time + instruction.timing.latency
        stalled = time - start - instruction.timing.occupancy
        rival = engine.rival if stalled else -1
        self.slots[index] = Slot(free, ready, start, time, done, producer, holder, stalled, rival)
        for destination in instruction.signal:
            heappush(self.tokens.setdefault((engine.name, destination), []), (done, index))
        engine.current, engine.free = -1, time

    def _share(self) -> None:
        """Give the ports of the banks to the engines that execute."""
        left: dict[tuple[int, int], int] = {}
        users: dict[tuple[int, int], int] = {}
        for engine in self.engines:
            if engine.current < 0:
                continue
            timing = self.program[engine.current].timing
            demands = [
                ((write, group), parts)
                for write, groups in enumerate((timing.reads, timing.writes))
                for group, parts in groups.items()
            ]
            engine.speed = PARTS
            for place, parts in demands:
                speed = PARTS * left.get(place, PARTS) // parts
                if speed < engine.speed:
                    engine.speed = speed
                    engine.rival = users[place] if engine.rival < 0 else engine.rival
            for place, parts in demands:
                left[place] = left.get(place, PARTS) - -(-parts * engine.speed // PARTS)
                users[place] = engine.current

    def _deadlock(self) -> CompileError:
        """One message for every engine that waits for a token that is never put."""
        problems: dict[int, Diagnostic] = {}
        for engine in self.engines:
            index = engine.next
            if index >= 0:
                instruction = self.program[index]
                missing = [source for source in instruction.wait if not self.tokens.get((source, engine.name))]
                names = " and ".join(missing)
                what = f"instruction {index} ({instruction.name}, {engine.name})"
                text = f"deadlock: {what} waits for a token from {names}"
                problems[index] = Diagnostic(text, instruction.location)
        return CompileError([problems[index] for index in sorted(problems)])

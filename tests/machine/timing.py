"""Programs for tests of the timeline: instructions with given costs, and random programs that cannot deadlock."""

from collections import Counter
from dataclasses import replace

from hypothesis import strategies as st

from accelc.backends.target import load_target
from accelc.backends.timing.engine import PRIORITY, QueuedInstruction
from accelc.backends.timing.record import InstructionTiming

TARGET = load_target("tile32")


def ported(read_ports, write_ports):
    """tile32 with other bank ports."""
    return replace(TARGET, sram=replace(TARGET.sram, read_ports=read_ports, write_ports=write_ports))


def queued(engine, occupancy, latency=0, *, wait="", signal="", layer=0, reads=(), writes=()):
    """An instruction of a given cost; `wait` and `signal` are engines in one string."""
    slots = {"useful_mac": occupancy * TARGET.macs_per_cycle} if engine == "array" else {}
    timing = InstructionTiming(occupancy, latency, slots, reads=frozenset(reads), writes=frozenset(writes))
    return QueuedInstruction(engine, timing, tuple(wait.split()), tuple(signal.split()), layer)


@st.composite
def programs(draw, groups=3, engines=PRIORITY, max_size=14):
    """Random programs in which every token that is waited for was signalled earlier in program order."""
    outstanding = Counter()
    program = []
    held = st.frozensets(st.integers(0, groups - 1), max_size=2) if groups else st.just(frozenset())
    for index in range(draw(st.integers(1, max_size))):
        engine = draw(st.sampled_from(engines))
        available = [source for source in engines if outstanding[source, engine]]
        mask = draw(st.integers(0, 255))
        wait = [source for bit, source in enumerate(available) if mask >> bit & 1]
        signal = [other for bit, other in enumerate(engines, 4) if other != engine and mask >> bit & 1]
        outstanding.subtract((source, engine) for source in wait)
        outstanding.update((engine, other) for other in signal)
        program.append(
            queued(
                engine,
                draw(st.integers(1, 12)),
                draw(st.integers(0, 7)),
                wait=" ".join(wait),
                signal=" ".join(signal),
                layer=index * 3 // max_size,
                reads=draw(held),
                writes=draw(held),
            )
        )
    return program

"""Programs for tests of the timeline: instructions with given costs, and random programs that cannot deadlock."""

from collections import Counter

from hypothesis import strategies as st

from accelc.backends.target import load_target
from accelc.backends.timing.engine import PRIORITY, QueuedInstruction
from accelc.backends.timing.record import PARTS, InstructionTiming

TARGET = load_target("tile32")


def queued(engine, occupancy, latency=0, *, wait="", signal="", layer=0, reads=(), writes=()):
    """An instruction of a given cost; `wait` and `signal` are engines in one string.

    `reads` and `writes` are bank groups whose ports it holds as a whole, or the parts by group.
    """
    slots = {"useful_mac": occupancy * TARGET.macs_per_cycle} if engine == "array" else {}
    reads, writes = (parts if isinstance(parts, dict) else dict.fromkeys(parts, PARTS) for parts in (reads, writes))
    timing = InstructionTiming(occupancy, latency, slots, reads=reads, writes=writes)
    return QueuedInstruction(engine, timing, tuple(wait.split()), tuple(signal.split()), layer)


@st.composite
def programs(draw, groups=3, engines=PRIORITY, max_size=14):
    """Random programs in which every token that is waited for was signalled earlier in program order."""
    outstanding = Counter()
    program = []
    parts = st.sampled_from((1, PARTS // 3, PARTS // 2, PARTS // 2 + 1, PARTS))
    held = st.dictionaries(st.integers(0, groups - 1), parts, max_size=2) if groups else st.just({})
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

"""The rules of the engines played a cycle at a time: queues, tokens, bank ports and the DRAM channel, all explicit."""

from collections import Counter, deque

PARTS = 64  # of the ports of a bank group: what all engines hold is at most this


def step_through(program, limit=100_000):
    """Start and done cycle of every instruction; None where the program is stuck."""
    order = ("array", "vector", "load", "store")
    queues = {engine: deque(i for i, op in enumerate(program) if op.engine == engine) for engine in order}
    executing = {}  # engine -> (instruction, cycles left)
    holding = {}  # instruction -> cycles until its effect is visible
    tokens = Counter()
    starts, dones = {}, {}

    def may_start(engine):
        op = program[queues[engine][0]]
        if any(tokens[source, engine] < count for source, count in Counter(op.wait).items()):
            return False
        if engine in ("load", "store") and {"load", "store"} & set(executing):
            return False
        for kind in ("reads", "writes"):
            for group, parts in getattr(op.timing, kind).items():
                for other in order:
                    held = [
                        getattr(program[i].timing, kind).get(group, 0) for i in holding if program[i].engine == other
                    ]
                    parts += max(held, default=0) if other != engine else 0
                if parts > PARTS:
                    return False
        return True

    for cycle in range(limit):
        for index in [i for i, left in holding.items() if left == 0]:
            del holding[index]
            dones[index] = cycle
            for destination in program[index].signal:
                tokens[program[index].engine, destination] += 1
        for engine in [e for e, (_, left) in executing.items() if left == 0]:
            del executing[engine]
        for engine in order:
            if engine not in executing and queues[engine] and may_start(engine):
                index = queues[engine].popleft()
                timing = program[index].timing
                for source in program[index].wait:
                    tokens[source, engine] -= 1
                executing[engine] = (index, timing.occupancy)
                holding[index] = timing.occupancy + timing.latency
                starts[index] = cycle
        if not holding and not any(queues.values()):
            break
        if not holding:
            return None
        executing = {engine: (index, left - 1) for engine, (index, left) in executing.items()}
        holding = {index: left - 1 for index, left in holding.items()}
    return [(starts[i], dones[i]) for i in range(len(program))]

"""The rules of the engines played a cycle at a time: queues, tokens, bank ports and the DRAM channel, all explicit."""

from collections import Counter, deque

PARTS = 64  # what the ports of a bank group are divided into, and the speed of an engine


def step_through(program, limit=100_000):
    """Start and done cycle of every instruction; None where the program is stuck."""
    order = ("load", "store", "vector", "array")
    queues = {engine: deque(i for i, op in enumerate(program) if op.engine == engine) for engine in order}
    executing = {}  # engine -> [instruction, parts of cycles of work that are left]
    draining = {}  # instruction -> cycles until its effect is visible
    tokens = Counter()
    starts, dones = {}, {}

    def may_start(engine):
        op = program[queues[engine][0]]
        if any(tokens[source, engine] < count for source, count in Counter(op.wait).items()):
            return False
        return engine not in ("load", "store") or not {"load", "store"} & set(executing)

    def work():
        """One cycle: whoever is first in the order takes what it needs, the next what is left."""
        free = {}
        for engine in (each for each in order if each in executing):
            timing = program[executing[engine][0]].timing
            needs = {("read", g): parts for g, parts in timing.reads.items()}
            needs |= {("write", g): parts for g, parts in timing.writes.items()}
            speed = min([PARTS, *(PARTS * free.get(place, PARTS) // parts for place, parts in needs.items())])
            for place, parts in needs.items():
                free[place] = free.get(place, PARTS) - (parts * speed + PARTS - 1) // PARTS
                assert free[place] >= 0
            executing[engine][1] -= speed

    for cycle in range(limit):
        for engine, (index, left) in list(executing.items()):
            if left <= 0:
                draining[index] = program[index].timing.latency
                del executing[engine]
        for index in [i for i, left in draining.items() if left == 0]:
            del draining[index]
            dones[index] = cycle
            for destination in program[index].signal:
                tokens[program[index].engine, destination] += 1
        for engine in order:
            if engine not in executing and queues[engine] and may_start(engine):
                index = queues[engine].popleft()
                for source in program[index].wait:
                    tokens[source, engine] -= 1
                executing[engine] = [index, program[index].timing.occupancy * PARTS]
                starts[index] = cycle
        if not executing and not draining:
            if any(queues.values()):
                return None
            break
        work()
        draining = {index: left - 1 for index, left in draining.items()}
    return [(starts[i], dones[i]) for i in range(len(program))]

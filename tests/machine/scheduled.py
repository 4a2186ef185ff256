"""Independent checks of a scheduled, allocated program with tokens: memory, order, and execution at real addresses.

Nothing here uses the passes or the backend: elements are listed one by one from the regions of each instruction.
"""

import random
from collections import defaultdict, deque
from typing import Any

import numpy as np

from accelc.backends.target import Target
from accelc.dialects.core.operation import Constant, Module, Value
from accelc.dialects.tile.array import MatmulOp
from accelc.dialects.tile.instruction import ENGINES, InstructionOp, Region
from accelc.dialects.tile.memory import AllocOp, HostWriteOp
from accelc.dialects.tile.pooling import DepthwiseOp

POISON = 0x5A


def instructions_of(module: Module) -> list[InstructionOp]:
    """All instructions of @main in order."""
    return [op for op in module.main.body if isinstance(op, InstructionOp)]


def elements(region: Region) -> np.ndarray:
    """Every element a region touches, each listed once."""
    index = np.array([region.offset])
    for count, stride in zip(region.shape, region.strides, strict=True):
        index = (index[:, None] + np.arange(count) * stride).reshape(-1)
    return np.unique(index)


def alloc_of(value: Value[Any]) -> AllocOp:
    source = value.defining_op
    assert isinstance(source, AllocOp)
    return source


def _operand(op: InstructionOp, region: Region) -> Value[Any]:
    return op.operands[[field.name for field in op.operand_fields].index(region.operand)]


def check_addresses(module: Module, target: Target) -> None:
    """Buffers that are live together do not overlap, lie in their memory, and where the array can reach them."""
    spans: dict[Value[Any], tuple[int, int]] = {}
    read_by_array: set[Value[Any]] = set()
    for position, op in enumerate(instructions_of(module)):
        for value in op.operands:
            if not isinstance(value, Constant) and value.type.space != "dram":
                spans[value] = (spans.get(value, (position, 0))[0], position)
        if isinstance(op, MatmulOp):
            read_by_array |= {op.input, op.weights}
    limits = {"sram": target.sram_bytes, "acc": target.accumulators.rows}
    buffers = list(spans)
    for number, value in enumerate(buffers):
        low = alloc_of(value).address
        high = low + value.type.size
        assert 0 <= low < high <= limits[value.type.space], f"%{value.name} lies at {low} to {high}"
        if value in read_by_array:
            groups = {byte // target.group_bytes for byte in (*range(low, high, target.group_bytes), high - 1)}
            assert groups <= target.reachable_groups, f"%{value.name} lies in groups {groups}"
        for other in buffers[:number]:
            if other.type.space != value.type.space:
                continue
            together = spans[other][0] <= spans[value][1] and spans[value][0] <= spans[other][1]
            start = alloc_of(other).address
            apart = start >= high or start + other.type.size <= low
            assert apart or not together, f"%{value.name} and %{other.name} share addresses"


def completed_before(instructions: list[InstructionOp]) -> np.ndarray:
    """before[i, j]: instruction j is complete when i starts, whatever the timing. Fails on a deadlock."""
    count = len(instructions)
    before = np.zeros((count, count), bool)
    queues = {engine: deque(i for i, op in enumerate(instructions) if op.engine == engine) for engine in ENGINES}
    previous: dict[str, int] = {}
    tokens: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    done = 0
    while done < count:
        progress = False
        for engine, queue in queues.items():
            while queue and all(tokens[source, engine] for source in instructions[queue[0]].wait):
                index = queue.popleft()
                op = instructions[index]
                sources = [tokens[source, engine].popleft() for source in op.wait]
                if engine in previous:
                    sources.append(previous[engine])
                for source in sources:
                    before[index] |= before[source]
                    before[index, source] = True
                previous[engine] = index
                for to in op.signal:
                    tokens[engine, to].append(index)
                done += 1
                progress = True
        assert progress, "deadlock"
    assert not any(tokens.values()), "tokens are left over"
    return before


def check_order(module: Module, before: np.ndarray) -> None:
    """Every two accesses of one element, one of them a write, are ordered, and nothing is read before it is written."""
    bases = _bases(module)
    written: dict[str, dict[int, int]] = {"sram": {}, "acc": {}, "dram": {}}
    readers: dict[str, dict[int, list[int]]] = {space: defaultdict(list) for space in written}
    for op in module.main.body:
        if isinstance(op, HostWriteOp):
            start, kind = bases[op.buffer] + op.buffer_offset, op.data.type
            end = start + kind.size * kind.element.dtype.itemsize
            written["dram"].update(dict.fromkeys(range(start, end), -1))
    for index, op in enumerate(instructions_of(module)):
        for region in op.regions():
            value = _operand(op, region)
            if isinstance(value, Constant):
                continue
            size = value.type.size * alloc_of(value).columns
            touched = elements(region)
            assert not touched.size or (touched[0] >= 0 and touched[-1] < size), f"{op} leaves %{value.name}"
            space = value.type.space
            for element in (touched + bases[value]).tolist():
                last = written[space].get(element)
                assert region.writes or last is not None, f"{op} reads {space} {element}, never written"
                if last is not None and last >= 0:
                    assert last == index or before[index, last], f"{index} {op} is not ordered after {last}"
                if region.writes:
                    for reader in readers[space].pop(element, ()):
                        assert reader == index or before[index, reader], f"{index} {op} overtakes {reader}"
                    written[space][element] = index
                else:
                    readers[space][element].append(index)


def check_tokens(module: Module) -> None:
    """No wait is for the own engine or stated twice, and every token that is signalled is taken."""
    tokens: dict[tuple[str, str], int] = defaultdict(int)
    for op in instructions_of(module):
        assert len(set(op.wait)) == len(op.wait) and len(set(op.signal)) == len(op.signal), op
        assert op.engine not in (*op.wait, *op.signal), op
        for source in op.wait:
            tokens[source, op.engine] -= 1
        for to in op.signal:
            tokens[op.engine, to] += 1
    assert not any(tokens.values()), tokens


def run_at_addresses(
    module: Module, inputs: dict[str, np.ndarray], target: Target, before: np.ndarray | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Run @main on one array a memory, in program order, or in a random order that the tokens allow."""
    memories = {
        "sram": np.full(target.sram_bytes, POISON, np.int8),
        "acc": np.full(target.accumulators.rows * target.array.columns, POISON, np.int64),
        "dram": np.full(max((end for end in _dram_ends(module)), default=0), POISON, np.int8),
    }
    bases = _bases(module)
    known: dict[Value[Any], np.ndarray] = {argument: inputs[str(argument.name)] for argument in module.main.arguments}

    def array(value: Value[Any]) -> np.ndarray:
        if isinstance(value, Constant):
            return value.array
        if value in bases:
            size = value.type.size * alloc_of(value).columns
            return memories[value.type.space][bases[value] : bases[value] + size]
        return known[value]

    body = list(module.main.body)
    marks = [index for index, op in enumerate(body) if isinstance(op, InstructionOp)]
    first = marks[0] if marks else len(body)
    instructions = instructions_of(module)
    order = list(range(len(instructions))) if before is None else _random_order(instructions, before, seed)
    host = [op for op in body if not isinstance(op, (InstructionOp, AllocOp))]
    early = [op for op in host if body.index(op) < first]
    late = [op for op in host if body.index(op) >= first]
    for op in (*early, *(instructions[index] for index in order), *late):
        if op.name == "builtin.return" or op is body[-1]:
            continue
        result = op.evaluate(*(array(value) for value in op.operands))
        for value in op.results:
            known[value] = result
    return {name: array(value) for name, value in zip(module.main.output_names, module.main.returns, strict=True)}


def _random_order(instructions: list[InstructionOp], before: np.ndarray, seed: int) -> list[int]:
    """A linear order that respects `before`, with engines running far ahead of each other."""
    chance = random.Random(seed)
    queues = {engine: deque(i for i, op in enumerate(instructions) if op.engine == engine) for engine in ENGINES}
    done = np.zeros(len(instructions), bool)
    order: list[int] = []
    ranking = list(ENGINES)
    while len(order) < len(instructions):
        if chance.random() < 0.1:
            chance.shuffle(ranking)
        index = next(q[0] for e in ranking if (q := queues[e]) and done[before[q[0]]].all())
        queues[instructions[index].engine].popleft()
        done[index] = True
        order.append(index)
    return order


def _bases(module: Module) -> dict[Value[Any], int]:
    """First element of every buffer in its memory; DRAM buffers one after the other."""
    bases: dict[Value[Any], int] = {}
    dram = 0
    for op in module.main.body:
        if isinstance(op, AllocOp):
            if op.buffer.type.space == "dram":
                bases[op.buffer] = dram
                dram += op.buffer.type.size
            else:
                bases[op.buffer] = op.address * op.columns
    return bases


def _dram_ends(module: Module) -> list[int]:
    return [base + v.type.size for v, base in _bases(module).items() if v.type.space == "dram"]


def check_macs(module: Module) -> None:
    """The useful multiply-accumulates of the instructions of each layer sum up to those of the model."""
    macs = module.attributes["layer_macs"]
    kinds = module.attributes["layer_kinds"]
    found = [0] * len(macs)
    for op in instructions_of(module):
        if isinstance(op, (MatmulOp, DepthwiseOp)):
            found[op.layer] += op.useful_macs
    assert found == list(macs), list(zip(kinds, found, macs, strict=True))

"""Executes networks that differ in few places: what an operation has computed before is not computed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from ...dialects.core.interpreter import evaluated
from ...dialects.core.operation import Constant, Function, Operation, Value
from ...dialects.core.types import Array
from ...dialects.quant.types import QuantizedType

MOST_RECALLED = 1 << 28
"""Bytes of results that are kept."""

LARGE = 1 << 16
"""Constants of so many bytes are read once; networks that differ in few places share them."""


class Recall:
    """Results by what they follow from: operations, their attributes, types and constants, back to the inputs.

    Quantized results of the execution that `keep` was last called for are known; sums and reals, four and more bytes
    each, are not kept, and computed only where something is read of them.
    """

    def __init__(self) -> None:
        self._large: dict[int, tuple[Array, bytes]] = {}
        self._known: dict[bytes, Array] = {}
        self._latest: dict[bytes, Array] = {}
        self._bytes = 0

    def begin(self) -> None:
        """Forget what was executed since `keep`."""
        self._latest, self._bytes = {}, 0

    def keep(self) -> None:
        """Know from now on what was executed since `begin`, and nothing else."""
        self._known = self._latest

    def run(self, function: Function, inputs: Mapping[str, Array], name: object) -> list[Array]:
        """What the function returns of `inputs`, which `name` stands for: the same arrays whenever it is the same."""
        names: dict[Value[Any], bytes] = {}
        values: dict[Value[Any], Array] = {}
        for argument in function.arguments:
            names[argument] = _digest(name, argument.name, argument.type)
            values[argument] = inputs[str(argument.name)]
        operations = [op for op in function.body if op is not function.body.last]
        for op in operations:
            names.update((result, self._named(op, index, names)) for index, result in enumerate(op.results))
        wanted = {value for value in function.returns if not isinstance(value, Constant)}
        needed: list[Operation] = []
        for op in reversed(operations):
            if wanted.isdisjoint(op.results):
                continue
            if all(names[result] in self._known for result in op.results):
                for result in op.results:
                    values[result] = self._latest[names[result]] = self._known[names[result]]
                continue
            needed.append(op)
            wanted.update(value for value in op.operands if not isinstance(value, Constant))
        reads = Counter(value for op in needed for value in set(op.operands))
        reads.update(function.returns)
        for op in reversed(needed):
            results = evaluated(op, [v.array if isinstance(v, Constant) else values[v] for v in op.operands])
            for result, array in zip(op.results, results, strict=True):
                values[result] = array
                self._store(names[result], result, array)
            for value in set(op.operands):
                reads[value] -= 1
                if not reads[value]:
                    values.pop(value, None)
        return [value.array if isinstance(value, Constant) else values[value] for value in function.returns]

    def _store(self, name: bytes, value: Value[Any], array: Array) -> None:
        if isinstance(value.type.element, QuantizedType) and self._bytes + array.nbytes <= MOST_RECALLED:
            self._bytes += array.nbytes
            self._latest[name] = array

    def _named(self, op: Operation, index: int, names: Mapping[Value[Any], bytes]) -> bytes:
        """What result `index` of an operation follows from."""
        operands = [self._constant(v) if isinstance(v, Constant) else names[v] for v in op.operands]
        types = [str(value.type) for value in (*op.operands, *op.results)]
        return _digest(op.name, sorted(op.attributes.items()), types, operands, index)

    def _constant(self, value: Constant) -> bytes:
        array = value.array
        if array.nbytes < LARGE:
            return _content(array)
        if id(array) not in self._large:
            self._large[id(array)] = (array, _content(array))
        return self._large[id(array)][1]


def _content(array: Array) -> bytes:
    return blake2b(array.tobytes(), digest_size=16).digest()


def _digest(*parts: object) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=16).digest()

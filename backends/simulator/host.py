"""The host beside the simulated machine: fills inputs, runs its functions when the program calls, reads outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.onnx import call_host
from ..encoding import Instruction
from ..host import InputPort, OutputPort, from_bytes, run_steps, stored_bytes, to_bytes
from ..program import Program
from .memory import Memory
from .plain import Step


class Host:
    """What the host holds for one chunk of samples: arrays [samples, ...] by name of an input or result."""

    def __init__(self, program: Program, memory: Memory) -> None:
        self.program = program
        self.memory = memory
        self.values: dict[str, Array] = {}

    def begin(self, ports: Sequence[InputPort], inputs: Mapping[str, Array]) -> None:
        """Forget everything and write the inputs to the DRAM."""
        self.values = {}
        for port in ports:
            self.write(port, inputs[port.name])

    def write(self, port: InputPort, data: Array) -> None:
        """Keep an input or result, and write what the machine reads of it."""
        self.values[port.name] = data
        base = self.program.constants.size
        for write in port.writes:
            stored = to_bytes(run_steps(data, port.type, write.steps))
            self.memory.dram[:, write.address - base : write.address - base + stored.shape[1]] = stored

    def read(self, port: OutputPort) -> Array:
        """An output or argument, [samples, *port.type.shape]."""
        if port.source is not None:
            stored = self.values[port.source]
        else:
            stored = from_bytes(self._bytes(port.address, stored_bytes(port.stored)), port.stored)
        return run_steps(stored, port.stored, port.steps)

    def step(self, instruction: Instruction) -> Step:
        """The step that runs a call for all samples, one after the other."""
        call = self.program.host_calls[int(str(instruction.fields["call"]))]
        function = self.program.host.functions[call.callee]

        def run() -> None:
            arguments = [self.read(port) for port in call.arguments]
            rows = [
                call_host(function, [np.ascontiguousarray(each[sample]).reshape(each.shape[1:]) for each in arguments])
                for sample in range(self.memory.samples)
            ]
            for port, results in zip(call.results, zip(*rows, strict=True), strict=True):
                self.write(port, np.stack(results))

        return run

    def _bytes(self, address: int, size: int) -> Array:
        memory = self.memory
        array, base, shared = memory.locate("dram", address)
        found = array[..., address - base : address - base + size]
        return np.array(np.broadcast_to(found, (memory.samples, size)) if shared else found)  # memory is used again

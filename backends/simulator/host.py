"""The host beside the simulated machine: fills inputs, runs its functions when the program calls, reads outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.onnx import call_host
from ...dialects.quant.types import QuantizedType
from ..encoding import Instruction
from ..host import HostWrite, InputPort, OutputPort, final_type, from_bytes, run_steps, stored_bytes, to_bytes
from ..program import Program
from .kernels import quantization_kernel
from .memory import Memory
from .plain import Step

FEWEST_COMPILED = 1 << 12
"""Numbers from which on machine code quantizes faster than numpy, binding included."""


class Host:
    """What the host holds for one chunk of samples: arrays [samples, ...] by name of an input or result."""

    def __init__(self, program: Program, memory: Memory, *, compiled: bool = False) -> None:
        self.program = program
        self.memory = memory
        self.compiled = compiled
        self.values: dict[str, Array] = {}

    def begin(self, ports: Sequence[InputPort], inputs: Mapping[str, Array]) -> None:
        """Forget everything and write the inputs, none of them NaN, to the DRAM."""
        self.values = {}
        for port in ports:
            self.write(port, inputs[port.name], compiled=self.compiled)

    def write(self, port: InputPort, data: Array, *, compiled: bool = False) -> None:
        """Keep an input or result, and write what the machine reads of it; `compiled` only without NaN."""
        self.values[port.name] = data
        for write in port.writes:
            if compiled and data.size >= FEWEST_COMPILED and self._quantized(port, write, data):
                continue
            stored = to_bytes(run_steps(data, port.type, write.steps))
            self._place(port, write)[...] = stored

    def _quantized(self, port: InputPort, write: HostWrite, data: Array) -> bool:
        """Quantize reals into the DRAM by machine code, if that is the last step and there is some for it."""
        if data.dtype != np.float32 or not write.steps or write.steps[-1].kind != "quantize":
            return False
        target = write.steps[-1].result
        if not isinstance(target.element, QuantizedType) or target.element.dtype != np.int8:
            return False
        reals = run_steps(data, port.type, write.steps[:-1])
        element, out = target.element, self._place(port, write).reshape(reals.shape)
        kernel = quantization_kernel(reals, out, element.scale, (element.zero_point, element.low, element.high))
        if kernel is not None:
            kernel()
        return kernel is not None

    def _place(self, port: InputPort, write: HostWrite) -> Array:
        """The bytes of the DRAM that are written, int8 [samples, bytes]."""
        start = write.address - self.program.constants.size
        return self.memory.dram[:, start : start + stored_bytes(final_type(port.type, write.steps))]

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

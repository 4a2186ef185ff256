"""From scheduled tile IR to a program: places constants and DRAM buffers, encodes instructions, lists host steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from ..dialects.builtin import ReturnOp
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import BlockArgument, Constant, Module, Operation, Value
from ..dialects.core.types import Array, TensorType
from ..dialects.nn.onnx import HostOp
from ..dialects.tile.instruction import InstructionOp
from ..dialects.tile.memory import AllocOp, HostReadOp, HostWriteOp
from .encoding import Instruction, encode, instruction_of
from .host import HOST_OPERATIONS, HostCall, HostStep, HostWrite, InputPort, OutputPort
from .manifest import Layer
from .program import ALIGNMENT, Program
from .target import Target


def emit(
    module: Module,
    target: Target,
    *,
    model: str | None = None,
    precision: str | None = None,
    report: Mapping[str, Any] | None = None,
) -> Program:
    """The program of a scheduled, allocated module with tokens; CompileError if it cannot run on the target.

    Instructions keep their order. The DRAM holds the constants that tile.load reads (each once, in order of first
    use), then the buffers: the address of a dram tile.alloc counts from the end of the constants, and those at -1 are
    placed after all others. SRAM and accumulator buffers must have addresses. Module attributes: `model`, `precision`
    (unless given), `layers` (names by `InstructionOp.layer`; without it layers are named after the instructions'
    locations) and `layer_kinds` (without it the kind is that of the layer's first instruction on array or vector).
    """
    return _Emitter(module, target).program(model, precision, report or {})


class _Emitter:
    def __init__(self, module: Module, target: Target) -> None:
        self.module = module
        self.target = target
        self.function = module.main
        self.addresses: dict[Value[Any], int] = {}
        self.image: list[Array] = []
        self.image_bytes = 0
        self.dram_bytes = 0

    def program(self, model: str | None, precision: str | None, report: Mapping[str, Any]) -> Program:
        operations = list(self.function.body)
        instructions = [op for op in operations if isinstance(op, InstructionOp)]
        self.place_constants(instructions)
        self.place_buffers([op for op in operations if isinstance(op, AllocOp)])
        encoded = [self.instruction(op) for op in instructions]
        layers, indices = self.layers(instructions)
        program = Program(
            target=self.target,
            model=model if model is not None else str(self.module.attributes.get("model", "")),
            precision=precision if precision is not None else str(self.module.attributes.get("precision", "int8")),
            code=encode(encoded),
            constants=np.concatenate(self.image) if self.image else np.zeros(0, np.int8),
            dram_bytes=self.dram_bytes,
            inputs=self.inputs(operations),
            outputs=tuple(map(self.output, self.function.output_names, self.function.returns)),
            layers=layers,
            instruction_layers=np.array(indices, np.int64),
            useful_macs=np.array([_useful_macs(op) for op in instructions], np.int64),
            host_calls=self.host_calls(operations),
            host=self.host_module(),
            report=report,
        )
        self.refuse_others(operations)
        program.check()
        for op in instructions:
            self.check_bounds(op)
        return program

    # memory

    def place_constants(self, instructions: Sequence[InstructionOp]) -> None:
        read = dict.fromkeys(v for op in instructions for v in op.operands if isinstance(v, Constant))
        sources = [self.host_chain(value)[0] for value in self.function.returns]
        for value in dict.fromkeys((*read, *(v for v in sources if isinstance(v, Constant)))):
            data = value.array.astype(value.array.dtype.newbyteorder("<"), copy=False)
            data = np.ascontiguousarray(data).reshape(-1).view(np.int8)
            self.addresses[value] = self.image_bytes
            self.image += [data, np.zeros(-data.size % ALIGNMENT, np.int8)]
            self.image_bytes += data.size + -data.size % ALIGNMENT
        self.dram_bytes = self.image_bytes

    def place_buffers(self, allocations: Sequence[AllocOp]) -> None:
        for op in allocations:
            kind = op.buffer.type
            if op.address < 0 and kind.space != "dram":
                raise op.error(f"buffer {_name(op)} in {kind.space} has no address; run allocate-banks first")
            if kind.space == "acc" and op.columns != self.target.array.columns:
                raise op.error(f"accumulator rows have {op.columns} columns, the target {self.target.array.columns}")
            if op.address >= 0:
                base = self.image_bytes if kind.space == "dram" else 0
                self.addresses[op.buffer] = base + op.address
                if kind.space == "dram":
                    self.dram_bytes = max(self.dram_bytes, base + op.address + kind.size)
        for op in allocations:
            if op.address < 0:
                start = self.dram_bytes + -self.dram_bytes % ALIGNMENT
                self.addresses[op.buffer] = start
                self.dram_bytes = start + op.buffer.type.size

    def instruction(self, op: InstructionOp) -> Instruction:
        for value in op.operands:
            if value not in self.addresses:
                raise op.error("operand is neither a constant nor the result of tile.alloc")
        try:
            return instruction_of(op, self.addresses.__getitem__)
        except ValueError as error:
            raise op.error(str(error)) from None

    def check_bounds(self, op: InstructionOp) -> None:
        """Raise CompileError if an instruction leaves its buffers, which the interpreter refuses too."""
        for region in op.regions():
            kind = cast(Value[Any], getattr(op, region.operand)).type
            size = kind.size * (kind.element.dtype.itemsize if isinstance(kind, TensorType) else 1)
            if op.spaces.get(region.operand) == "acc":
                size *= self.target.array.columns
            if region.size and not 0 <= region.offset <= region.end <= size:
                raise op.error(f"'{region.operand}' reaches {region.offset} to {region.end}, its buffer has {size}")

    # layers

    def layers(self, instructions: Sequence[InstructionOp]) -> tuple[tuple[Layer, ...], list[int]]:
        named = self.module.attributes.get("layers")
        if isinstance(named, tuple):
            names = [str(name) for name in named]
            indices = [op.layer for op in instructions]
            for op in instructions:
                if not 0 <= op.layer < len(names):
                    raise op.error(f"layer is {op.layer}, the module lists {len(names)} layers")
        else:
            found = dict.fromkeys(op.location.layer for op in instructions)
            names = list(found)
            positions = {name: index for index, name in enumerate(names)}
            indices = [positions[op.location.layer] for op in instructions]
        given = self.module.attributes.get("layer_kinds")
        kinds = [str(kind) for kind in given] if isinstance(given, tuple) else [""] * len(names)
        if len(kinds) != len(names):
            raise CompileError(f"module attribute layer_kinds has {len(kinds)} entries for {len(names)} layers")
        macs = [0] * len(names)
        for op, index in zip(instructions, indices, strict=True):
            macs[index] += _useful_macs(op)
            if not kinds[index] and op.engine in ("array", "vector"):
                kinds[index] = op.name.removeprefix("tile.")
        table = zip(names, (kind or "transfer" for kind in kinds), macs, strict=True)
        return tuple(Layer(*row) for row in table), indices

    # host

    def inputs(self, operations: Sequence[Operation]) -> tuple[InputPort, ...]:
        writes: dict[Value[Any], list[HostWrite]] = {argument: [] for argument in self.function.arguments}
        for op in operations:
            if isinstance(op, HostWriteOp):
                source, steps = self.host_chain(op.data)
                if isinstance(source.defining_op, HostOp):
                    continue
                if not isinstance(source, BlockArgument):
                    raise op.error("writes a tensor that is not made from an input by host steps")
                writes[source].append(HostWrite(self.address(op, op.buffer) + op.buffer_offset, steps))
        return tuple(
            InputPort(str(argument.name), _tensor_type(argument), tuple(writes[argument]))
            for argument in self.function.arguments
        )

    def output(self, name: str, value: Value[Any]) -> OutputPort:
        source, steps = self.host_chain(value)
        final, stored = _tensor_type(value), _tensor_type(source)
        if isinstance(source, BlockArgument):
            return OutputPort(name, final, 0, stored, steps, str(source.name))
        if isinstance(source.defining_op, HostOp):
            return OutputPort(name, final, 0, stored, steps, self.result_name(source))
        read = source.defining_op
        if isinstance(read, HostReadOp):
            return OutputPort(name, final, self.address(read, read.buffer) + read.buffer_offset, stored, steps)
        if isinstance(source, Constant) and source in self.addresses:
            return OutputPort(name, final, self.addresses[source], stored, steps)
        raise CompileError(f"output '{name}' is not made from a tile.host_read by host steps")

    def host_calls(self, operations: Sequence[Operation]) -> tuple[HostCall, ...]:
        """The calls of the host in order, with the transfers around each."""
        writes: dict[Value[Any], list[HostWrite]] = {}
        for op in operations:
            if isinstance(op, HostWriteOp):
                source, steps = self.host_chain(op.data)
                place = self.address(op, op.buffer) + op.buffer_offset
                writes.setdefault(source, []).append(HostWrite(place, steps))
        calls: list[HostCall] = []
        for op in operations:
            if isinstance(op, HostOp):
                arguments = tuple(self.output(f"input{index}", value) for index, value in enumerate(op.operands))
                results = tuple(
                    InputPort(self.result_name(value), _tensor_type(value), tuple(writes.get(value, ())))
                    for value in op.results
                )
                calls.append(HostCall(op.callee, arguments, results))
        return tuple(calls)

    def result_name(self, value: Value[Any]) -> str:
        """The name of a result of a call, which no input of the model has."""
        op = value.defining_op
        assert isinstance(op, HostOp)
        name = f"{op.callee}.{op.results.index(cast(Any, value))}"
        inputs = {str(argument.name) for argument in self.function.arguments}
        while name in inputs:
            name = f"{name}'"
        return name

    def host_module(self) -> Module:
        """The functions that are called, and their constants."""
        copy = self.module.clone()
        called = {op.callee for op in self.function.body if isinstance(op, HostOp)}
        copy.attributes = {}
        for name in [name for name in copy.functions if name not in called]:
            for op in reversed(copy.functions.pop(name).body):
                op.set_operands(())
        copy.drop_unused_constants()
        return copy

    def address(self, op: Operation, buffer: Value[Any]) -> int:
        if buffer not in self.addresses:
            raise op.error("buffer is not the result of tile.alloc")
        return self.addresses[buffer]

    def host_chain(self, value: Value[Any]) -> tuple[Value[Any], tuple[HostStep, ...]]:
        """The value that a chain of host operations starts from, and its steps in order."""
        steps: list[HostStep] = []
        op = value.defining_op
        while op is not None and op.name in HOST_OPERATIONS:
            permutation = cast(tuple[int, ...], op.attributes.get("permutation", ()))
            step = HostStep(HOST_OPERATIONS[op.name], _tensor_type(op.result), permutation)
            problem = step.problem(_tensor_type(op.operands[0]))
            if problem:
                raise op.error(problem)
            steps.append(step)
            value, op = op.operands[0], op.operands[0].defining_op
        return value, tuple(reversed(steps))

    def refuse_others(self, operations: Sequence[Operation]) -> None:
        for op in operations:
            known = isinstance(op, (InstructionOp, AllocOp, HostWriteOp, HostReadOp, HostOp, ReturnOp))
            if not known and op.name not in HOST_OPERATIONS:
                raise op.error("cannot be emitted; expected tile instructions and host steps")


def _tensor_type(value: Value[Any]) -> TensorType:
    if not isinstance(value.type, TensorType):
        raise CompileError(f"a value of type {value.type} crosses the host interface, expected a tensor")
    return value.type


def _useful_macs(op: InstructionOp) -> int:
    return int(cast(int, op.attributes.get("useful_macs", 0)))


def _name(op: AllocOp) -> str:
    return f"'{op.buffer.name}'" if op.buffer.name else f"of {op.buffer.type.size}"

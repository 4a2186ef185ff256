"""Programs around single instructions: the whole input is loaded, the instructions run, all of SRAM is stored."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from accelc.backends.encoding import Instruction, encode, layout
from accelc.backends.host import HostWrite, InputPort, OutputPort
from accelc.backends.manifest import Layer
from accelc.backends.program import ALIGNMENT, Program
from accelc.backends.target import Target, load_target
from accelc.dialects.core.types import I8, TensorType
from accelc.dialects.tile.instruction import InstructionOp
from accelc.dialects.tile.memory import LoadOp, StoreOp

TILE32 = load_target("tile32")


def instruction(op_class: type[InstructionOp], wait: tuple = (), signal: tuple = (), **values: Any) -> Instruction:
    """An instruction from addresses and fields by name; fields not given hold their defaults."""
    plan = layout(op_class)
    addresses = {name: int(values.pop(name)) for name in plan.operands}
    fields = {field.name: values.pop(field.name, field.default) for field in plan.declared}
    assert not values, f"{op_class.name} has no {list(values)}"
    return Instruction(op_class, addresses, fields, wait, signal)


def program_around(
    body: Sequence[Instruction],
    *,
    input_bytes: int,
    constants: dict[int, np.ndarray] | None = None,
    sram_bytes: int,
    stored: tuple[int, int] | None = None,
    load_signal: tuple[str, ...] = (),
    store_wait: tuple[str, ...] = (),
    target: Target = TILE32,
) -> Program:
    """The input goes to SRAM address 0, each constant to its address; `stored` (start, end) of SRAM is the output."""
    image: list[np.ndarray] = []
    loads: list[Instruction] = []
    offset = 0
    for address, data in (constants or {}).items():
        flat = np.ascontiguousarray(data).reshape(-1).view(np.int8)
        loads.append(instruction(LoadOp, source=offset, destination=address, run=flat.size))
        image += [flat, np.zeros(-flat.size % ALIGNMENT, np.int8)]
        offset += flat.size + -flat.size % ALIGNMENT
    start, end = stored or (0, sram_bytes)
    loads.append(instruction(LoadOp, signal=load_signal, source=offset, destination=0, run=input_bytes))
    store = instruction(StoreOp, wait=store_wait, source=start, destination=offset + input_bytes, run=end - start)
    code = [*loads, *body, store]
    given, result = TensorType((1, input_bytes), I8), TensorType((1, end - start), I8)
    program = Program(
        target=target,
        model="test",
        precision="int8",
        code=encode(code),
        constants=np.concatenate(image) if image else np.zeros(0, np.int8),
        dram_bytes=offset + input_bytes + end - start,
        inputs=(InputPort("x", given, (HostWrite(offset, ()),)),),
        outputs=(OutputPort("y", result, offset + input_bytes, result, ()),),
        layers=(Layer("layer", "test", 0),),
        instruction_layers=np.zeros(len(code), np.int64),
        useful_macs=np.zeros(len(code), np.int64),
    )
    program.check()
    return program

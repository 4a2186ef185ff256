"""Whether a program may run on its target: every address of every instruction in bounds, every value in range.

What passes here cannot make the simulator read or write outside its memories, nor allocate without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module
from ..dialects.nn.onnx import check_host_function
from ..dialects.tile.array import MatmulOp
from ..dialects.tile.elements import ElementOp
from ..dialects.tile.host import CallHostOp
from ..dialects.tile.instruction import InstructionOp, Region
from ..dialects.tile.pooling import VectorWindowOp
from ..dialects.tile.window import WindowOp
from .encoding import Instruction, space_of
from .host import HostCall, InputPort, OutputPort, final_type, stored_bytes
from .target import Target
from .timing.legality import element_problem

WINDOW_LIMIT = 2**27
"""No instruction may unfold its input into this many bytes (window elements, padding included)."""

PORTS_LIMIT = 2**32
"""All outputs of one run together may not take more bytes than the DRAM can have; any number may show one buffer."""

_NUMBER_FIELDS = {
    "zero_point": "output",
    "input_zero": "input",
    "weights_zero": "weights",
    "lhs_zero": "lhs",
    "rhs_zero": "rhs",
    "low": "output",
    "high": "output",
    "value": "output",
}
"""Fields that hold a number of an operand; the zero point of a matmul is one of its input."""


def check_instructions(
    instructions: Sequence[Instruction],
    target: Target,
    constants_bytes: int,
    dram_bytes: int,
    describe: Callable[[int], str],
) -> None:
    """Raise CompileError naming the first instruction that the target cannot execute within its memories."""
    limits = {
        "sram": target.sram_bytes,
        "acc": target.accumulators.rows * target.array.columns,
        "dram": dram_bytes,
    }
    for index, instruction in enumerate(instructions):
        op = instruction.operation()
        problem = _field_problem(op, target)
        if problem is None:
            problem = next(filter(None, (_region_problem(op, r, limits, constants_bytes) for r in op.regions())), None)
        if problem is not None:
            raise CompileError(f"{describe(index)}: {problem}")


def check_ports(
    inputs: Sequence[InputPort],
    outputs: Sequence[OutputPort],
    calls: Sequence[HostCall],
    constants_bytes: int,
    dram_bytes: int,
    target: Target,
) -> None:
    """Raise CompileError unless all host transfers lie within the DRAM and none writes to the constants."""
    if not constants_bytes <= dram_bytes <= target.dram.megabytes << 20:
        found = f"{dram_bytes} bytes of DRAM, {constants_bytes} of them constants"
        raise CompileError(f"the program uses {found}; the target has {target.dram.megabytes << 20}")
    read = [*outputs, *(port for call in calls for port in call.arguments)]
    written = [*inputs, *(port for call in calls for port in call.results)]
    copied = sum(stored_bytes(port.type) + stored_bytes(port.stored) for port in read)
    if copied > PORTS_LIMIT:
        raise CompileError(f"the outputs take {copied} bytes, at most {PORTS_LIMIT} are accepted")
    by_name = {port.name: port for port in written}
    if len(by_name) < len(written) or len({port.name for port in outputs}) < len(outputs):
        raise CompileError("two inputs or two outputs have the same name")
    for port in written:
        for write in port.writes:
            end = write.address + stored_bytes(final_type(port.type, write.steps))
            if not constants_bytes <= write.address <= end <= dram_bytes:
                raise CompileError(
                    f"input '{port.name}' is written to {write.address:#x}, outside the buffers of the DRAM"
                )
    known = {port.name for port in inputs}
    for call in calls:
        for port in call.arguments:
            if port.source is not None and port.source not in known:
                raise CompileError(f"a call of @{call.callee} reads '{port.source}' before it is there")
        known.update(port.name for port in call.results)
    for port in read:
        if port.source is not None:
            if port.source not in by_name or by_name[port.source].type != port.stored:
                raise CompileError(f"output '{port.name}' copies input '{port.source}', which is not of its type")
        elif not _within_dram(port.address, port.address + stored_bytes(port.stored), constants_bytes, dram_bytes):
            raise CompileError(f"output '{port.name}' is read from {port.address:#x}, outside the DRAM")


def check_calls(calls: Sequence[HostCall], host: Module, instructions: Sequence[Instruction]) -> None:
    """Raise CompileError unless every call runs a function that fits it, each by one instruction, in order."""
    for call in calls:
        function = host.functions.get(call.callee)
        if function is None:
            raise CompileError(f"a call runs @{call.callee}, which is not a function of the host")
        check_host_function(function)
        expected = tuple(argument.type for argument in function.arguments), function.result_types
        if (tuple(p.type for p in call.arguments), tuple(p.type for p in call.results)) != expected:
            raise CompileError(f"a call of @{call.callee} does not have the types of its arguments and results")
    found = [i for i in instructions if i.op_class is CallHostOp]
    if [instruction.fields["call"] for instruction in found] != list(range(len(calls))):
        raise CompileError(f"the instructions do not make the {len(calls)} calls of the host in order")
    for instruction, call in zip(found, calls, strict=True):
        start, size = instruction.addresses["destination"], int(str(instruction.fields["size"]))
        for port in call.results:
            for write in port.writes:
                end = write.address + stored_bytes(final_type(port.type, write.steps))
                if not start <= write.address <= end <= start + size:
                    raise CompileError(f"a call of @{call.callee} writes to {write.address:#x}, outside its buffer")


def _within_dram(start: int, end: int, constants_bytes: int, dram_bytes: int) -> bool:
    return end <= constants_bytes or (constants_bytes <= start and end <= dram_bytes)


def _field_problem(op: InstructionOp, target: Target) -> str | None:
    values = op.attributes
    columns = values.get("tile_columns", target.array.columns)
    if columns != target.array.columns:
        return f"'tile_columns' is {columns}, the target has {target.array.columns}"
    if isinstance(op, ElementOp):
        problem = _element_problem(op, target)
        if problem is not None:
            return problem
    low, high = values.get("low", 0), values.get("high", 0)
    if isinstance(low, int) and isinstance(high, int) and low > high:
        return f"'low' is {low}, above 'high' {high}"
    if isinstance(op, WindowOp):
        problem = _window_problem(op)
        if problem is not None:
            return problem
    if isinstance(op, MatmulOp):
        used = op.split_k * op.split_n * op.split_m
        if not 1 <= used <= target.array.blocks:
            return f"uses {used} blocks, the target has {target.array.blocks}"
    try:
        op.verify()
    except CompileError as error:
        return error.diagnostics[0].message.removeprefix(f"'{op.name}': ")
    return None


def _element_problem(op: ElementOp, target: Target) -> str | None:
    if op.element == "bf16" and not target.array.bf16_rate:
        return "works on bf16, the target has none ('array.bf16_rate' is 0)"
    for name, operand in _number_fields(type(op)):
        value, element = op.attributes.get(name, 0), op.element_of(operand)
        if isinstance(value, int) and not element.low <= value <= element.high:
            return f"'{name}' is {value}, expected {element.low} to {element.high}"
    for name, operand in _byte_fields(type(op)):
        size, value = op.size_of(operand), op.attributes.get(name, 0)
        if size > 1 and isinstance(value, int) and value % size:
            return f"'{name}' is {value}, expected a multiple of the {size} bytes of a number"
    if isinstance(op, MatmulOp):
        return element_problem(op.element, op.weights_element, target)
    return None


_OPERANDS_OF_NUMBERS = ("input", "output", "lhs", "rhs", "weights", "table")


@cache
def _number_fields(op_class: type[ElementOp]) -> tuple[tuple[str, str], ...]:
    """(field, operand) of the fields that hold a number of an operand."""
    fields = {name: operand for name, operand in _NUMBER_FIELDS.items() if name in op_class.attribute_fields}
    if "zero_point" in fields and issubclass(op_class, MatmulOp):
        fields["zero_point"] = "input"
    return tuple(fields.items())


@cache
def _byte_fields(op_class: type[ElementOp]) -> tuple[tuple[str, str], ...]:
    """(field, operand) of the offsets and strides in SRAM, which count bytes."""
    parts = ((name, *name.partition("_")[::2]) for name in op_class.attribute_fields)
    return tuple(
        (name, operand)
        for name, operand, rest in parts
        if (rest == "offset" or "stride" in rest) and operand in _OPERANDS_OF_NUMBERS and operand not in op_class.spaces
    )


def _window_problem(op: WindowOp) -> str | None:
    if isinstance(op, MatmulOp):
        channels, _ = op.channel_span
        used = op.groups * op.in_c
    elif isinstance(op, VectorWindowOp):
        channels = used = op.channels
    else:
        return None
    need_h, need_w = op.padded_size
    unfolded = op.out_h * op.out_w * op.kernel_h * op.kernel_w * used
    if max(unfolded, need_h * need_w * channels) > WINDOW_LIMIT:
        return f"unfolds its input into {max(unfolded, need_h * need_w * channels)} elements, at most {WINDOW_LIMIT}"
    return None


def _region_problem(op: InstructionOp, region: Region, limits: dict[str, int], constants_bytes: int) -> str | None:
    space = space_of(type(op), region.operand)
    if not region.size:
        # An input that lies entirely in the padding is legal; a result of size 0 is not.
        return None if region.operand == "input" and isinstance(op, WindowOp) else f"'{region.operand}' is empty"
    if region.writes and _writes_twice(region):
        return f"'{region.operand}' writes some elements twice"
    if region.offset < 0 or region.end > limits[space]:
        return f"'{region.operand}' reaches {region.offset:#x} to {region.end:#x}, the {space} has {limits[space]:#x}"
    if space == "dram":
        if region.writes and region.offset < constants_bytes:
            return f"writes to the constants at {region.offset:#x}"
        if not _within_dram(region.offset, region.end, constants_bytes, limits[space]):
            return f"'{region.operand}' runs from the constants into the buffers"
    return None


def _writes_twice(region: Region) -> bool:
    """True unless each stride steps over everything that the smaller strides reach."""
    reach = 0
    for stride, count in sorted((stride, n) for n, stride in zip(region.shape, region.strides, strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += (count - 1) * stride
    return False

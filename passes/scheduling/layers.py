"""The scheduler's view of a lowered function: units of work in order, the tensors they use, host operations around."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ...dialects.core.operation import Function, Operation, Value
from ...dialects.nn.onnx import HostOp
from ...dialects.quant.ops import QuantizeOp
from ...dialects.tile.array import MatmulOp
from ...dialects.tile.host import CallHostOp
from ...dialects.tile.instruction import InstructionOp, Region
from ...dialects.tile.memory import AllocOp, HostReadOp, HostWriteOp, LoadOp, StoreOp
from ...dialects.tile.types import BufferType
from ...dialects.tile.vector import RequantizeOp
from ..lowering.host_calls import source_of
from .strips import row_count, with_attributes


@dataclass(eq=False)
class Unit:
    """Instructions that are cut together: a product with its requantizations, or one other instruction.

    `constants` are the loads of weights, parameters and tables it needs; `weights` is the one that can be cut, None
    where the weights are a tensor as the input is.
    """

    main: InstructionOp
    requantize: list[RequantizeOp] = field(default_factory=list[RequantizeOp])
    constants: list[LoadOp] = field(default_factory=list[LoadOp])
    weights: LoadOp | None = None
    tensors: list[Value[Any]] = field(default_factory=list[Value[Any]])
    """The tensors it touches, each once."""
    held: Value[Any] | None = None
    """The tensor that a product takes as weights, if something on the machine writes it and nothing else of the unit
    touches it: where it is spilled, one matrix of it is loaded once for all strips."""

    @property
    def operations(self) -> list[InstructionOp]:
        """The main instruction, then the requantizations."""
        return [self.main, *self.requantize]

    @cached_property
    def rows(self) -> int:
        """How many rows the unit can be cut into."""
        return row_count(self.main)

    @cached_property
    def parameter_bytes(self) -> int:
        """Bytes of parameters and tables."""
        return sum(load.size for load in self.constants)

    @cached_property
    def constant_bytes(self) -> int:
        """Bytes of weights, parameters and tables."""
        return self.parameter_bytes + (self.weights.size if self.weights else 0)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the weights of a product, 0 for anything else."""
        return self.main.weight_bytes if isinstance(self.main, MatmulOp) else 0

    @property
    def layer(self) -> int:
        """The layer it belongs to."""
        return self.main.layer


@dataclass
class Program:
    """A lowered function taken apart: host operations before and after, units between, tensors in SRAM."""

    before: list[Operation]
    units: list[Unit]
    after: list[Operation]
    tensors: dict[Value[Any], int]
    """Every SRAM tensor and its size in bytes."""
    uses: dict[Value[Any], list[int]]
    """Indices of the units that touch a tensor."""
    alive: list[list[Value[Any]]]
    """The tensors that are live while each unit runs, in the order of `tensors`."""
    on_host: dict[int, list[Operation]] = field(default_factory=dict[int, list[Operation]])
    """What the host does in each of its calls, by the number of the call."""
    cuts: dict[tuple[Unit, int, bool, Any], Any] = field(default_factory=dict[tuple[Unit, int, bool, Any], Any])
    """What `Residency` has found for units without spilled tensors, by unit, budget, double buffering and grain."""
    pieces: dict[tuple[Unit, int, Any], int] = field(default_factory=dict[tuple[Unit, int, Any], int])
    """What `pieces.piece_rows` has found, by unit, rows and grain."""
    series: dict[tuple[Unit, int], Any] = field(default_factory=dict[tuple[Unit, int], Any])
    """What `pieces.series_of` has found, by unit and rows."""
    strips: dict[tuple[Unit, int], dict[Value[Any], int]] = field(default_factory=dict[Any, Any])
    """What `chunks.strip_bytes` has found, by unit and rows."""
    chains: dict[tuple[int, int, int], Any] = field(default_factory=dict[tuple[int, int, int], Any])
    """What `fusion.chain_of` has found, by first unit, last unit and number of pieces."""
    plans: dict[tuple[int, bool, bool, Any], Any] = field(default_factory=dict[Any, Any])
    """What `Residency.decide` has found, by budget, fusion, double buffering and grain."""
    orders: dict[tuple[int, bool, bool, Any, float, float], Any] = field(default_factory=dict[Any, Any])
    """What `interleaving.quickest_order` has found, by what plans are, patience and the memory that may be short."""
    written_whole: dict[Value[Any], bool] = field(default_factory=dict[Value[Any], bool])
    """What `is_written_whole` has found."""
    sums: dict[Value[Any], list[int]] = field(default_factory=dict[Value[Any], list[int]])
    """What `sums_in_place` has found."""
    splits: dict[tuple[Value[Any], int], Program] = field(default_factory=dict[Any, Any])
    """What `split` has made."""

    def first_use(self, tensor: Value[Any]) -> int:
        """Index of the first unit that touches a tensor."""
        return self.uses[tensor][0]

    def last_use(self, tensor: Value[Any]) -> int:
        """Index of the last unit that touches a tensor."""
        return self.uses[tensor][-1]

    def live(self, first: int, last: int) -> list[Value[Any]]:
        """The tensors that are live while units `first` to `last` run."""
        if first == last:
            return self.alive[first]
        born = {tensor for alive in self.alive[first : last + 1] for tensor in alive}
        return sorted(born, key=self.rank.__getitem__)

    @property
    def bytes_at_once(self) -> int:
        """The bytes that are live together if all constants are loaded before the first unit runs."""
        most = constants = 0
        for unit, alive in zip(reversed(self.units), reversed(self.alive), strict=True):
            constants += unit.constant_bytes
            most = max(most, constants + sum(self.tensors[tensor] for tensor in alive))
        return most

    @cached_property
    def repeated_bytes(self) -> int:
        """The bytes of constants that units load after others have, as the steps of a recurrent layer do."""
        loads = [load for unit in self.units for load in (*unit.constants, unit.weights) if load is not None]
        sizes = {(load.source, load.destination.type.size): load.size for load in loads}
        return sum(load.size for load in loads) - sum(sizes.values())

    @cached_property
    def index(self) -> dict[Unit, int]:
        """The position of every unit among all."""
        return {unit: position for position, unit in enumerate(self.units)}

    @cached_property
    def rank(self) -> dict[Value[Any], int]:
        """The position of every tensor among all."""
        return {tensor: position for position, tensor in enumerate(self.tensors)}

    def buffers_of_host(self, unit: Unit) -> dict[Value[Any], bool]:
        """The DRAM buffers, and the tensors behind them, that order a unit before or after calls of the host.

        True for what the unit writes. A call comes after the stores of what it reads; loads of its results, and what
        may load them in their place because the tensor is spilled, come after it.
        """
        main = unit.main
        if isinstance(main, CallHostOp):
            reads = [op.buffer for op in self.on_host.get(main.call, ()) if isinstance(op, HostReadOp)]
            transfers = [unit.main for unit in self.units if isinstance(unit.main, LoadOp)]
            loads = [load.destination for load in transfers if load.source is main.destination]
            return {**dict.fromkeys(reads, False), **dict.fromkeys((main.destination, *loads), True)}
        if not self.on_host:
            return {}
        dram = [value for value in main.operands if isinstance(value.defining_op, AllocOp) and _is_dram(value)]
        return {value: isinstance(main, StoreOp) for value in dram}

    def is_written_whole(self, tensor: Value[Any]) -> bool:
        """True if units write every byte of a tensor: it has no gaps."""
        if tensor not in self.written_whole:
            self.written_whole[tensor] = self._written_bytes(tensor) >= self.tensors[tensor]
        return self.written_whole[tensor]

    def sums_in_place(self, tensor: Value[Any]) -> list[int]:
        """Indices of the units that read a tensor and write every byte of it anew: from there on it is another one."""
        if tensor not in self.sums:
            later = self.uses[tensor][1:]
            self.sums[tensor] = [index for index in later if self._renews(self.units[index], tensor)]
        return self.sums[tensor]

    def _renews(self, unit: Unit, tensor: Value[Any]) -> bool:
        regions = [region for op in unit.operations for region in op.regions() if _is_of(region, op, tensor)]
        written = sum(region.size for region in regions if region.writes)
        return written == self.tensors[tensor] and any(not region.writes for region in regions)

    def split(self, tensor: Value[Any], at: int) -> Program:
        """The program in which the sum in place of unit `at`, and what later units touch, is a tensor of its own.

        Made once; the units that touch it are copies.
        """
        if (tensor, at) not in self.splits:
            alloc = AllocOp((), (tensor.type,), {"row_stride": self.row_stride(tensor)})
            alloc.buffer.name = tensor.name
            units = list(self.units)
            for index in self.uses[tensor]:
                if index >= at:
                    units[index] = _with_other(units[index], tensor, alloc.buffer, writes_only=index == at)
            unchanged = {unit for unit, other in zip(self.units, units, strict=True) if unit is other}
            split = Program.of_units(self.before, units, self.after, {**self.tensors, alloc.buffer: tensor.type.size})
            split.on_host, split.cuts, split.pieces = self.on_host, self.cuts, self.pieces
            split.series = {key: found for key, found in self.series.items() if key[0] in unchanged}
            split.strips = {key: found for key, found in self.strips.items() if key[0] in unchanged}
            changed = [index for index, unit in enumerate(units) if unit not in unchanged]
            split.chains = {
                key: chain
                for key, chain in self.chains.items()
                if not any(key[0] <= index <= key[1] for index in changed)
            }
            self.splits[tensor, at] = split
        return self.splits[tensor, at]

    def forget_splits(self) -> None:
        """Nothing uses the operands of the copies that splits have made any more."""
        for split in self.splits.values():
            for unit in set(split.units) - set(self.units):
                for op in unit.operations:
                    op.set_operands(())
            split.forget_splits()
        self.splits.clear()

    def _written_bytes(self, tensor: Value[Any]) -> int:
        written = 0
        for index in self.uses[tensor]:
            for op in self.units[index].operations:
                reads = any(_is_of(region, op, tensor) and not region.writes for region in op.regions())
                regions = [region for region in op.regions() if _is_of(region, op, tensor) and region.writes]
                written += 0 if reads else sum(region.size for region in regions)
        return written

    def row_stride(self, tensor: Value[Any]) -> int:
        """Bytes of one row of a tensor."""
        op = tensor.defining_op
        assert isinstance(op, AllocOp)
        return op.row_stride

    @classmethod
    def of(cls, function: Function) -> Program:
        """Take @main apart; it must come from `lower-to-tile`."""
        operations = list(function.body)
        marks = [index for index, op in enumerate(operations) if isinstance(op, InstructionOp)]
        start, end = (marks[0], marks[-1] + 1) if marks else (len(operations) - 1, len(operations) - 1)
        before = [op for op in operations[:start] if not _is_on_chip(op)]
        inside = operations[start:end]
        others = [op for op in inside if not isinstance(op, InstructionOp) and not _is_on_chip(op)]
        before += [op for op in others if _is_early(op)]
        on_host, after = _calls([*(op for op in others if not _is_early(op)), *operations[end:]])
        units = _units([op for op in inside if isinstance(op, InstructionOp)])
        tensors: dict[Value[Any], int] = {
            op.buffer: op.buffer.type.size for op in operations if isinstance(op, AllocOp) and op.row_stride > 0
        }
        found = cls.of_units(before, units, after, tensors)
        found.on_host = on_host
        return found

    @classmethod
    def of_units(
        cls, before: list[Operation], units: list[Unit], after: list[Operation], tensors: dict[Value[Any], int]
    ) -> Program:
        """The program of these units, which touch these tensors."""
        uses: dict[Value[Any], list[int]] = {}
        loaded = {unit.main.destination for unit in units if isinstance(unit.main, LoadOp)}
        for index, unit in enumerate(units):
            operands = [v for op in unit.operations for v in op.operands if v in tensors]
            unit.tensors = list(dict.fromkeys(operands))
            if isinstance(unit.main, MatmulOp):
                weights = unit.main.weights
                unit.held = weights if operands.count(weights) == 1 and weights not in loaded else None
            for value in unit.tensors:
                uses.setdefault(value, []).append(index)
        alive: list[list[Value[Any]]] = [[] for _ in units]
        for tensor in tensors:
            if tensor in uses:
                for index in range(uses[tensor][0], uses[tensor][-1] + 1):
                    alive[index].append(tensor)
        return cls(before, units, after, tensors, uses, alive)


def is_whole_constant(load: LoadOp) -> bool:
    """True for weights, parameters and tables: constants that are in SRAM as a whole, not tensors with rows."""
    alloc = load.destination.defining_op
    is_tensor = isinstance(alloc, AllocOp) and alloc.row_stride > 0
    return not is_tensor and not isinstance(load.source.defining_op, AllocOp)


def _is_dram(value: Value[Any]) -> bool:
    return isinstance(value.type, BufferType) and value.type.space == "dram"


def _is_on_chip(op: Operation) -> bool:
    return isinstance(op, AllocOp) and op.buffer.type.space != "dram"


def _is_early(op: Operation) -> bool:
    """DRAM buffers, and what the host does to fill them; reading results back comes after all instructions."""
    if isinstance(op, AllocOp):
        return True
    return not isinstance(op, (HostReadOp, HostOp)) and not any(_comes_from_machine(value) for value in op.operands)


def _comes_from_machine(value: Value[Any]) -> bool:
    op = value.defining_op
    return op is not None and (isinstance(op, (HostReadOp, HostOp)) or any(_comes_from_machine(v) for v in op.operands))


def _calls(late: list[Operation]) -> tuple[dict[int, list[Operation]], list[Operation]]:
    """What the host does in each call, with the steps that lead there and back, and what it does after all."""
    waiting = dict.fromkeys(late)
    calls: dict[int, list[Operation]] = {}
    number: dict[Operation, int] = {}

    def take(op: Operation, into: list[Operation]) -> None:
        if op in waiting:
            del waiting[op]
            for value in op.operands:
                if value.defining_op is not None:
                    take(value.defining_op, into)
            into.append(op)

    for op in late:
        if isinstance(op, HostOp):
            number[op] = len(calls)
            take(op, calls.setdefault(number[op], []))
        elif isinstance(op, HostWriteOp):
            quantize = op.data.defining_op
            call = source_of(quantize.data) if isinstance(quantize, QuantizeOp) else None
            if call is not None:
                take(op, calls[number[call]])
    return calls, list(waiting)


def _units(instructions: list[InstructionOp]) -> list[Unit]:
    units: list[Unit] = []
    constants: dict[Value[Any], LoadOp] = {}
    products: dict[Value[Any], Unit] = {}
    for op in instructions:
        if isinstance(op, LoadOp) and is_whole_constant(op):
            constants[op.destination] = op
            continue
        if isinstance(op, RequantizeOp):
            unit = products[op.accumulator]
            unit.requantize.append(op)
        else:
            unit = Unit(op)
            units.append(unit)
        if isinstance(op, MatmulOp):
            products[op.accumulator] = unit
            unit.weights = None if op.weights_stride else constants[op.weights]
        for value in op.operands:
            load = constants.get(value)
            if load is not None and load is not unit.weights and load not in unit.constants:
                unit.constants.append(load)
    return units


def _with_other(unit: Unit, tensor: Value[Any], other: Value[Any], *, writes_only: bool) -> Unit:
    """A copy of a unit that touches another tensor instead of one, or only writes it."""
    operations = [with_attributes(op) for op in unit.operations]
    for op in operations:
        written = {region.operand for region in op.regions() if region.writes}
        for position, (declared, value) in enumerate(zip(op.operand_fields, op.operands, strict=False)):
            if value is tensor and (declared.name in written or not writes_only):
                op.set_operand(position, other)
    requantize = [op for op in operations[1:] if isinstance(op, RequantizeOp)]
    return Unit(operations[0], requantize, unit.constants, unit.weights)


def _is_of(region: Region, op: InstructionOp, tensor: Value[Any]) -> bool:
    names = [declared.name for declared in op.operand_fields]
    return op.operands[names.index(region.operand)] is tensor

"""The pass `insert-quantization`: a float network becomes one that computes in 8-bit integers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Function, Module, Operation, Value
from ..dialects.core.types import F32, TensorType
from ..dialects.quant.ops import DequantizeOp, QuantizeOp, ScaleOp
from .framework.base import Pass, at_least
from .framework.environment import CalibrationData, Environment
from .quantization.calibration import calibrate
from .quantization.conversion import Conversion
from .quantization.decided import (
    decided_types,
    dequantized_inputs,
    erase_unused,
    give_readers_integers,
    is_own,
    range_of,
)
from .quantization.grouping import TypeGroups
from .quantization.host import epilogue, prologue
from .quantization.legality import check_convertible, check_integer, float_operations
from .quantization.measure import held_back
from .quantization.ranges import Range
from .quantization.sampling import synthetic_count, synthetic_samples
from .quantization.statistics import statistic_factory


@dataclass(frozen=True)
class InsertQuantization(Pass):
    """Calibrate the float network and rewrite it in 8-bit integers.

    @main becomes: transposes and reshapes of the input (the host does them) -> quant.quantize -> integers only ->
    quant.dequantize -> reshapes and transposes of the output -> return. Activations have one asymmetric int8 type a
    tensor, shared by everything that concat, pooling by maximum and data movement connect; weights are symmetric int8
    with one scale per output channel. What a quantized model has decided stays: types that values are quantized to,
    and stored weights; only what is left is calibrated.

    `method` chooses the range of a tensor from the calibration samples: `min-max`, or `percentile`, which leaves
    100 - `percentile` percent of the values outside on either side. `samples` limits how many samples are used (0:
    all). Without calibration data `synthetic` samples of standard normal noise from `seed` stand in, with a warning (0:
    from 2 large to 64 small ones).
    """

    name: ClassVar[str] = "insert-quantization"

    method: Literal["min-max", "percentile"] = "percentile"
    percentile: float = 99.999
    samples: int = at_least(0, 0)
    synthetic: int = at_least(0, 0)
    seed: int = at_least(0, 0)

    def run(self, module: Module, environment: Environment) -> None:
        if environment.precision != "int8":
            raise CompileError(f"precision is '{environment.precision}', insert-quantization makes int8")
        main = module.main
        environment.baseline.is_known = True
        operations = float_operations(main)
        if not operations:
            return
        host = {**prologue(main), **epilogue(main)}
        check_convertible(operations)
        groups = TypeGroups(operations)
        inputs = _inputs(main, operations)
        given = dequantized_inputs(operations)
        decided = decided_types(groups, inputs, given)
        ranges = {value: range_of(element) for value, element in given.items()}
        sources = [value for value in groups.sources(inputs) if groups.group(value) not in decided]
        used = "no samples"
        if sources:
            samples = self._samples(main, environment)
            used = f"{samples.count} samples ({self.method})"
            ranges |= self._calibrated(module, environment, samples, sources)
        baseline = environment.baseline
        copies = dict(zip(main.body, baseline.module.main.body, strict=True)) if sources and baseline.module else {}
        conversion = Conversion(module, groups.types(ranges, decided))
        first = main.body.first or main.body.terminator
        for value in inputs:
            self._quantize(value, conversion, main, first)
        for op in operations:
            conversion.convert(op)
        baseline.layers = {wide: copies[op] for wide, op in conversion.layers.items() if op in copies and is_own(op)}
        give_readers_integers(conversion, operations)
        _dequantize(main, conversion, operations)
        for op in reversed(operations):
            op.erase()
        erase_unused(main)
        module.drop_unused_constants()
        check_integer(main, host)
        for op, count in conversion.raised.items():
            message = f"raised the weight scale of {count} channels so that their bias fits 32 bits"
            environment.remark(self.name, "analysis", message, location=op.location, channels=count)
        for op, reason in conversion.lost.items():
            message = f"the integers of the model are not kept: {reason}"
            environment.remark(self.name, "missed", message, location=op.location)
        message = f"quantized {len(operations)} operations from {used}"
        environment.remark(self.name, "applied", message, operations=len(operations))

    def _calibrated(
        self, module: Module, environment: Environment, samples: CalibrationData, sources: Sequence[Value[Any]]
    ) -> dict[Value[Any], Range]:
        data, measured = held_back(module, samples)
        baseline = environment.baseline
        baseline.module, baseline.calibration, baseline.measured = module.clone(), data, measured
        try:
            statistic = statistic_factory(self.method, self.percentile)
        except ValueError as error:
            raise CompileError(f"option of pass '{self.name}': {error}") from None
        return calibrate(module, data, sources, statistic, progress=environment.progress)

    def _samples(self, main: Function, environment: Environment) -> CalibrationData:
        given = environment.calibration
        if given is None:
            count = self.synthetic or synthetic_count(main)
            message = (
                f"no calibration data: ranges come from {count} samples of standard normal noise, so cycles and memory "
                "are right but the accuracy on real input is not to be relied on"
            )
            environment.remark(self.name, "warning", message, samples=count)
            return synthetic_samples(main, count, self.seed)
        if self.samples and self.samples < given.count:
            return CalibrationData({name: array[: self.samples] for name, array in given.samples.items()})
        return given

    def _quantize(self, value: Value[Any], conversion: Conversion, main: Function, anchor: Operation) -> None:
        """Quantize an input of the integer part directly behind its definition, an argument before `anchor`."""
        op = QuantizeOp((value,), (TensorType(value.type.shape, conversion.types[value]),))
        definition = value.defining_op
        if definition is not None:
            op.location = definition.location
            main.body.insert_after(definition, op)
        else:
            op.location = value.users[0].location
            main.body.insert_before(anchor, op)
        conversion.twins[value] = op.result


def _inputs(main: Function, operations: Collection[Operation]) -> list[Value[Any]]:
    """The float values that the integer part reads but does not compute: arguments and results of the prologue."""
    inside = set(operations)
    outside = [op for op in main.body if op not in inside and not isinstance(op, (DequantizeOp, ScaleOp))]
    candidates: list[Value[Any]] = [*main.arguments, *(result for op in outside for result in op.results)]
    read = {value for op in operations for value in op.operands}
    found = [value for value in candidates if value in read]
    for value in found:
        if value.type.element != F32:
            raise CompileError(f"input of the integer part is {value.type}, expected f32")
    return found


def _dequantize(main: Function, conversion: Conversion, operations: Collection[Operation]) -> None:
    """Give the float readers outside of the integer part (epilogue, return) the dequantized value."""
    inside = set(operations)
    for op in list(operations):
        value = op.result
        outside = [(user, index) for user, index in value.uses if user not in inside]
        if not outside:
            continue
        twin = conversion.twins[value]
        first = min((user for user, _ in outside), key=list(main.body).index)
        restored = main.body.insert_before(first, DequantizeOp.build(twin, location=op.location))
        restored.result.name = value.name
        for user, index in outside:
            user.set_operand(index, restored.result)

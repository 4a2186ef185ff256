"""The pass `insert-quantization`: a float network becomes one that computes in integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Function, Module, Operation, Value
from .framework.base import Pass, at_least
from .framework.environment import CalibrationData, Environment
from .framework.synthetic import synthetic_count, synthetic_samples
from .quantization.calibration import calibrate, observe
from .quantization.calibration_table import CalibratedTensor, CalibrationTable, tensor_names
from .quantization.clipping import NAMED_METHODS, Method, range_method
from .quantization.formats import FORMATS, INT8
from .quantization.legality import float_operations
from .quantization.measure import Fidelity, decibels, held_back, judging
from .quantization.network import FloatNetwork
from .quantization.range_search import choose_ranges
from .quantization.ranges import Range
from .quantization.refinement import Judge
from .quantization.statistics import TensorStatistics


@dataclass(frozen=True)
class InsertQuantization(Pass):
    """Calibrate the float network and rewrite it in integers.

    @main becomes: transposes and reshapes of the input (the host does them) -> quant.quantize -> integers only ->
    quant.dequantize -> reshapes and transposes of the output -> return. Activations have one asymmetric int8 type a
    tensor, shared by everything that concat, pooling by maximum and data movement connect, and by the steps of a
    recurrent layer; weights are symmetric int8 with one scale per output channel. What a quantized model has decided
    stays: types that values are quantized to, and stored weights; only what is left is calibrated. For precision int16
    activations are symmetric int16, whatever the method over twice what was seen, as far as they can become larger;
    weights are int16 (int8 for int16x8) and sums 48 bits wide. For precision mixed the layers that the environment
    names work in int16, the others in int8.

    `method` chooses the range of a tensor from the calibration samples: `min-max` is all that was seen, `mean-min-max`
    what an average sample reaches, `percentile` leaves 100 - `percentile` percent of the values outside on either side,
    `mse` has the smallest expected squared error, `entropy` the smallest loss of information, and `auto` takes for
    each tensor the one with which the executed integers are closest to the float network, on samples that are held
    back for this and others. `samples` limits how many samples are used (0: all). Without calibration data `synthetic`
    samples of standard normal noise from `seed` stand in, with a warning (0: from 2 large to 64 small ones), and `auto`
    is `percentile`.
    """

    name: ClassVar[str] = "insert-quantization"

    method: Method = "auto"
    percentile: float = at_least(50, 99.999, maximum=100)
    samples: int = at_least(0, 0)
    synthetic: int = at_least(0, 0)
    seed: int = at_least(0, 0)

    def run(self, module: Module, environment: Environment) -> None:
        format = FORMATS.get(environment.precision)
        if format is None and not float_operations(module.main):
            return  # insert-bf16 has left nothing
        if format is None:
            expected = ", ".join(FORMATS)
            raise CompileError(f"precision is '{environment.precision}', insert-quantization makes {expected}")
        main = module.main
        environment.baseline.is_known = True
        network = FloatNetwork(module, format, environment.promoted)
        if not network.operations:
            return
        ranges, used = self._ranges(network, environment) if network.sources else ({}, "no samples")
        baseline = environment.baseline
        copies = dict(zip(main.body, baseline.module.main.body, strict=True)) if baseline.module else {}
        producers: dict[Value[Any], Operation] = {op.result: op for op in network.operations}
        conversion = network.quantize(ranges)
        baseline.layers = {wide: copies[op] for wide, op in conversion.layers.items() if op in copies}
        twins = ((twin, producers.get(value)) for value, twin in conversion.twins.items())
        baseline.origins = {twin: copies[op] for twin, op in twins if op is not None and op in copies}
        for op, count in conversion.raised.items():
            message = f"raised the weight scale of {count} channels so that their bias fits 32 bits"
            environment.remark(self.name, "analysis", message, location=op.location, channels=count)
        for op, reason in conversion.lost.items():
            message = f"the integers of the model are not kept: {reason}"
            environment.remark(self.name, "missed", message, location=op.location)
        message = f"quantized {len(network.operations)} operations from {used}"
        environment.remark(self.name, "applied", message, operations=len(network.operations))

    def _ranges(self, network: FloatNetwork, environment: Environment) -> tuple[dict[Value[Any], Range], str]:
        """The range of every source, and in words what they come from."""
        table, baseline = environment.table, environment.baseline
        baseline.module, baseline.table, baseline.judge = network.module.clone(), table, None
        if table is not None and environment.calibration is None:
            return self._tabled(network, table), f"an earlier calibration with {table.samples} samples"
        samples = self._samples(network.module.main, environment)
        baseline.calibration, baseline.measured = data, measured = held_back(network.module, samples)
        if table is not None:
            return self._tabled(network, table), f"an earlier calibration with {table.samples} samples"
        statistics = calibrate(network.module, data, network.sources, progress=environment.progress)
        wanted = self._wanted(network)
        methods = self._chosen(network, statistics, environment, measured)
        if data is not samples:
            # The choice is made: what was held back may widen the ranges that it leads to.
            observe(network.module, measured, statistics, progress=environment.progress)
        ranges = {
            value: _with_end(network, value, range_method(*methods[value])(seen), seen)
            for value, seen in statistics.items()
        }
        names = {
            value: f"{name}-{percentile:g}" if name == "percentile" else name
            for value, (name, percentile) in methods.items()
        }
        named = tensor_names(network.sources, network.prologue)
        tensors = {named[v]: CalibratedTensor(statistics[v], ranges[v], names[v]) for v in network.sources}
        baseline.table = CalibrationTable(samples.count, tensors, baseline.factors)
        words = "percentile" if wanted == "auto" and environment.calibration is None else wanted
        return ranges, f"{samples.count} samples ({words})"

    def _wanted(self, network: FloatNetwork) -> Method:
        """The method; 16 bits have room for everything that was seen."""
        return self.method if network.format == INT8 else "min-max"

    def _tabled(self, network: FloatNetwork, table: CalibrationTable) -> dict[Value[Any], Range]:
        """The ranges of an earlier calibration: as they were chosen, or by another method from its statistics."""
        ranges: dict[Value[Any], Range] = {}
        for value, name in tensor_names(network.sources, network.prologue).items():
            if name not in table.tensors:
                op = value.defining_op or value.users[0]
                note = "it was made for another model or other passes; calibrate this one again"
                raise op.error(f"the calibration has no tensor '{name}'", notes=(note,))
            seen, method = table.tensors[name], self._wanted(network)
            found = seen.range if method == "auto" else range_method(method, self.percentile)(seen.statistics)
            ranges[value] = _with_end(network, value, found, seen.statistics)
        return ranges

    def _chosen(
        self,
        network: FloatNetwork,
        statistics: Mapping[Value[Any], TensorStatistics],
        environment: Environment,
        measured: CalibrationData,
    ) -> dict[Value[Any], tuple[Method, float]]:
        """The method and percentile that every source takes its range from."""
        wanted = self._wanted(network)
        if wanted == "auto" and environment.calibration is not None:
            judges = judging(network.module, environment.baseline.calibration, measured)
            fidelity = Fidelity(network.module, judges, recalls=True)
            choice = choose_ranges(network, statistics, measured, fidelity, progress=environment.progress)
            fidelity.forget()
            environment.baseline.judge = Judge(fidelity)
            counts = ", ".join(f"{count} {name}" for name, count in Counter(choice.names.values()).most_common())
            message = (
                f"ranges of {len(choice.names)} tensors: {counts}; signal to noise of the outputs "
                f"{decibels(choice.error):.1f} dB on {judges.count} samples after {choice.trials} trials"
            )
            environment.remark(self.name, "analysis", message, error=choice.error, trials=choice.trials)
            return {value: NAMED_METHODS[name] for value, name in choice.names.items()}
        name: Method = "percentile" if wanted == "auto" else wanted
        return dict.fromkeys(statistics, (name, self.percentile))

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


def _with_end(network: FloatNetwork, value: Value[Any], found: Range, seen: TensorStatistics) -> Range:
    """The range of a value, final where it holds all that an input of the network can be."""
    is_input = value.defining_op is None or value.defining_op in network.prologue
    return replace(found, final=is_input and seen.is_saturated and found.magnitude == seen.limits.magnitude)


def with_method(passes: Iterable[Pass], name: str) -> list[Pass]:
    """The passes, those that calibrate with the method called `name`; CompileError if there is no such method."""
    if name != "auto" and name not in NAMED_METHODS:
        raise CompileError(f"calibration_method is '{name}', expected auto, {', '.join(NAMED_METHODS)}")
    method, percentile = NAMED_METHODS.get(name, ("auto", InsertQuantization.percentile))
    return [
        replace(each, method=method, percentile=percentile) if isinstance(each, InsertQuantization) else each
        for each in passes
    ]

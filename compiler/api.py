"""The Python API: `compile` and `load` give a `Program`, which runs, reports and can be saved."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from ..backends import program as backend
from ..backends.simulator.modes import BF16_SUMS
from ..backends.simulator.simulator import Simulator
from ..backends.simulator.threads import default_jobs
from ..backends.target import DEFAULT_TARGET, Target, load_target
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.operation import Module
from ..dialects.core.types import Array, TensorType
from ..passes.framework.base import Pass
from ..passes.framework.environment import Progress, silent_progress
from ..passes.registry import PASSES
from .accuracy_report import MeasureLosses, measured_losses
from .agreement import agreement, is_quantized, read_onnx
from .arrays import checked_labels, checked_samples, filled_samples
from .cache import Cache
from .cached import Steps, build
from .driver import Calibration, Compiled, Settings, Source, compile_module, parse_passes, word_for
from .driver import save_calibration as write_calibration
from .evaluation import compare, run_float
from .measuring import measure
from .mixed import Goal, TradeOff, explore
from .report import Report
from .usage import DEFAULT_OPT_LEVEL


class Program:
    """A compiled model: it runs bit-exactly on the functional model of its target, and tells what it costs.

    `target` is the machine, `inputs` and `outputs` are the tensor types by name as the ONNX model has them.
    """

    def __init__(self, compiled: backend.Program, reference: Module | None = None) -> None:
        """Wrap a program of the backend; `reference` is the float module to evaluate against."""
        self.compiled = compiled
        self.reference = reference
        self.accuracy: dict[str, Any] | None = None
        self.tradeoff: TradeOff | None = None
        """Where the precision is mixed and the layers were chosen here: what they were chosen from."""
        self.agreement: dict[str, Any] | None = None
        self.losses: dict[str, Any] | None = None
        """Where the accuracy went, if it was compiled with `accuracy_report`: the report's key of that name."""
        self._simulators: dict[tuple[str, str], Simulator] = {}

    @property
    def target(self) -> Target:
        """The machine it was compiled for."""
        return self.compiled.target

    @property
    def inputs(self) -> dict[str, TensorType]:
        """The inputs by name; the first axis is the batch of one run."""
        return {port.name: port.type for port in self.compiled.inputs}

    @property
    def outputs(self) -> dict[str, TensorType]:
        """The outputs by name."""
        return {port.name: port.type for port in self.compiled.outputs}

    @property
    def classes(self) -> int:
        """The elements of the first output of one sample: what labels may stand for."""
        first = next(iter(self.outputs.values()))
        return first.size // first.shape[0] if first.rank else 1

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        checked: bool = False,
        bf16_sums: str = "exact",
        jobs: int | None = None,
        progress: Progress = silent_progress,
    ) -> dict[str, Array]:
        """Simulate any number of samples: arrays by input name in, arrays by output name out.

        The first axis counts samples: an input of type [B, ...] takes B of them a run. float64 and float16 are
        converted to float32. With `checked` reading memory that was never written is an error (slower). `bf16_sums`
        "blas" adds the products of bfloat16 in the order that is fastest here instead of the machine's: those bits are
        inexact, all others are as "exact". `jobs` threads simulate samples side by side (default: one for each core),
        with the same results. Raises CompileError for arrays with a wrong name, shape or type, unequal
        counts, NaN or infinity.
        """
        return self._run(checked_samples(inputs, self.inputs, "inputs"), checked, bf16_sums, jobs, progress)

    def evaluate(
        self,
        inputs: Mapping[str, Array],
        labels: Array,
        *,
        checked: bool = False,
        bf16_sums: str = "exact",
        jobs: int | None = None,
        progress: Progress = silent_progress,
    ) -> dict[str, Any]:
        """Top-1 of the program and of the float model on labelled samples; see the report's key `accuracy`.

        A loaded program holds no float model: then only `program` and `samples` are known. The result is also part of
        `report()` from now on; its key `inexact` says so where a bf16 program ran with `bf16_sums` "blas". Raises
        CompileError as `run` does, and for labels that do not fit.
        """
        samples = checked_samples(inputs, self.inputs, "inputs")
        count = len(next(iter(samples.values())))
        classes = checked_labels({"labels": labels}, count, self.classes, "labels")
        outputs = self._run(samples, checked, bf16_sums, jobs, progress)
        real = None
        if self.reference is not None:
            batch = self._common_batch
            real = run_float(
                self.reference, filled_samples(samples, batch), jobs=jobs or default_jobs(), progress=progress
            )
            real = {name: array[:count] for name, array in real.items()} if batch else real
        self.accuracy = compare(outputs, real, classes)
        if bf16_sums != "exact" and self.compiled.precision == "bf16":
            self.accuracy["inexact"] = "bf16 sums by BLAS"
        return self.accuracy

    def compare_onnxruntime(
        self, inputs: Mapping[str, Array], model: str | Path | ModelProto, *, progress: Progress = silent_progress
    ) -> dict[str, Any]:
        """How far the program is from onnxruntime on a quantized `model`: the one it was compiled from, or exported as.

        See the report's key `onnxruntime`, which the result is from now on. Raises CompileError as `run` does, if
        onnxruntime is not installed, and for a model without integers.
        """
        proto = model if isinstance(model, ModelProto) else read_onnx(Path(model))
        if not is_quantized(proto):
            raise CompileError("the model is not quantized, expected one with QuantizeLinear or operators on integers")
        samples = checked_samples(inputs, self.inputs, "inputs")
        outputs = self._run(samples, False, "exact", None, progress)
        self.agreement = agreement(self.compiled, proto, samples, outputs, progress=progress)
        return self.agreement

    def report(self) -> dict[str, Any]:
        """What the program costs and why, as JSON data: the same as `--report-json`."""
        return self.measure().to_json()

    def measure(self) -> Report:
        """What the program costs and why, as objects."""
        return measure(self.compiled, self.accuracy, self.agreement, self.losses)

    def save(self, path: str | Path) -> None:
        """Write the program file; equal programs give equal bytes. Raises CompileError if it cannot be written."""
        self.compiled.save(path)

    def _run(
        self, samples: Mapping[str, Array], checked: bool, bf16_sums: str, jobs: int | None, progress: Progress
    ) -> dict[str, Array]:
        if jobs is not None and jobs < 1:
            raise CompileError(f"jobs is {jobs}, expected at least 1")
        kind = ("checked" if checked else "fast", bf16_sums)
        if bf16_sums not in BF16_SUMS:
            raise CompileError(f"bf16_sums is '{bf16_sums}', expected one of {', '.join(BF16_SUMS)}")
        if kind not in self._simulators:
            self._simulators[kind] = Simulator(self.compiled, mode=kind[0], bf16_sums=bf16_sums)
        batch = self._common_batch
        filled = filled_samples(samples, batch)
        with progress("simulating", len(next(iter(filled.values())))) as advance:
            seen = 0

            def show(done: int, _: int) -> None:
                nonlocal seen
                advance((done - seen) * (batch or 1))
                seen = done

            outputs = self._simulators[kind].run(filled, jobs=jobs or default_jobs(), progress=show)
        count = len(next(iter(samples.values())))
        if batch and count % batch:
            _check_rows(self._simulators[kind], {name: rows[-batch:] for name, rows in filled.items()}, count % batch)
        return {name: array[:count] for name, array in outputs.items()} if batch else outputs

    @property
    def _common_batch(self) -> int:
        """The first axis that all inputs and outputs share, 0 if they do not: then rows are no samples."""
        sizes = {type.shape[0] if type.rank else 0 for type in (*self.inputs.values(), *self.outputs.values())}
        return sizes.pop() if len(sizes) == 1 else 0

    def __repr__(self) -> str:
        return f"<accelc.Program {self.compiled.model!r} for {self.target.name}>"


def _check_rows(simulator: Simulator, run: Mapping[str, Array], count: int) -> None:
    """CompileError unless the first `count` rows of a run stay the same beside zeros: else rows are no samples.

    Both are run here, alike: sums by BLAS may differ in their last bits from those of more samples at a time.
    """
    beside = {name: np.concatenate([rows[:count], np.zeros_like(rows[count:])]) for name, rows in run.items()}
    outputs, others = simulator.run(run), simulator.run(beside)
    for name, array in outputs.items():
        if array[:count].tobytes() != others[name][:count].tobytes():
            raise CompileError(
                f"inputs: {count} rows are left for the last run, expected {len(array)}: "
                f"the rows of output '{name}' depend on one another"
            )


def compile(
    model: Source,
    target: str | Target = DEFAULT_TARGET,
    *,
    opt_level: int = DEFAULT_OPT_LEVEL,
    precision: str = "int8",
    promoted: Collection[str] | None = None,
    max_accuracy_loss: float | None = None,
    max_cycles_factor: float | None = None,
    calibration: Calibration | None = None,
    calibration_method: str | None = None,
    save_calibration: str | Path | None = None,
    load_calibration: str | Path | None = None,
    batch: int = 1,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_values: Mapping[str, Any] | None = None,
    allow_host: bool = False,
    passes: str | Sequence[Pass] | None = None,
    skip_passes: Collection[str] = (),
    verify_each: bool = True,
    cache_dir: str | Path | None = None,
    accuracy_report: bool = False,
    progress: Progress = silent_progress,
) -> Program:
    """Compile a model for a machine.

    `model` is the path of an .onnx or .air file, the bytes of an ONNX file, an `onnx.ModelProto` or a module.
    `target` is a preset, the path of a .toml file or a `Target`. `calibration` holds sample inputs: an .npz file, a
    folder of .npz and .npy files, or arrays by input name (first axis: samples); without it ranges come from noise,
    cycles are right and accuracy is not. `calibration_method` is auto (default), min-max, mean-min-max,
    percentile-99.99, percentile-99.999, mse or entropy; `save_calibration` is a file to write ranges and histograms to,
    `load_calibration` one to take them from, which needs no samples.

    `precision` is int8, int16, int16x8 (16-bit activations, 8-bit weights), bf16 (bfloat16: nothing is calibrated; the
    target must state a rate for it) or mixed: int8, with the layers of
    `promoted` in int16, or those that measured gain for each added cycle chooses: the fewest cycles within
    `max_accuracy_loss` points (default 0.1), or the least error within `max_cycles_factor` times the cycles of int8.

    `input_shapes` are the shapes of inputs that have symbolic dimensions, by name; `batch` is the size of other
    symbolic first dimensions. `input_values` makes constants of inputs, as in {"sampling_rate": 16000}. With
    `allow_host` what has no integer form runs on the host, in float: the report says what, and what the transfers
    cost; otherwise it is an error.

    `passes` (pipeline text or passes) replaces the pipeline of `opt_level` 0 to 3; those named in `skip_passes` are
    left out. With `accuracy_report` the layers are ranked by their share of the error, which needs `calibration`: see
    the report's key of that name.

    `cache_dir` is a folder that programs are kept in and taken from, by a hash of all that they follow from; several
    processes may share it. It is a warning, not an error, if a program cannot be kept there.

    Raises CompileError with a located message if anything is wrong with these.
    """
    settings = Settings(
        target=target if isinstance(target, Target) else load_target(target),
        opt_level=opt_level,
        precision=precision,
        promoted=promoted or (),
        batch=batch,
        input_shapes=input_shapes or {},
        input_values=input_values or {},
        allow_host=allow_host,
        calibration=calibration,
        calibration_method=calibration_method,
        load_calibration=load_calibration,
        passes=parse_passes(passes) if isinstance(passes, str) else passes,
        skipped=frozenset(skip_passes),
        verify_each=verify_each,
        progress=progress,
    )
    goal = Goal(max_accuracy_loss, max_cycles_factor)
    given = {"promoted": promoted is not None, "a goal of mixed precision": goal != Goal()}
    _check_choices(settings, [name for name, is_given in given.items() if is_given])
    if accuracy_report:
        settings = replace(settings, instrumentation=(MeasureLosses(word_for(model), progress),))

    def run_passes(settings: Settings, imported: Module | None) -> Compiled:
        compiled = compile_module(model, settings, keep_reference=True, imported=imported)
        if save_calibration is not None:
            write_calibration(compiled, Path(save_calibration))
        return compiled

    def search(settings: Settings) -> TradeOff:
        return explore(model, replace(settings, instrumentation=()), goal)

    steps = Steps(run_passes, search if precision == "mixed" and promoted is None else None, _warn_caller)
    cache = Cache(None if cache_dir is None else Path(cache_dir))
    anew = save_calibration is not None or accuracy_report
    built = build(model, settings, cache, steps, anew=anew, keep_reference=True)
    assert built.program is not None, "nothing stops before"
    program = Program(built.program, built.reference)
    program.losses = measured_losses(built.compiled) if accuracy_report and built.compiled else None
    program.tradeoff = built.found
    return program


def _check_choices(settings: Settings, mixed: Sequence[str]) -> None:
    """Raise CompileError for what does not go together; `mixed` is what was given that mixed precision alone takes."""
    unknown = sorted(settings.skipped - {each.name for each in PASSES})
    if unknown:
        raise CompileError(f"skip_passes names '{unknown[0]}', expected one of {', '.join(p.name for p in PASSES)}")
    if settings.precision != "mixed" and mixed:
        raise CompileError(f"{mixed[0]} is given for precision '{settings.precision}', expected precision 'mixed'")


def _warn_caller(message: str) -> None:
    warnings.warn(message, stacklevel=4)  # who called `compile`, which called `build`, which called this


def load(path: str | Path, target: str | Target | None = None) -> Program:
    """Read a program file; CompileError with the reason if anything in it is damaged or wrong.

    A program knows its machine. With `target`, one that was compiled for another machine is refused.
    """
    kind: type = type(path)
    if not issubclass(kind, (str, Path)):
        raise CompileError(f"program is {kind.__name__}, expected the path of a program file")
    machine = load_target(target) if isinstance(target, str) else target
    return Program(backend.load_program(path, target=machine))

"""From a file to a program in one straight line: read by content, import, run the passes, emit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ..backends.emitter import emit as emit_program
from ..backends.program import Program, is_program
from ..backends.target import Target
from ..dialects.core.diagnostics import CompileError, Location
from ..dialects.core.files import read_module
from ..dialects.core.operation import Module
from ..dialects.core.types import BF16, Array, TensorType
from ..dialects.core.verifier import verify
from ..dialects.registry import CONTEXT
from ..dialects.tile.instruction import InstructionOp
from ..passes.framework.base import Pass
from ..passes.framework.environment import Baseline, CalibrationData, Environment, Progress, Remark, silent_progress
from ..passes.framework.pass_manager import Instrumentation, PassManager
from ..passes.framework.pipeline import format_pipeline, parse_pipeline
from ..passes.framework.semantics import computes_in_integers
from ..passes.insert_quantization import with_method
from ..passes.outline_host import OutlineHost, remark_host_calls
from ..passes.pipelines import PIPELINES, require_order
from ..passes.quantization.calibration_table import CalibrationTable, load_table
from ..passes.quantization.legality import float_operations
from ..passes.registry import PASSES
from .arrays import checked_samples, read_samples
from .collecting import collecting_seldom
from .feasibility import check_memory
from .importer import import_model
from .notes import Notes, product_shapes, shuffle_notes
from .report import Product
from .usage import DEFAULT_OPT_LEVEL, OPT_LEVELS

Source = str | Path | bytes | ModelProto | Module
Calibration = str | Path | Mapping[str, Array] | CalibrationData

LEVELS = ("nn", "quant", "tile")
FIRST_PASS = {"quant": "insert-bf16", "tile": "lower-to-tile"}
"""The pass that leads from the level below to this one."""

QUANTIZING = ("insert-bf16", "insert-quantization", "round-weights", "correct-bias")
"""The passes that need the float network: they do not run on a module that holds integers or bf16 already."""

EXPORT = "onnx"
"""Where a pipeline stops to be exported: integers that no pass has changed for the machine."""

MACHINE_PASSES = ("pad-channels", "lower-to-tile")

SNIFFED_BYTES = 512
"""How much of a file decides what it is: an ONNX file has control characters by then, IR text never has."""


@dataclass(frozen=True)
class Settings:
    """What to compile for and how. `passes` replaces the pipeline of `opt_level`; `stop` is a level, or None for all.

    `calibration` is where sample inputs come from: data, arrays by input name, or a file or folder of them.
    `calibration_method` (a name of `CALIBRATION_METHODS`) replaces `auto`, and `load_calibration` is a file of
    `CalibrationTable.save` that replaces what would be found in `calibration`. `instrumentation` watches the passes.
    Passes whose names are in `skipped` are left out.
    `promoted` are the layers that work in int16 where the precision is mixed.
    `input_shapes` are the shapes of inputs by name; `batch` is the size of other symbolic first dimensions.
    `input_values` are the values of inputs that are constants, by name.
    With `allow_host` what has no integer form runs on the host.
    """

    target: Target
    opt_level: int = DEFAULT_OPT_LEVEL
    precision: str = "int8"
    promoted: Collection[str] = ()
    batch: int = 1
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    input_values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    calibration: Calibration | None = None
    calibration_method: str | None = None
    load_calibration: str | Path | None = None
    passes: Sequence[Pass] | None = None
    skipped: frozenset[str] = frozenset()
    stop: str | None = None
    allow_host: bool = False
    verify_each: bool = True
    instrumentation: Sequence[Instrumentation] = ()
    progress: Progress = silent_progress


@dataclass(frozen=True)
class Compiled:
    """A module after its passes, with what the report needs: the float module it came from and what passes remarked.

    `source` is the word for the model in messages: its path, or 'model'.
    """

    source: str
    module: Module
    reference: Module | None
    settings: Settings
    pipeline: str
    products: dict[str, Product]
    remarks: list[Remark] = field(default_factory=list[Remark])
    table: CalibrationTable | None = None
    """What calibration found out; None where it had nothing to find out."""

    @property
    def name(self) -> str:
        """The word for the model in reports."""
        return Path(self.source).stem

    @property
    def warnings(self) -> list[str]:
        """The remarks that the user must see."""
        return [remark.message for remark in self.remarks if remark.kind == "warning"]


def kind_of(path: Path) -> str:
    """`onnx`, `air` or `accel`, by the content of the file; CompileError if it cannot be read or is empty."""
    try:
        if path.is_dir():
            raise CompileError(f"{path}: a folder, expected an .onnx, .air or .accel file")
        with path.open("rb") as file:
            head = file.read(SNIFFED_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise CompileError(f"{path}: cannot be read: {reason or error}") from None
    if not head:
        raise CompileError(f"{path}: empty, expected an .onnx, .air or .accel file")
    if is_program(head) or path.suffix == ".accel":
        return "accel"
    return "onnx" if any(byte < 32 and byte not in b"\t\n\r\f" for byte in head) else "air"


def load_module(
    source: Source,
    *,
    batch: int = 1,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_values: Mapping[str, Any] | None = None,
    allow_host: bool = False,
) -> Module:
    """The module of an ONNX model or of IR text; a Module is copied, so that passes leave it as it is.

    The options are those of `import_model`; IR text and a Module keep their shapes and inputs.
    """
    kind: type = type(source)
    if not issubclass(kind, (str, Path, bytes, ModelProto, Module)):
        raise CompileError(f"model is {kind.__name__}, expected a path, an onnx.ModelProto, its bytes or a Module")
    if isinstance(source, Module):
        _refuse_shapes("model", input_shapes, input_values, batch)
        return source.clone()
    if isinstance(source, (str, Path)):
        path = Path(source)
        content = kind_of(path)
        if content == "accel":
            raise CompileError(f"{path}: already a program, expected an .onnx or .air file")
        if content == "air":
            _refuse_shapes(str(path), input_shapes, input_values, batch)
            module = read_module(path, CONTEXT)
            verify(module)
            try:
                _ = module.main
            except CompileError as error:
                raise CompileError(f"{path}: {error.diagnostics[0].message}") from None
            return module
        source = path
    return import_model(
        source, batch=batch, input_shapes=input_shapes, input_values=input_values, allow_host=allow_host
    )


def load_source(source: Source, settings: Settings) -> Module:
    """The module of a source, with the shapes and constants that the settings ask for."""
    return load_module(
        source,
        batch=settings.batch,
        input_shapes=settings.input_shapes,
        input_values=settings.input_values,
        allow_host=settings.allow_host,
    )


def _refuse_shapes(
    what: str, shapes: Mapping[str, Sequence[int]] | None, values: Mapping[str, Any] | None, batch: int
) -> None:
    if values:
        raise CompileError(f"{what}: a value is given for input '{next(iter(values))}', which IR keeps as an input")
    given = f"a shape is given for input '{next(iter(shapes))}'" if shapes else f"a batch of {batch} is given"
    if shapes or batch != 1:
        raise CompileError(f"{what}: {given}, but IR has the shapes of its inputs")


def float_reference(source: Source, settings: Settings, imported: Module | None = None) -> Module | None:
    """The module to evaluate integers against, as `compile_module` keeps it; None for one that holds integers already.

    `imported` is what `load_module` made of the source, where that has been done.
    """
    module = load_source(source, settings) if imported is None else imported
    return module if level_of(module) == "nn" else None


def level_of(module: Module) -> str:
    """How far down a module is: `nn` (float, maybe in part), `quant` (integers or bf16) or `tile` (instructions)."""
    if any(isinstance(op, InstructionOp) for op in module.walk()):
        return "tile"
    return "quant" if computes_in_integers(module) and not float_operations(module.main) else "nn"


def _is_bfloat16(module: Module) -> bool:
    """True for IR that computes in bf16, whatever precision is asked for."""
    types = (result.type for op in module.walk() for result in op.results)
    return any(isinstance(type, TensorType) and type.element == BF16 for type in types)


def passes_between(passes: Sequence[Pass], start: str, stop: str | None) -> list[Pass]:
    """The part of a pipeline that leads from level `start` to the end of level `stop` (None: to the end of all)."""
    names = [each.name for each in passes]
    first = 0
    if start == "tile":
        first = len(names)
    elif start == "quant":
        first = max((index + 1 for index, name in enumerate(names) if name in QUANTIZING), default=0)
    last = len(names)
    if stop == EXPORT:
        last = next((index for index, name in enumerate(names) if name in MACHINE_PASSES), last)
    elif stop is not None and stop != LEVELS[-1]:
        following = FIRST_PASS[LEVELS[LEVELS.index(stop) + 1]]
        last = names.index(following) if following in names else last
    return list(passes[first:last])


@collecting_seldom()
def compile_module(
    source: Source,
    settings: Settings,
    *,
    keep_reference: bool = False,
    imported: Module | None = None,
    baseline: Baseline | None = None,
    table: CalibrationTable | None = None,
) -> Compiled:
    """Import and run the passes. With `keep_reference` the float module is kept beside the result.

    `imported` is what `load_module` made of the source, where that has been done; it stays as it is. `baseline` is
    filled with what integers are compared with; `table` stands for that of `load_calibration`.

    Raises CompileError for everything that is wrong with the model, its calibration data or the pipeline.
    """
    module = load_source(source, settings) if imported is None else imported.clone()
    level = level_of(module)
    if level != "nn" and _is_bfloat16(module):
        settings = replace(settings, precision="bf16")
    if level == "nn" and settings.stop != "nn":
        check_memory(module, settings.target, word_for(source))
    products = product_shapes(module)
    reference = module.clone() if keep_reference and level == "nn" else None
    passes = settings.passes
    if passes is None:
        if settings.opt_level not in OPT_LEVELS:
            raise CompileError(f"opt_level is {settings.opt_level}, expected 0 to 3")
        passes = passes_between(parse_pipeline(PIPELINES[f"O{settings.opt_level}"], PASSES), level, settings.stop)
    if settings.calibration_method is not None:
        passes = with_method(passes, settings.calibration_method)
    kept = [each for each in passes if each.name not in settings.skipped]
    environment = Environment(
        target=settings.target,
        calibration=calibration_data(settings.calibration, module),
        table=table or (None if settings.load_calibration is None else load_table(Path(settings.load_calibration))),
        precision=settings.precision,
        promoted=frozenset(settings.promoted),
        allow_host=settings.allow_host,
        progress=settings.progress,
        baseline=baseline or Baseline(),
    )
    for name in sorted(settings.skipped - {each.name for each in passes}):
        environment.remark(name, "warning", f"the pass '{name}' is to be skipped, but the pipeline does not have it")
    if OutlineHost.name not in {each.name for each in kept}:
        remark_host_calls(module, environment)
    PassManager(kept, settings.verify_each, settings.instrumentation).run(module, environment)
    return Compiled(
        word_for(source),
        module,
        reference,
        settings,
        format_pipeline(kept),
        products,
        environment.remarks,
        environment.baseline.table,
    )


@collecting_seldom()
def emit(compiled: Compiled) -> Program:
    """The program of a compiled module; CompileError if its passes have not led down to scheduled instructions."""
    level, settings = level_of(compiled.module), compiled.settings
    if level != "tile" and settings.passes is None and not settings.skipped:
        raise CompileError(
            f"{compiled.source}: nothing is left to compute: "
            "all outputs are inputs or constants, at most reshaped or transposed"
        )
    if level != "tile":
        done = f"after the passes {compiled.pipeline}" if compiled.pipeline else "without a pass"
        raise CompileError(
            f"{compiled.source}: the module is at level {level} {done}, expected tile; a program needs all passes"
        )
    _check_tokens(compiled.module)
    facts = ("sram_peak_bytes", "sram_lower_bound_bytes", "spilled_bytes")
    found = {name.removeprefix("sram_"): compiled.module.attributes.get(name) for name in facts}
    notes = Notes(
        opt_level=settings.opt_level if settings.passes is None else None,
        pipeline=compiled.pipeline,
        layer_nodes=layer_nodes(compiled.module),
        sram={name: value for name, value in found.items() if isinstance(value, int)},
        products=compiled.products,
        shuffles=shuffle_notes(compiled.remarks, settings.target),
        warnings=tuple(compiled.warnings),
        remarks=tuple(
            str(remark) for remark in compiled.remarks if remark.kind not in ("warning", "shuffle", "mapping")
        ),
    )
    model, precision = compiled.name, settings.precision
    return emit_program(compiled.module, settings.target, model=model, precision=precision, report=notes.to_json())


def _check_tokens(module: Module) -> None:
    """Raise CompileError where engines run side by side and nothing orders them: times and results would be wrong."""
    instructions = [op for op in module.walk() if isinstance(op, InstructionOp)]
    if len({op.engine for op in instructions}) > 1 and not any(op.wait for op in instructions):
        raise CompileError("no instruction waits for another engine, expected tokens; run the pass 'insert-tokens'")


def parse_passes(text: str) -> tuple[Pass, ...]:
    """The passes of a pipeline text; CompileError with the column of the first mistake, or what is out of order."""
    passes = parse_pipeline(text, PASSES, pipelines=PIPELINES)
    require_order(passes)
    return passes


def layer_nodes(module: Module) -> tuple[tuple[str, ...], ...]:
    """The ONNX nodes of every layer, by index."""
    nodes: dict[int, tuple[str, ...]] = {}
    for op in module.walk():
        if isinstance(op, InstructionOp):
            nodes[op.layer] = op.location.merged(Location(nodes.get(op.layer, ()))).nodes
    return tuple(nodes.get(index, ()) for index in range(max(nodes, default=-1) + 1))


def save_calibration(compiled: Compiled, path: Path) -> None:
    """Write what calibration found out; CompileError if it found nothing or the file cannot be written."""
    if compiled.table is None:
        raise CompileError(f"{path}: nothing to write: no tensor was calibrated")
    compiled.table.save(path)


def calibration_data(given: Calibration | None, module: Module) -> CalibrationData | None:
    """The samples that `given` names, read and checked; CompileError if they do not fit the inputs of the module."""
    if given is None or isinstance(given, CalibrationData):
        return given
    kind: type = type(given)
    if not issubclass(kind, (str, Path, Mapping)):
        raise CompileError(f"calibration is {kind.__name__}, expected a path or arrays by input name")
    inputs = {str(a.name): a.type for a in module.main.arguments if isinstance(a.type, TensorType)}
    if isinstance(given, (str, Path)):
        return CalibrationData(checked_samples(read_samples(Path(given), inputs), inputs, str(given)))
    return CalibrationData(checked_samples(given, inputs, "calibration data"))


def word_for(source: Source) -> str:
    """The word for a model in messages: its path, or 'model'."""
    return str(source) if isinstance(source, (str, Path)) else "model"

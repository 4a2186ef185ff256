"""What `accelc` does once its command line is read: compile or load, then run, evaluate, report and write."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..backends.assembly import disassemble
from ..backends.program import Program as CompiledProgram
from ..backends.target import DEFAULT_TARGET, load_target
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.files import write_atomically, write_module, write_npz
from ..dialects.core.operation import Module
from ..dialects.core.printer import elided_constants, print_module
from ..passes.framework.base import Pass
from ..passes.framework.pass_manager import Instrumentation
from ..passes.framework.printing import PrintIr
from ..passes.framework.semantics import VerifySemantics
from ..passes.framework.timing import TimePasses
from ..passes.registry import PASSES
from .accuracy_report import MeasureLosses, loss_table, measured_losses
from .agreement import KeepIntegers, is_quantized, read_onnx
from .api import Program, load
from .arrays import checked_labels, checked_samples, read_npz
from .cache import Cache
from .cached import Steps, build
from .driver import EXPORT, LEVELS, Compiled, Settings, compile_module, kind_of, parse_passes, save_calibration
from .explaining import Explanation, explain, render_explanation
from .exporter import export, export_model
from .listing import operation_list, pass_list, target_list
from .mixed import Goal, TradeOff, explore
from .notes import read_notes
from .pareto import records, table, write_pareto
from .progress import terminal_progress
from .report import Report, write_report
from .report_text import WIDTH, accuracy_line, agreement_lines, render_report, summary_line
from .trace import write_trace
from .usage import DEFAULT_OPT_LEVEL, DEFAULT_PRECISION, UsageError


def execute(options: argparse.Namespace) -> None:
    """Carry out a command line; CompileError where the user's input is at fault, UsageError where the line is."""
    lists = ((options.list_targets, target_list), (options.list_passes, pass_list), (options.list_ops, operation_list))
    for wanted, listed in lists:
        if wanted:
            print(listed())
    if options.model is None:
        return
    path = Path(options.model)
    explanations: Sequence[Explanation] = ()
    if kind_of(path) == "accel":
        program = _loaded(path, options)
    else:
        settings, cache = _settings(options), Cache(options.cache_dir)
        searched = settings.precision == "mixed" and options.promote is None
        steps = Steps(
            run_passes=lambda chosen, imported: _compiled(path, chosen, imported, options),
            search=(lambda given: _trade_off(path, given, options)) if searched else None,
            warn=lambda message: _warn([message]),
        )
        anew = bool(settings.instrumentation or options.explain or options.save_calibration)
        built = build(path, settings, cache, steps, anew=anew, keep_reference=options.evaluate is not None)
        compiled = built.compiled
        if built.program is None:
            assert compiled is not None, "what stops before a program is compiled"
            _write_module(compiled, options)
            return
        program = Program(built.program, built.reference)
        if compiled is None:
            _warn(read_notes(built.program).warnings)
        else:
            if options.compare_onnxruntime:
                _compare(program, path, compiled, options.compare_onnxruntime)
            explanations = [each for name in options.explain for each in explain(compiled, name)]
            program.losses = measured_losses(compiled) if options.accuracy_report else None
    _use(program, options, explanations)


def _loaded(path: Path, options: argparse.Namespace) -> Program:
    compiling = {
        "-O": options.level,
        "--precision": options.precision,
        "--batch": options.batch != 1,
        "--input-shape": bool(options.input_shape),
        "--input-value": bool(options.input_value),
        "--allow-host": options.allow_host,
        "--calibration-data": options.calibration_data,
        "--calibration-method": options.calibration_method,
        "--save-calibration": options.save_calibration,
        "--load-calibration": options.load_calibration,
        "--cache-dir": options.cache_dir,
        "--pass-pipeline": options.pass_pipeline is not None,
        "--skip-pass": bool(options.skip_pass),
        "--print-ir-*": _prints_ir(options),
        "--verify-semantics": options.verify_semantics,
        "--time-passes": options.time_passes,
        "--compare-onnxruntime": options.compare_onnxruntime is not None,
        "--accuracy-report": options.accuracy_report,
        f"--emit={options.emit}": options.emit in (*LEVELS, EXPORT),
    }
    given = [name for name, value in compiling.items() if value is not None and value is not False]
    if given:
        raise CompileError(
            f"{path}: already compiled, {given[0]} cannot change it; give the model it was compiled from"
        )
    if options.explain:
        raise CompileError(f"{path}: already compiled, --explain needs the model it was compiled from")
    return load(path, target=options.target)


def _settings(options: argparse.Namespace) -> Settings:
    """What is asked for; where mixed precision searches, without the layers that it will put into int16."""
    _check_names("--skip-pass", options.skip_pass)
    return Settings(
        target=load_target(options.target or DEFAULT_TARGET),
        opt_level=DEFAULT_OPT_LEVEL if options.level is None else options.level,
        precision=options.precision or DEFAULT_PRECISION,
        promoted=options.promote or (),
        batch=options.batch,
        input_shapes=dict(options.input_shape),
        input_values=dict(options.input_value),
        allow_host=options.allow_host,
        calibration=options.calibration_data,
        calibration_method=options.calibration_method,
        load_calibration=options.load_calibration,
        passes=None if options.pass_pipeline is None else _passes(options.pass_pipeline),
        skipped=frozenset(options.skip_pass),
        stop=options.emit if options.emit in (*LEVELS, EXPORT) else None,
        verify_each=options.verify_each,
        instrumentation=_watchers(options),
        progress=terminal_progress,
    )


def _compiled(path: Path, settings: Settings, imported: Module | None, options: argparse.Namespace) -> Compiled:
    try:
        compiled = compile_module(path, settings, keep_reference=options.evaluate is not None, imported=imported)
    finally:
        for watcher in settings.instrumentation:
            if isinstance(watcher, TimePasses) and watcher.seconds:
                print(watcher, file=sys.stderr)
    _warn(compiled.warnings)
    if options.save_calibration:
        save_calibration(compiled, options.save_calibration)
    return compiled


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _trade_off(path: Path, settings: Settings, options: argparse.Namespace) -> TradeOff:
    """What the layers in int16 are chosen from, printed and written."""
    found = explore(
        path,
        replace(settings, instrumentation=(), stop=None),
        Goal(options.max_accuracy_loss, options.max_cycles_factor),
    )
    if options.pareto:
        write_pareto(options.pareto, records(found))
    print(table(found), file=sys.stderr)
    if found.warning:
        print(f"warning: {found.warning}", file=sys.stderr)
    return found


def _passes(text: str) -> Sequence[Pass]:
    try:
        return parse_passes(text)
    except CompileError as error:
        raise UsageError(error.diagnostics) from None


def _watchers(options: argparse.Namespace) -> list[Instrumentation]:
    watchers: list[Instrumentation] = []
    if options.time_passes:
        watchers.append(TimePasses())
    if _prints_ir(options):
        _check_names("--print-ir-before", options.print_ir_before)
        _check_names("--print-ir-after", options.print_ir_after)
        before, after = frozenset(options.print_ir_before), frozenset(options.print_ir_after)
        everything, changes = options.print_ir_after_all, options.print_ir_after_change
        watchers.append(PrintIr(before, after, everything, changes, options.print_ir_tree_dir, sys.stderr))
    if options.verify_semantics:
        watchers.append(VerifySemantics())
    if options.compare_onnxruntime:
        watchers.append(KeepIntegers())
    if options.accuracy_report:
        watchers.append(MeasureLosses(options.model, terminal_progress))
    return watchers


def _prints_ir(options: argparse.Namespace) -> bool:
    chosen = (options.print_ir_before, options.print_ir_after, options.print_ir_after_all)
    return any((*chosen, options.print_ir_after_change, options.print_ir_tree_dir))


def _check_names(option: str, names: Iterable[str]) -> None:
    known = {each.name for each in PASSES}
    for name in names:
        if name not in known:
            raise UsageError(f"{option}={name}: unknown pass, expected one of {', '.join(sorted(known))}")


def _write_module(compiled: Compiled, options: argparse.Namespace) -> None:
    path: Path | None = options.output_file
    if options.emit == EXPORT:
        export(compiled.module, options.output_file)
    elif path is None:
        print(print_module(compiled.module), end="")
        if elided_constants(compiled.module):
            print(
                "note: the data of large constants is left out here; -o FILE keeps it beside the text", file=sys.stderr
            )
    else:
        write_module(path, compiled.module)


def _use(program: Program, options: argparse.Namespace, explanations: Sequence[Explanation]) -> None:
    if options.emit == "asm":
        _write_assembly(program.compiled, options.output_file)
    elif options.output_file:
        program.save(options.output_file)
    if options.run:
        _run(program, options)
    if options.evaluate:
        _evaluate(program, options)
    if options.trace:
        write_trace(options.trace, program.compiled)
    if options.report or options.report_json:
        data = tuple(explanation.to_json() for explanation in explanations)
        _report(replace(program.measure(), explanations=data), options)
    for explanation in explanations:
        print(render_explanation(explanation), end="")
    if options.evaluate and not options.report:
        print(accuracy_line(program.accuracy, program.compiled.precision))
    if program.agreement and not options.report:
        print("\n".join(agreement_lines(program.agreement)))
    if program.losses and not options.report:
        print(loss_table(program.losses))
    results = (options.run, options.evaluate, options.report, options.report_json, options.output_file, options.emit)
    if not any((*results, program.agreement, program.losses, options.trace, explanations)):
        print(summary_line(program.measure()))


def _write_assembly(program: CompiledProgram, path: Path | None) -> None:
    names = [program.layers[int(layer)].name for layer in program.instruction_layers]
    comments = [name if index == 0 or name != names[index - 1] else "" for index, name in enumerate(names)]
    text = disassemble(program.instructions, comments)
    if path is None:
        print(text, end="")
    else:
        write_atomically(path, lambda file: file.write(text.encode()))


def _run(program: Program, options: argparse.Namespace) -> None:
    samples = checked_samples(read_npz(options.run), program.inputs, str(options.run))
    modes = {"checked": options.checked, "bf16_sums": options.bf16_sums, "jobs": options.jobs}
    outputs = program.run(samples, **modes, progress=terminal_progress)
    if options.bf16_sums != "exact" and program.compiled.precision == "bf16":
        print("warning: the outputs are inexact: bf16 sums by BLAS, not in the order of the machine", file=sys.stderr)
    if options.output_arrays:
        write_npz(options.output_arrays, outputs)
        return
    for name, array in outputs.items():
        real = array.astype(np.float64)
        shape = ", ".join(map(str, array.shape))
        print(f"{name}: {array.dtype}[{shape}], {real.min():g} to {real.max():g}, mean {real.mean():g}")


def _evaluate(program: Program, options: argparse.Namespace) -> None:
    arrays, source = read_npz(options.evaluate), str(options.evaluate)
    samples = checked_samples(arrays, program.inputs, source)
    labels = checked_labels(arrays, len(next(iter(samples.values()))), program.classes, source)
    modes = {"checked": options.checked, "bf16_sums": options.bf16_sums, "jobs": options.jobs}
    program.evaluate(samples, labels, **modes, progress=terminal_progress)


def _compare(program: Program, path: Path, compiled: Compiled, source: Path) -> None:
    """Compare with the model of the file if that is quantized, else with what the integers are exported as."""
    samples = checked_samples(read_npz(source), program.inputs, str(source))
    model = read_onnx(path) if kind_of(path) == "onnx" else None
    if model is None or not is_quantized(model):
        kept = next(each for each in compiled.settings.instrumentation if isinstance(each, KeepIntegers))
        if kept.module is None:
            raise CompileError(f"{path}: the pipeline holds no integers to export, expected insert-quantization in it")
        model = export_model(kept.module, path.stem)
    program.compare_onnxruntime(samples, model, progress=terminal_progress)


def _report(report: Report, options: argparse.Namespace) -> None:
    if options.report_json:
        write_report(options.report_json, report)
    if options.report:
        terminal = sys.stdout.isatty()
        color = options.color == "always" or (options.color == "auto" and terminal and not os.environ.get("NO_COLOR"))
        width = max(shutil.get_terminal_size((WIDTH, 0)).columns, 80) if terminal else WIDTH
        print(render_report(report, width=width, color=color), end="")

"""`accelc-opt`: IR in, passes, IR out. The tool that tests and the curious use on single passes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from ..backends.target import load_target
from ..dialects.core.context import Context
from ..dialects.core.diagnostics import CompileError
from ..dialects.core.files import read_constants, read_text, write_module, write_npz
from ..dialects.core.interpreter import run
from ..dialects.core.operation import Module
from ..dialects.core.parser import parse_module
from ..dialects.core.printer import ELIDE_ABOVE, format_elements, print_module
from ..dialects.core.types import Array, tensor_type
from ..dialects.core.verifier import verify
from ..dialects.registry import CONTEXT
from ..passes.framework.base import Pass
from ..passes.framework.environment import CalibrationData, Environment
from ..passes.framework.pass_manager import Instrumentation, PassManager
from ..passes.framework.pipeline import parse_pipeline
from ..passes.framework.printing import PrintIr
from ..passes.framework.semantics import VerifySemantics, seeded_inputs
from ..passes.framework.timing import TimePasses
from ..passes.insert_quantization import with_method
from ..passes.pipelines import PIPELINES
from ..passes.quantization.calibration_table import load_table
from ..passes.registry import PASSES
from .arrays import read_npz
from .ending import exit_status
from .expectations import compare, split_input
from .usage import CALIBRATION_METHODS, FAILED, OK, PRECISIONS, USAGE


@dataclass(frozen=True)
class Known:
    """What may occur: dialects in the text, passes and named pipelines on the command line. Tests add their own."""

    context: Context = CONTEXT
    passes: Sequence[type[Pass]] = PASSES
    pipelines: Mapping[str, str] | None = None


def main() -> None:
    """The console script."""
    sys.exit(run_opt(sys.argv[1:]))


def run_opt(
    arguments: Sequence[str], *, stdout: TextIO | None = None, stderr: TextIO | None = None, known: Known | None = None
) -> int:
    """Run the command in this process; returns its exit status: 0, 1 (the input is at fault), 2 (usage)."""
    with redirect_stdout(stdout or sys.stdout), redirect_stderr(stderr or sys.stderr):
        surroundings = known or Known(pipelines=PIPELINES)
        try:
            options = _argument_parser().parse_args(list(arguments))
        except SystemExit as stop:
            return int(stop.code or 0)
        try:
            _check_usage(options, surroundings)
            passes = _chosen(options, surroundings)
        except CompileError as error:
            print(error, file=sys.stderr)
            return USAGE
        return exit_status(lambda: _process(options, passes, surroundings))


def _check_usage(options: argparse.Namespace, known: Known) -> None:
    """Raise CompileError for arguments that argparse cannot refuse."""
    names = {each.name for each in known.passes}
    for option in ("print_ir_before", "print_ir_after"):
        for name in getattr(options, option):
            if name not in names:
                flag, expected = option.replace("_", "-"), ", ".join(sorted(names))
                raise CompileError(f"--{flag}={name}: unknown pass, expected one of {expected}")
    for option in ("seed", "elide_above"):
        if (value := getattr(options, option)) < 0:
            raise CompileError(f"--{option.replace('_', '-')} is {value}, expected at least 0")
    if options.promote and options.precision != "mixed":
        raise CompileError(f"--promote is given for precision {options.precision}, expected --precision mixed")


def _chosen(options: argparse.Namespace, known: Known) -> Sequence[Pass]:
    """The passes of the pipeline, without those to be skipped; CompileError for what it does not have."""
    passes = parse_pipeline(options.pass_pipeline, known.passes, pipelines=known.pipelines)
    names = [each.name for each in passes]
    for name in options.skip_pass:
        if name not in names:
            expected = f"one of {', '.join(names)}" if names else "a pipeline"
            raise CompileError(f"--skip-pass={name}: the pipeline does not have it, expected {expected}")
    if options.calibration_method:
        passes = with_method(passes, options.calibration_method)
    return [each for each in passes if each.name not in options.skip_pass]


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("accelc-opt", description="Run passes over IR text.", allow_abbrev=False)
    add = parser.add_argument
    add("file", metavar="FILE", help="IR text, '-' for standard input; large constants in FILE's .npz")
    add(
        "-p", "--pass-pipeline", metavar="PIPELINE", default="", help="such as fold-constants,pad-channels{multiple=32}"
    )
    add("-o", "--output", metavar="FILE.air", help="write the module here (and its .npz) instead of standard output")
    add("--target", metavar="NAME|FILE", help="the machine that passes compile for")
    add("--skip-pass", metavar="PASS", action="append", default=[], help="leave PASS out of the pipeline (repeatable)")
    add("--precision", default="int8", choices=PRECISIONS, help="what to quantize to (default int8)")
    add("--promote", metavar="LAYER", action="append", default=[], help="mixed: put LAYER into int16 (repeatable)")
    add("--allow-host", action="store_true", help="run what has no integer form on the host")
    add("--calibration-data", metavar="FILE.npz", help="arrays by input name, the first axis counts samples")
    add("--calibration-method", choices=CALIBRATION_METHODS, help="how ranges follow from the samples")
    add("--load-calibration", metavar="FILE.json", type=Path, help="ranges from a file of accelc --save-calibration")
    add("--elide-above", metavar="N", type=int, default=ELIDE_ABOVE, help="print constants of up to N elements")
    add("--remarks", action="store_true", help="print what the passes have to say, as comments")
    group = parser.add_argument_group("checking")
    add = group.add_argument
    add("--no-verify-each", dest="verify_each", action="store_false", help="do not verify after every pass")
    add("--verify-semantics", action="store_true", help="run the module before and after every pass and compare")
    add("--verify-diagnostics", action="store_true", help="expect the errors that comments announce, and no others")
    add("--split-input-file", action="store_true", help="treat parts between '// -----' lines as files of their own")
    group = parser.add_argument_group("running and watching")
    add = group.add_argument
    add("--run", metavar="FILE.npz", nargs="?", const="", help="run @main on these inputs, else on seeded noise")
    add("--run-output", metavar="FILE.npz", help="write what --run computed")
    add("--seed", type=int, default=0, help="of the noise (default 0)")
    add("--print-ir-before", metavar="PASS", action="append", default=[])
    add("--print-ir-after", metavar="PASS", action="append", default=[])
    add("--print-ir-after-all", action="store_true")
    add("--print-ir-after-change", action="store_true")
    add("--print-ir-tree-dir", metavar="DIR", type=Path, help="write the printed modules into a folder")
    add("--time-passes", action="store_true", help="print the seconds of every pass to standard error")
    return parser


def _process(options: argparse.Namespace, passes: Sequence[Pass], known: Known) -> int:
    environment = Environment(
        target=load_target(options.target) if options.target else None,
        calibration=CalibrationData(read_npz(Path(options.calibration_data))) if options.calibration_data else None,
        table=load_table(options.load_calibration) if options.load_calibration else None,
        precision=options.precision,
        promoted=frozenset(options.promote),
        allow_host=options.allow_host,
    )
    text, file, constants = _read_input(options.file)
    parts = split_input(text) if options.split_input_file else [text]
    status = OK
    for number, part in enumerate(parts):
        if number and not options.verify_diagnostics:
            print("// -----")
        try:
            module = parse_module(part, known.context, file=file, constants=constants)
            verify(module)
            _transform(module, passes, environment, options)
        except CompileError as error:
            if not options.verify_diagnostics:
                raise
            complaints = compare(part, error.diagnostics, file=file)
        else:
            complaints = compare(part, (), file=file) if options.verify_diagnostics else []
        for complaint in complaints:
            status = FAILED
            print(complaint, file=sys.stderr)
    return status


def _transform(module: Module, passes: Sequence[Pass], environment: Environment, options: argparse.Namespace) -> None:
    inputs = read_npz(Path(options.run)) if options.run else None
    watchers = _watchers(options, inputs)
    seen = len(environment.remarks)
    PassManager(passes, options.verify_each, watchers).run(module, environment)
    for watcher in watchers:
        if isinstance(watcher, TimePasses):
            print(watcher, file=sys.stderr)
    if options.output:
        write_module(Path(options.output), module, elide_above=options.elide_above)
    elif not options.verify_diagnostics:
        print(print_module(module, elide_above=options.elide_above), end="")
    if options.remarks:
        for remark in environment.remarks[seen:]:
            print(f"// {remark}")
    if options.run is not None:
        given = inputs if inputs is not None else seeded_inputs(module, environment, options.seed)
        _report_outputs(run(module, given), options.run_output)


def _watchers(options: argparse.Namespace, inputs: Mapping[str, Array] | None) -> list[Instrumentation]:
    watchers: list[Instrumentation] = []
    if options.time_passes:
        watchers.append(TimePasses())
    before, after = frozenset(options.print_ir_before), frozenset(options.print_ir_after)
    everything, changes, folder = options.print_ir_after_all, options.print_ir_after_change, options.print_ir_tree_dir
    if before or after or everything or changes or folder:
        watchers.append(PrintIr(before, after, everything, changes, folder, sys.stderr))
    if options.verify_semantics:
        watchers.append(VerifySemantics(inputs, options.seed))
    return watchers


def _report_outputs(outputs: Mapping[str, Array], path: str | None) -> None:
    for name, array in outputs.items():
        if array.size <= ELIDE_ABOVE:
            print(f"// output {name} : {tensor_type(array)} = {format_elements(array)}")
        else:
            real = array.astype(np.float64)
            print(f"// output {name} : {tensor_type(array)}, {real.min():g} to {real.max():g}, mean {real.mean():g}")
    if path:
        write_npz(Path(path), outputs)


def _read_input(name: str) -> tuple[str, str, Mapping[str, Array]]:
    """Text, the name that errors show, and the constants beside the text."""
    if name == "-":
        return sys.stdin.read(), "<stdin>", {}
    path = Path(name)
    return read_text(path), str(path), read_constants(path)


if __name__ == "__main__":
    main()

"""`accelc`: reads the command line, and only then loads what the command needs.

`--help`, `--version` and usage errors answer at once because this file imports nothing heavy. `main` loads
`compiler/command.py`, and with it everything else, by `import_module`.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from .. import __version__
from ..backends.simulator.modes import BF16_SUMS
from ..backends.target import DEFAULT_TARGET
from .ending import exit_status
from .heap import keep_freed_memory
from .usage import (
    CALIBRATION_METHODS,
    DEFAULT_OPT_LEVEL,
    DEFAULT_PRECISION,
    OPT_LEVELS,
    PARETO_SUFFIXES,
    PRECISIONS,
    USAGE,
    UsageError,
)

EMIT = ("nn", "quant", "tile", "asm", "program", "onnx")


def main() -> None:
    """The console script."""
    stream: Any = sys.stdout
    if isinstance(stream, TextIOWrapper):
        # A report must not fail where the terminal has no character for its rules.
        stream.reconfigure(errors="replace")
    keep_freed_memory()
    gc.disable()  # until all is loaded: nothing of it is garbage, and later collections need not look at it
    sys.exit(run_cli(sys.argv[1:]))


def run_cli(arguments: Sequence[str]) -> int:
    """Run the command in this process; returns its exit status: 0, 1 (the input is at fault), 2 (usage), 130 (Ctrl-C).

    Results go to `sys.stdout`; messages, progress and IR dumps to `sys.stderr`.
    """
    try:
        options = _argument_parser().parse_args(list(arguments))
        _check_usage(options)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE
    except UsageError as error:
        print(f"{error}\nnote: accelc --help lists the options", file=sys.stderr)
        return USAGE

    def work() -> None:
        execute: Any = import_module(".command", __package__).execute
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        execute(options)

    return exit_status(work)


def _check_usage(options: argparse.Namespace) -> None:
    """Raise UsageError for combinations of options that argparse cannot refuse."""
    listing = options.list_targets or options.list_passes or options.list_ops
    if options.batch < 1:
        raise UsageError(f"--batch is {options.batch}, expected at least 1")
    for flag, what, given in (
        ("--input-shape", "the shape", options.input_shape),
        ("--input-value", "the value", options.input_value),
    ):
        names = [name for name, _ in given]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"{flag} gives {what} of '{twice}' twice, expected once")
    if options.input_value and options.compare_onnxruntime:
        raise UsageError("--compare-onnxruntime runs the model as it is, which --input-value changes, give one")
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs is {options.jobs}, expected at least 1")
    if options.target == "":
        raise UsageError("--target is empty, expected a preset or a .toml file")
    if options.pass_pipeline is not None and options.level is not None:
        raise UsageError("-O is given beside --pass-pipeline, which has the passes of a level by its name, as in O2")
    if options.model is None and not listing:
        raise UsageError("MODEL is missing, expected an .onnx, .air or .accel file")
    _check_files(options)
    if options.output_arrays and not options.run:
        raise UsageError("--output is given without --run, which computes what it would hold")
    if options.emit in ("program", "onnx") and not options.output_file:
        raise UsageError(f"--emit={options.emit} is given without -o FILE")
    if options.emit not in (None, "program", "asm") and (wanted := _wants_program(options)):
        raise UsageError(f"--emit={options.emit} stops before there is a program, which {wanted} needs")
    if options.pass_pipeline is not None and options.calibration_method:
        raise UsageError("--calibration-method stands in --pass-pipeline as insert-quantization{method=...}, give one")
    if options.save_calibration and options.load_calibration:
        raise UsageError("--save-calibration would write what --load-calibration reads, give one")
    if options.save_calibration and options.emit == "nn":
        raise UsageError("--emit=nn stops before calibration, which --save-calibration needs")
    mixed = {
        "--max-accuracy-loss": options.max_accuracy_loss,
        "--max-cycles-factor": options.max_cycles_factor,
        "--promote": options.promote,
        "--pareto": options.pareto,
    }
    for flag, value in mixed.items():
        if value is not None and options.precision != "mixed":
            given = options.precision or DEFAULT_PRECISION
            raise UsageError(f"{flag} is given for precision {given}, expected --precision mixed")
        if value is not None and options.promote and flag != "--promote":
            raise UsageError(f"{flag} is given beside --promote, which leaves nothing to choose")
    if options.max_cycles_factor is not None and not options.max_cycles_factor >= 1:
        raise UsageError(f"--max-cycles-factor is {options.max_cycles_factor}, expected at least 1")
    if options.max_accuracy_loss is not None and not 0 <= options.max_accuracy_loss <= 100:
        raise UsageError(f"--max-accuracy-loss is {options.max_accuracy_loss}, expected 0 to 100 points")
    if options.pareto and options.pareto.suffix not in PARETO_SUFFIXES:
        raise UsageError(f"--pareto {options.pareto}: expected a name that ends in {', '.join(PARETO_SUFFIXES)}")
    calibrating = {
        "--calibration-method": options.calibration_method,
        "--save-calibration": options.save_calibration,
        "--load-calibration": options.load_calibration,
    }
    for flag, value in calibrating.items():
        if value is not None and options.precision == "bf16":
            raise UsageError(f"{flag} is given for precision bf16, which has nothing to calibrate")
    if options.bf16_sums != BF16_SUMS[0] and not (options.run or options.evaluate):
        raise UsageError(f"--bf16-sums {options.bf16_sums} is given without --run or --evaluate")
    if options.jobs is not None and not (options.run or options.evaluate):
        raise UsageError("--jobs is given without --run or --evaluate, which it would speed up")
    if options.checked and not (options.run or options.evaluate):
        raise UsageError("--checked is given without --run or --evaluate, which it would watch")


def _check_files(options: argparse.Namespace) -> None:
    """Raise UsageError if a file that is written is also read, or written twice."""
    read = (
        options.model,
        options.target,
        options.calibration_data,
        options.load_calibration,
        options.run,
        options.evaluate,
        options.compare_onnxruntime,
    )
    written = {
        "-o": options.output_file,
        "--output": options.output_arrays,
        "--save-calibration": options.save_calibration,
        "--pareto": options.pareto,
        "--report-json": options.report_json,
        "--trace": options.trace,
    }
    places = {Path(path).resolve() for path in read if path}
    owners: dict[Path, str] = {}
    for flag, path in written.items():
        if not path:
            continue
        place = path.resolve()
        if place in places:
            raise UsageError(f"{flag} {path} would replace the file that is read, expected another name")
        if place in owners:
            raise UsageError(f"{flag} {path} would replace what {owners[place]} writes, expected another name")
        owners[place] = flag


def _wants_program(options: argparse.Namespace) -> str:
    given = {
        "--run": options.run,
        "--evaluate": options.evaluate,
        "--compare-onnxruntime": options.compare_onnxruntime,
        "--report": options.report,
        "--report-json": options.report_json,
        "--trace": options.trace,
        "--accuracy-report": options.accuracy_report,
        "--explain": options.explain,
    }
    return next((name for name, value in given.items() if value), "")


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "accelc",
        usage="accelc MODEL [options]",
        description="Compile a float or quantized ONNX model for a small-matrix-block accelerator, run it bit-exactly, "
        "and account for every cycle.",
        epilog="Exit status: 0, 1 (the input is at fault), 2 (wrong usage), 130 (interrupted).",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="ONNX model, IR text or program; told by content")
    _add_compilation(parser.add_argument_group("compilation"))
    _add_results(parser.add_argument_group("results"))
    _add_execution(parser.add_argument_group("execution"))
    _add_inspection(parser.add_argument_group("watching the passes"))
    _add_information(parser.add_argument_group("information"))
    return parser


def _add_compilation(group: Any) -> None:
    add = group.add_argument
    level_help = f"optimization level 0 to 3 (default {DEFAULT_OPT_LEVEL})"
    add("-O", dest="level", metavar="LEVEL", type=int, choices=OPT_LEVELS, help=level_help)
    add("--target", metavar="NAME|FILE", help=f"the machine: a preset or a .toml file (default {DEFAULT_TARGET})")
    precision_help = f"what to quantize to (default {DEFAULT_PRECISION}); int16x8: 16 bits with 8-bit weights; "
    bf16_help = "bf16: bfloat16, nothing to calibrate; mixed: int8 and int16 by layer"
    add("--precision", choices=PRECISIONS, help=precision_help + bf16_help)
    loss_help = "mixed: the fewest cycles that lose at most so many points (default 0.1; of samples that change label)"
    add("--max-accuracy-loss", metavar="POINTS", type=float, help=loss_help)
    factor_help = "mixed: the least error within so many times the cycles of int8"
    add("--max-cycles-factor", metavar="FACTOR", type=float, help=factor_help)
    promote_help = "mixed: put LAYER, as the trade-off names it, into int16; nothing is searched"
    add("--promote", metavar="LAYER", action="append", help=promote_help)
    add("--calibration-data", metavar="FILE.npz|DIR", type=Path, help="sample inputs that the ranges are taken from")
    method_help = "how ranges follow from the samples (default auto: for each tensor by executing the integers)"
    add("--calibration-method", choices=CALIBRATION_METHODS, help=method_help)
    add("--save-calibration", metavar="FILE.json", type=Path, help="write the ranges and histograms of all tensors")
    load_help = "ranges from such a file, no samples needed; passes that want samples do nothing without them"
    add("--load-calibration", metavar="FILE.json", type=Path, help=load_help)
    host_help = "run what has no integer form on the host, in float, and say so; otherwise it is an error"
    add("--allow-host", action="store_true", help=host_help)
    cache_help = "keep programs in DIR and take them from there if nothing they follow from has changed"
    add("--cache-dir", metavar="DIR", type=Path, help=cache_help)
    add("--batch", metavar="N", type=int, default=1, help="size of a symbolic batch dimension (default 1)")
    shape_help = "shape of an input with dynamic dimensions, as in image=1,3,224,224 (repeatable)"
    add("--input-shape", metavar="NAME=SIZES", type=_input_shape, action="append", default=[], help=shape_help)
    value_help = "make an input a constant, as in sampling_rate=16000 or training=false (repeatable)"
    add("--input-value", metavar="NAME=VALUE", type=_input_value, action="append", default=[], help=value_help)
    add("--pass-pipeline", metavar="PASSES", help="run these passes instead, as in fold-constants,pad-channels")
    add("--skip-pass", metavar="PASS", action="append", default=[], help="leave PASS out of the pipeline (repeatable)")


def _input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """The name and the sizes of NAME=SIZE,SIZE,...; names may hold '=' themselves."""
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"'{text}', expected NAME=SIZE,SIZE,... with sizes of at least 1")
    return name, shape


def _input_value(text: str) -> tuple[str, bool | int | float | list[int | float]]:
    """The name and the number, or the numbers, of NAME=VALUE,VALUE,...; names may hold '=' themselves."""
    name, _, values = text.rpartition("=")
    try:
        numbers = [_number(value) for value in values.split(",")]
    except ValueError:
        numbers = []
    if not name or not numbers:
        raise argparse.ArgumentTypeError(
            f"'{text}', expected NAME=VALUE with a number, true, false, or several by commas"
        )
    return name, numbers[0] if len(numbers) == 1 else numbers


def _number(text: str) -> bool | int | float:
    if text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        return int(text)
    except ValueError:
        return float(text)


def _add_results(group: Any) -> None:
    add = group.add_argument
    add("-o", dest="output_file", metavar="FILE", type=Path, help="write the program, or what --emit asks for")
    add("--emit", choices=EMIT, help="stop at this level, or export integers as QDQ to ONNX (-o FILE)")
    add("--pareto", metavar="FILE", type=Path, help="mixed: write the trade-off as .json, .csv or .png (extra `plot`)")
    add("--report", action="store_true", help="print where the cycles went, layer by layer")
    add("--report-json", metavar="FILE", type=Path, help="write the same as data")
    explain_help = "print the mappings considered for LAYER (a name of the report) and its worst bank conflicts"
    add("--explain", metavar="LAYER", action="append", default=[], help=explain_help)
    losses_help = "rank layers by their share of the error, by cause, each switched off (needs calibration data; slow)"
    add("--accuracy-report", action="store_true", help=losses_help)
    add("--trace", metavar="FILE.json", type=Path, help="write the engines' timeline, for ui.perfetto.dev")


def _add_execution(group: Any) -> None:
    add = group.add_argument
    add("--run", metavar="INPUT.npz", type=Path, help="run on arrays named after the inputs; first axis: samples")
    add("--output", dest="output_arrays", metavar="OUT.npz", type=Path, help="where --run writes its outputs")
    add("--evaluate", metavar="LABELLED.npz", type=Path, help="compare with the float model, on inputs and `labels`")
    compare_help = "compare with onnxruntime on the quantized model, or on the exported one, in steps of the integers"
    add("--compare-onnxruntime", metavar="INPUT.npz", type=Path, help=compare_help)
    sums_help = "bf16: add products in the order of the machine (exact, default) or of BLAS (faster, inexact bits)"
    add("--bf16-sums", choices=BF16_SUMS, default=BF16_SUMS[0], help=sums_help)
    jobs_help = "--run, --evaluate: threads for samples side by side, the same results (default: one for each core)"
    add("--jobs", metavar="N", type=int, help=jobs_help)
    add("--checked", action="store_true", help="refuse to read memory that was never written (slower)")


def _add_inspection(group: Any) -> None:
    add = group.add_argument
    before, after = "print_ir_before", "print_ir_after"
    add("--print-ir-before", dest=before, metavar="PASS", action="append", default=[], help="print the IR before PASS")
    add("--print-ir-after", dest=after, metavar="PASS", action="append", default=[], help="print the IR after PASS")
    add("--print-ir-after-all", action="store_true", help="print the IR after every pass")
    add("--print-ir-after-change", action="store_true", help="print the IR after passes that changed it")
    add("--print-ir-tree-dir", metavar="DIR", type=Path, help="write the printed IR into a folder, one file a pass")
    verify_help = "verify the IR after every pass (default on)"
    add("--verify-each", action=argparse.BooleanOptionalAction, default=True, help=verify_help)
    add("--verify-semantics", action="store_true", help="run the module before and after every pass and compare")
    add("--time-passes", action="store_true", help="print the seconds of every pass")


def _add_information(group: Any) -> None:
    add = group.add_argument
    add("--list-targets", action="store_true", help="print the target presets")
    add("--list-passes", action="store_true", help="print the passes and pipelines")
    add("--list-ops", action="store_true", help="print the ONNX operators and IR operations")
    add("--color", choices=("auto", "always", "never"), default="auto", help="colour (default auto; NO_COLOR is kept)")
    add("--version", action="version", version=f"accelc {__version__}")


if __name__ == "__main__":
    main()

"""`accelc-reduce`: shrinks a model that makes a command fail to a small one that still does."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from onnx import ModelProto

from ..dialects.core.diagnostics import CompileError
from ..dialects.core.files import read_text, write_atomically
from .driver import kind_of
from .ending import exit_status
from .reductions import onnx_candidates, onnx_size, text_candidates, text_size
from .usage import INTERRUPTED, OK, USAGE, UsageError

EPILOG = (
    "COMMAND is run with the name of a smaller model in place of {}, or behind it. A model is kept if COMMAND ends "
    "with the same exit status as on MODEL (and prints TEXT, if given). Example: accelc-reduce model.onnx -- accelc"
)


def main() -> None:
    """The console script."""
    sys.exit(run_reduce(sys.argv[1:]))


def run_reduce(arguments: Sequence[str]) -> int:
    """Run the command in this process; returns its exit status: 0, 1 (COMMAND does not fail), 2 (usage), 130."""
    own, _, command = _split(arguments)
    try:
        options = _argument_parser().parse_args(own)
        if not command:
            raise UsageError("the command is missing, expected accelc-reduce MODEL -- COMMAND")
        if options.output and options.output.resolve() == options.model.resolve():
            raise UsageError(f"-o {options.output} would replace the file that is read, expected another name")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE
    except UsageError as error:
        print(error, file=sys.stderr)
        return USAGE
    return exit_status(lambda: _reduce(options, command))


def _split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    given = list(arguments)
    place = given.index("--") if "--" in given else len(given)
    return given[:place], "--", given[place + 1 :]


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "accelc-reduce",
        usage="accelc-reduce MODEL [options] -- COMMAND",
        description="Shrink a model that makes a command fail.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="ONNX model or IR text")
    add("-o", dest="output", metavar="FILE", type=Path, help="the smallest model so far (default MODEL.reduced)")
    add("--expect", metavar="TEXT", default="", help="COMMAND must also print this")
    add("--timeout", metavar="SECONDS", type=float, default=60.0, help="longest run of COMMAND (default 60)")
    return parser


@dataclass
class Command:
    """Runs the command on candidates; `wanted` is how it ends on the model itself, None for a hang."""

    command: Sequence[str]
    suffix: str
    folder: Path
    timeout: float
    expect: str
    wanted: int | None = OK
    runs: int = 0

    def outcome(self, data: bytes) -> tuple[int | None, str]:
        """Exit status (None: timed out) and everything printed."""
        path = self.folder / f"candidate{self.suffix}"
        path.write_bytes(data)
        line = [word.replace("{}", str(path)) for word in self.command]
        if line == list(self.command):
            line.append(str(path))
        self.runs += 1
        try:
            done = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=self.timeout)
        except subprocess.TimeoutExpired:
            return None, ""
        except OSError as error:
            raise CompileError(f"{line[0]}: cannot be run: {error.strerror or error}") from None
        return done.returncode, done.stdout + done.stderr

    def fails(self, data: bytes) -> bool:
        """True if the command ends on this as it does on the model."""
        status, printed = self.outcome(data)
        return status == self.wanted and self.expect in printed


def _reduce(options: argparse.Namespace, command: Sequence[str]) -> int:
    path: Path = options.model
    kind = kind_of(path)
    if kind == "accel":
        raise CompileError(f"{path}: a program, expected an .onnx or .air file")
    output: Path = options.output or path.with_name(f"{path.stem}.reduced{path.suffix}")
    with tempfile.TemporaryDirectory() as folder:
        test = Command(command, f".{kind}", Path(folder), options.timeout, options.expect)
        search = _onnx_search(path) if kind == "onnx" else _text_search(path)
        test.wanted, printed = test.outcome(search.data())
        if test.wanted == OK or options.expect not in printed:
            expected = f"prints '{options.expect}' and fails" if options.expect else "fails"
            raise CompileError(f"{path}: the command ends with {test.wanted}, expected a model on which it {expected}")
        first = search.shown()
        try:
            search.run(test, output)
        except KeyboardInterrupt:
            print(f"interrupted: {output} is the smallest so far, {search.shown()}", file=sys.stderr)
            return INTERRUPTED
    print(f"{output}: {search.shown()}, from {first}, in {test.runs} runs")
    return OK


@dataclass
class Search:
    """Takes the first smaller candidate that fails, again and again, until none does."""

    best: Any
    candidates: Callable[[Any], Iterator[Any]]
    encode: Callable[[Any], bytes]
    show: Callable[[Any], str]

    def data(self) -> bytes:
        """The smallest so far, as a file."""
        return self.encode(self.best)

    def shown(self) -> str:
        """Its size in words."""
        return self.show(self.best)

    def run(self, test: Command, output: Path) -> None:
        """Reduce; the smallest model is in `output` at all times."""
        self._write(output)
        shown = time.monotonic()
        tried: set[bytes] = {self.data()}
        found = True
        while found:
            found = False
            for candidate in self.candidates(self.best):
                data = self.encode(candidate)
                if data in tried:
                    continue
                tried.add(data)
                if test.fails(data):
                    self.best, found = candidate, True
                    self._write(output)
                if sys.stderr.isatty() and time.monotonic() - shown > 1:
                    shown = time.monotonic()
                    print(f"\r{test.runs} runs, {self.shown()}    ", end="", file=sys.stderr)
                if found:
                    break

    def _write(self, output: Path) -> None:
        data = self.data()
        write_atomically(output, lambda file: file.write(data))


def _onnx_search(path: Path) -> Search:
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, OSError):
        raise CompileError(f"{path}: not an ONNX model, or a damaged one: it cannot be decoded") from None
    return Search(
        model,
        onnx_candidates,
        lambda m: bytes(m.SerializeToString(deterministic=True)),
        lambda m: "{} nodes, {} elements, {} bytes".format(*onnx_size(m)),
    )


def _text_search(path: Path) -> Search:
    return Search(
        read_text(path),
        lambda text: (each for each in text_candidates(text) if text_size(each) < text_size(text)),
        lambda text: str(text).encode(),
        lambda text: "{} lines, {} characters".format(*text_size(text)),
    )


if __name__ == "__main__":
    main()

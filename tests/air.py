"""`.air` files as tests: every `// RUN:` line is executed in this process and checked with filecheck.

    // RUN: accelc-opt %s -p canonicalize
    // RUN: not accelc-opt %s -p no-such-pass | filecheck %s --check-prefix=ERROR

`%s` is the file, `%S` its folder. A command with `| filecheck %s [--check-prefix=NAME]` must print what the CHECK lines
say; without it the output is checked all the same when the file has `// CHECK` lines, unless `--verify-diagnostics`
checks errors instead. `not` expects exit status 1 or 2 and checks standard error too. A line ending in a backslash goes
on in the next RUN line. Every `.air` file under tests/ has a RUN line, except in folders called `inputs`.
"""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser, pattern_for_opts

from accelc.compiler.opt import run_opt

RUN_LINE = re.compile(r"//+ *RUN: *(.*)")
CHECK_LINE = re.compile(r"// *CHECK(-[A-Z]+)?(-\d+)?(\{LITERAL\})?:")


class RunLineError(Exception):
    """A RUN line whose command or check failed; the message is all there is to say."""


def run_lines(text: str) -> list[str]:
    """The commands of a file, continued lines joined."""
    commands: list[str] = []
    unfinished = ""
    for match in RUN_LINE.finditer(text):
        unfinished += match[1].rstrip()
        if unfinished.endswith("\\"):
            unfinished = unfinished[:-1]
        else:
            commands.append(unfinished)
            unfinished = ""
    return commands


def execute(command: str, path: Path) -> None:
    """Execute one RUN line; raises RunLineError."""
    left, *checks = re.split(r"\s\|\s", command)
    words = [word.replace("%s", str(path)).replace("%S", str(path.parent)) for word in shlex.split(left)]
    fails = words[:1] == ["not"]
    words = words[fails:]
    if words[:1] != ["accelc-opt"]:
        raise RunLineError(f"RUN line must start with 'accelc-opt' or 'not accelc-opt': {command}")
    stdout, stderr = io.StringIO(), io.StringIO()
    status = run_opt(words[1:], stdout=stdout, stderr=stderr)
    if (status != 0) != fails:
        raise RunLineError(f"exit status {status}\n{stderr.getvalue()}\n{stdout.getvalue()}")
    printed = stdout.getvalue() + (stderr.getvalue() if fails else "")
    if checks:
        (check,) = checks
        program, *prefixes = shlex.split(check)
        if (
            program != "filecheck"
            or prefixes[:1] != ["%s"]
            or any(not p.startswith("--check-prefix=") for p in prefixes[1:])
        ):
            raise RunLineError(f"expected '| filecheck %s [--check-prefix=NAME]': {check}")
        filecheck(printed, path, [p.partition("=")[2] for p in prefixes[1:]] or ["CHECK"])
    elif CHECK_LINE.search(path.read_text(encoding="utf-8")) and "--verify-diagnostics" not in words:
        filecheck(printed, path, ["CHECK"])


def filecheck(printed: str, path: Path, prefixes: list[str]) -> None:
    """Compare output with the check lines of `path`; raises RunLineError with what filecheck says and the output."""
    options = Options(match_filename=str(path), check_prefixes=prefixes)
    with path.open(encoding="utf-8") as lines:
        parser = Parser(options, lines, *pattern_for_opts(options))
        matcher = Matcher(options, FInput("<output>", printed), parser)
        matcher.stderr = complaint = io.StringIO()
        if matcher.run() != 0:
            raise RunLineError(f"{complaint.getvalue()}\nThe output is:\n{printed}")

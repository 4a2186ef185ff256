"""Every row of the table: the message of docs/errors.md, exit status 1, nothing on standard output, no file left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from errors.document import documented, inputs_folder, said
from errors.table import SECTIONS

from accelc.compiler.cli import run_cli

MESSAGES = documented()
LINES = [line for rows in SECTIONS.values() for line in rows]


@pytest.fixture(scope="module")
def folder():
    with inputs_folder() as path:
        yield path


def without_figures(message: str) -> str:
    """The message without the sizes and the list of targets, which change with the compiler."""
    return re.sub(r"expected [\w, ]+ or a \.toml", "...", re.sub(r"\b\d+( of \d+)? bytes", "N bytes", message))


def contents() -> dict[Path, float]:
    return {path: path.lstat().st_mtime for path in Path().rglob("*")}


def test_the_document_has_the_rows_of_the_table():
    assert list(MESSAGES) == LINES, "run `make docs`"
    assert len(LINES) >= 40


@pytest.mark.parametrize("line", LINES)
def test_wrong_input(folder, line):
    before = contents()
    status, output, errors = said(line)
    assert without_figures(errors) == without_figures(MESSAGES[line]), "run `make docs` if the new message is better"
    assert (status, output) == (1, "")
    assert contents() == before
    words = [Path(word).stem for word in line.split() if not word.startswith("-")]
    assert any(word in errors for word in (*words, "note: from ONNX node "))
    first = errors.splitlines()[0]
    assert re.match(r"(\S+:\d+:\d+: )?error: ", first) and "Traceback" not in errors
    message = first.partition("error: ")[2].partition(": ")[2]
    assert not message[:1].isupper() or message.startswith("ONNX"), "messages are lower case"


# what no command line alone can show


def killed_while(folder, patch: str, line: str) -> subprocess.CompletedProcess[str]:
    """Run accelc with a patch that sends it a Ctrl-C where `interrupt()` is called."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in jobs that a shell runs behind
        "def interrupt(*args, **options): os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)\n"
        f"{patch}\n"
        "from accelc.compiler.start import accelc\naccelc()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *line.split()], cwd=folder, capture_output=True, text=True, timeout=60
    )


INTERRUPTS = {
    "while loading": "class Finder:\n"
    "    find_spec = lambda name, *_: interrupt() if name == 'accelc.backends.target' else None\n"
    "sys.meta_path.insert(0, Finder)",
    "while importing": "import onnx\nonnx.ModelProto.ParseFromString = interrupt",
    "in a pass": "from accelc.passes.fold_batch_norm import FoldBatchNorm\nFoldBatchNorm.run = interrupt",
    "while writing": "import os\nos.chmod = interrupt",
}


@pytest.mark.parametrize("moment", INTERRUPTS)
def test_interrupted(folder, moment):
    before = contents()
    patch = INTERRUPTS[moment]
    done = killed_while(folder, patch, "model.onnx --calibration-data good.npz -o interrupted.accel")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    assert contents() == before


def test_interrupted_while_replacing_a_file(folder):
    """The old file stays as it was."""
    before = Path("model.accel").read_bytes()
    patch = "import os\nos.replace = interrupt"
    done = killed_while(folder, patch, "model.onnx -O0 --calibration-data good.npz -o model.accel")
    assert done.returncode == 130
    assert Path("model.accel").read_bytes() == before


@pytest.mark.parametrize("line", ["model.accel --emit=asm", "--list-ops", "model.accel --report"])
def test_standard_output_on_a_full_disk(folder, line):
    code = "from accelc.compiler.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *line.split()], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: standard output: cannot be written: No space left on device"


def test_a_disk_that_fills_up_while_writing(folder, monkeypatch, capsys):
    def fill_up(descriptor, mode):
        raise OSError(28, "No space left on device")

    before = contents()
    monkeypatch.setattr(os, "chmod", fill_up)
    for line in ("model.accel -o copy.accel", "model.accel --run good.npz --output copy.npz"):
        assert run_cli(line.split()) == 1
        name = line.split()[-1]
        assert capsys.readouterr().err == f"error: {name}: cannot be written: No space left on device\n"
    assert contents() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(folder, capsys):
    Path("folder").chmod(0o555)
    try:
        assert run_cli(["model.accel", "-o", "folder/out.accel"]) == 1
    finally:
        Path("folder").chmod(0o755)
    assert capsys.readouterr().err == "error: folder/out.accel: cannot be written: Permission denied\n"


def test_no_memory(folder, monkeypatch, capsys):
    def exhausted(*arguments, **options):
        raise MemoryError("Unable to allocate 64.0 GiB")

    monkeypatch.setattr("accelc.compiler.command.compile_module", exhausted)
    assert run_cli(["model.onnx"]) == 1
    assert capsys.readouterr().err == "error: not enough memory: unable to allocate 64.0 GiB\n"

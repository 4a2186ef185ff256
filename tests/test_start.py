"""What a command must not load, so that it starts fast."""

import subprocess
import sys

import pytest

HEAVY = ("lark", "networkx", "numba", "onnx", "onnx.reference", "onnxruntime", "rich", "matplotlib")


def loaded(code: str) -> set[str]:
    """Which of the heavy modules a fresh interpreter has after running `code`."""
    program = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stderr.split())


RUN = "from accelc.compiler.cli import run_cli\nassert run_cli({!r}) == 0"


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import accelc", set()),
        (RUN.format(["--help"]), set()),
        (RUN.format(["--version"]), set()),
        ("import accelc\naccelc.compile", {"onnx"}),
        (RUN.format(["--list-targets"]), {"onnx"}),
    ],
    ids=["import", "help", "version", "compile", "list-targets"],
)
def test_what_a_command_loads(code, allowed):
    assert loaded(code) <= allowed


def test_compiling_a_quantized_model_loads_onnx_only(tmp_path):
    model, quantized = "examples/models/digits_cnn.onnx", tmp_path / "quantized.onnx"
    assert "onnxruntime" not in loaded(RUN.format([model, "--emit=onnx", "-o", str(quantized)]))
    assert loaded(RUN.format([str(quantized), "-o", str(tmp_path / "p.accel")])) <= {"onnx"}


def test_what_a_command_loads_is_left_out_of_garbage_collection():
    code = (
        "import gc, sys\n"
        "from accelc.compiler import cli\n"
        "sys.argv = ['accelc', '--list-passes']\n"
        "try:\n"
        "    cli.main()\n"
        "except SystemExit:\n"
        "    print(gc.isenabled(), gc.get_freeze_count() > 10_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True True"

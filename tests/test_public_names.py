"""`import accelc` is cheap and offers exactly the documented names."""

import subprocess
import sys

import pytest

import accelc

HEAVY = ("lark", "networkx", "numpy", "onnx", "rich")


@pytest.mark.parametrize("name", ["CompileError", "Program", "compile", "load"])
def test_name_is_offered(name):
    assert name in dir(accelc)
    assert getattr(accelc, name).__name__ == name


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'accelc' has no attribute 'nothing'"):
        accelc.nothing  # noqa: B018


def test_import_loads_nothing_heavy():
    code = f"import sys, accelc; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

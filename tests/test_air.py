"""The collector of `.air` files can fail: each kind of RUN line is seen to pass and to fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from air import RunLineError, execute, run_lines

GOOD = "func @main(%x: tensor<2xf32>) -> tensor<2xf32> {\n  return %x : tensor<2xf32> -> ()\n}\n"
BAD = "func @main(%x: tensor<2xf32>) -> tensor<3xf32> {\n  return %x : tensor<2xf32> -> ()"


def passes(path: Path, text: str) -> bool:
    """Write `text` to `path` and execute its RUN lines; True if all of them pass."""
    path.write_text(text)
    (command,) = run_lines(text)
    try:
        execute(command, path)
    except RunLineError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("// RUN: accelc-opt %s\n// CHECK: return %x\n" + GOOD, True),
        ("// RUN: accelc-opt %s\n// CHECK: return %y\n" + GOOD, False),
        ("// RUN: accelc-opt %s | filecheck %s --check-prefix=HERE\n// HERE: @main\n// CHECK: no\n" + GOOD, True),
        ("// RUN: accelc-opt %s | filecheck %s --check-prefix=HERE\n// CHECK: @main\n" + GOOD, False),
        ("// RUN: accelc-opt %s | filecheck %s\n// CHECK-NOT: return\n" + GOOD, False),
        ("// RUN: accelc-opt %s | sort\n" + GOOD, False),
        ("// RUN: not accelc-opt %s\n// CHECK: error: 'return': returns\n" + BAD + "\n}\n", True),
        ("// RUN: not accelc-opt %s\n// CHECK: error: 'return': nothing\n" + BAD + "\n}\n", False),
        ("// RUN: not accelc-opt %s\n" + GOOD, False),
        ("// RUN: accelc-opt %s\n" + BAD + "\n}\n", False),
        ("// RUN: accelc-opt %s --verify-diagnostics\n" + BAD + " // expected-error {{returns (}}\n}\n", True),
        ("// RUN: accelc-opt %s --verify-diagnostics\n// expected-error@+2 {{returns (}}\n" + BAD + "\n}\n", True),
        ("// RUN: accelc-opt %s --verify-diagnostics\n// expected-error@+1 {{returns (}}\n" + BAD + "\n}\n", False),
        ("// RUN: accelc-opt %s --verify-diagnostics\n" + BAD + " // expected-error {{gives}}\n}\n", False),
        ("// RUN: accelc-opt %s --verify-diagnostics\n" + BAD + "\n}\n", False),
        ("// RUN: accelc-opt %s --verify-diagnostics\n" + GOOD + "// expected-error {{anything}}\n", False),
        (
            "// RUN: accelc-opt %s --split-input-file --verify-diagnostics\n" + GOOD + "// -----\n" + BAD + "\n}\n",
            False,
        ),
        ("// RUN: accelc-opt %s \\\n// RUN:   -p no-such-pass\n" + GOOD, False),
        ("// RUN: cat %s\n" + GOOD, False),
    ],
)
def test_run_line(tmp_path: Path, text: str, *, expected: bool) -> None:
    assert passes(tmp_path / "case.air", text) is expected

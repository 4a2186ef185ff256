"""accelc-opt: exit statuses, located errors, running and dumping."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from accelc.compiler.opt import run_opt

GOOD = """func @main(%x: tensor<2xf32>) -> tensor<2xf32> attributes {outputs = ["y"]} {
  %0 = nn.relu %x : tensor<2xf32> -> tensor<2xf32>
  %1 = nn.relu %0 : tensor<2xf32> -> tensor<2xf32>
  return %1 : tensor<2xf32> -> ()
}
"""


def opt(*arguments: str | Path) -> tuple[int, str, str]:
    """(exit status, standard output, standard error)."""
    stdout, stderr = io.StringIO(), io.StringIO()
    status = run_opt([str(argument) for argument in arguments], stdout=stdout, stderr=stderr)
    return status, stdout.getvalue(), stderr.getvalue()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.air"
    path.write_text(GOOD)
    return path


def test_ir_in_ir_out(good: Path) -> None:
    status, out, err = opt(good, "-p", "canonicalize")
    assert (status, err) == (0, "")
    assert out.count("nn.relu") == 1
    assert opt(good)[1].count("nn.relu") == 2


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["no-such.air"], 1, "no-such.air: cannot be read"),
        (
            ["GOOD", "-p", "canonicalise"],
            2,
            "<pipeline>:1:1: error: unknown pass 'canonicalise'; did you mean 'canonicalize'?",
        ),
        (
            ["GOOD", "--print-ir-after", "no-such-pass"],
            2,
            "--print-ir-after=no-such-pass: unknown pass, expected one of",
        ),
        (["GOOD", "--run", "--seed", "-1"], 2, "--seed is -1, expected at least 0"),
        (["GOOD", "--elide-above", "-1"], 2, "--elide-above is -1, expected at least 0"),
        (["GOOD", "--no-such-flag"], 2, "unrecognized arguments: --no-such-flag"),
        ([], 2, "required: FILE"),
        (["GOOD", "--target", "tile33"], 1, "unknown target 'tile33'"),
        (["GOOD", "--calibration-data", "GOOD"], 1, "not an .npz file"),
        (["GOOD", "--run", "no-such.npz"], 1, "no-such.npz: cannot be read"),
        (["GOOD", "-o", "/no-such-folder/x.air"], 1, "cannot be written"),
    ],
)
def test_faults(good: Path, arguments: list[str], status: int, message: str) -> None:
    actual, _, err = opt(*(str(good) if a == "GOOD" else a for a in arguments))
    assert actual == status
    assert message in err
    assert "Traceback" not in err


def test_help_is_no_error() -> None:
    status, out, _ = opt("--help")
    assert status == 0
    assert "--verify-semantics" in out


def test_a_syntax_error_is_located(tmp_path: Path) -> None:
    path = tmp_path / "bad.air"
    path.write_text(GOOD.replace("nn.relu %0", "nn.relu %0,"))
    status, _, err = opt(path)
    assert status == 1
    assert f"{path}:3:20: error: unexpected ':', expected %value or @symbol" in err
    assert err.splitlines()[2].index("^") == 2 + 19


def test_run_prints_and_writes_outputs(good: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([-1, 2], np.float32))
    status, out, _ = opt(good, "--run", tmp_path / "in.npz", "--run-output", tmp_path / "out.npz")
    assert status == 0
    assert "// output y : tensor<2xf32> = [0.0, 2.0]" in out
    assert np.load(tmp_path / "out.npz")["y"].tolist() == [0.0, 2.0]
    assert opt(good, "--run")[1] == opt(good, "--run", "--seed", "0")[1] != opt(good, "--run", "--seed", "3")[1]


def test_dumps_and_times(good: Path, tmp_path: Path) -> None:
    status, _, err = opt(
        good, "-p", "canonicalize,eliminate-dead-code", "--print-ir-tree-dir", tmp_path / "tree", "--time-passes"
    )
    assert status == 0
    assert "canonicalize" in err
    names = sorted(path.name for path in (tmp_path / "tree").iterdir())
    assert names == ["00-input.air", "01-canonicalize.air", "02-eliminate-dead-code.air"]
    _, _, err = opt(good, "-p", "canonicalize,eliminate-dead-code", "--print-ir-after-change")
    assert err.count("// -----//") == 1


def test_split_input(good: Path) -> None:
    good.write_text(GOOD + "// -----\n" + GOOD)
    status, out, _ = opt(good, "-p", "canonicalize", "--split-input-file")
    assert status == 0
    assert out.count("func @main") == 2
    assert opt(good)[0] == 1

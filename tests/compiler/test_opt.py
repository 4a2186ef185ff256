"""accelc-opt: exit statuses, located errors, running and dumping."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from accelc.compiler.cli import run_cli
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


PRODUCTS = """const @one : tensor<4x4xf32> = dense<0.5>
const @two : tensor<4x2xf32> = dense<0.25>
func @main(%x: tensor<1x4xf32>) -> tensor<1x2xf32> {
  %0 = nn.matmul %x, @one : (tensor<1x4xf32>, tensor<4x4xf32>) -> tensor<1x4xf32> loc("first")
  %1 = nn.matmul %0, @two : (tensor<1x4xf32>, tensor<4x2xf32>) -> tensor<1x2xf32> loc("second")
  return %1 : tensor<1x2xf32> -> ()
}
"""


@pytest.fixture
def products(tmp_path: Path) -> Path:
    path = tmp_path / "products.air"
    path.write_text(PRODUCTS)
    return path


def test_a_pass_of_the_pipeline_is_skipped(good: Path) -> None:
    assert opt(good, "-p", "canonicalize,eliminate-dead-code", "--skip-pass=canonicalize")[1].count("nn.relu") == 2
    status, _, err = opt(good, "-p", "canonicalize", "--skip-pass=round-weights")
    assert status == 2
    assert "--skip-pass=round-weights: the pipeline does not have it, expected one of canonicalize" in err


def test_layers_are_promoted_by_name(products: Path) -> None:
    line = (products, "-p", "insert-quantization", "--precision", "mixed", "--promote", "second")
    status, out, _ = opt(*line)
    assert status == 0 and "tensor<4x4xi8>" in out and "tensor<4x2xi16>" in out
    assert "no layer is called 'third', expected some of 'first', 'second'" in opt(*line, "--promote=third")[2]
    status, _, err = opt(products, "-p", "insert-quantization", "--promote", "second")
    assert status == 2 and "--promote is given for precision int8, expected --precision mixed" in err


def test_ranges_come_from_the_method_or_the_file_that_is_named(products: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 3.0]], np.float32))
    line = (products, "-p", "insert-quantization", "--calibration-data", tmp_path / "x.npz")
    scales = {}
    for method in ("min-max", "mean-min-max"):
        out = opt(*line, "--calibration-method", method)[1]
        scales[method] = float(out.split("!quant.i8<")[1].split(":")[0])
    assert scales == pytest.approx({"min-max": 3.0 / 255, "mean-min-max": 2.0 / 255})
    table = tmp_path / "ranges.json"
    run_cli([str(products), "--emit=quant", f"--save-calibration={table}", "-o", str(tmp_path / "quantized.air")])
    assert opt(products, "-p", "insert-quantization", "--load-calibration", table)[0] == 0
    assert "nowhere.json" in opt(products, "--load-calibration", tmp_path / "nowhere.json")[2]

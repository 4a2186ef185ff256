"""`accelc` in this process: what it writes where, its exit status, and how it answers to wrong usage."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from accelc import __version__
from accelc.compiler.arrays import read_npz
from accelc.compiler.cli import run_cli
from accelc.dialects.core.files import read_module
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.verifier import verify
from accelc.dialects.registry import CONTEXT

EXAMPLES = Path(__file__).parents[2] / "examples"
LEVELS = {"nn": "nn.conv2d", "quant": "quant.requantize", "tile": "tile.matmul"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a model, its program, IR of every level, and samples."""
    folder = tmp_path_factory.mktemp("cli")
    shutil.copy(EXAMPLES / "models" / "digits_cnn.onnx", folder / "model.onnx")
    with np.load(EXAMPLES / "data" / "digits.test.npz") as data:
        images, labels = data["input"][:6], data["labels"][:6]
    np.savez(folder / "good.npz", input=images, labels=labels)
    np.savez(folder / "doubles.npz", input=images.astype(np.float64))
    calibration = str(EXAMPLES / "data" / "digits.calibration.npz")
    model = str(folder / "model.onnx")
    assert run_cli([model, "--calibration-data", calibration, "-o", str(folder / "model.accel")]) == 0
    for level in LEVELS:
        output = str(folder / f"{level}.air")
        assert run_cli([model, "--calibration-data", calibration, f"--emit={level}", "-o", output]) == 0
    return folder


@pytest.fixture
def place(kept, monkeypatch):
    """The working directory, without what an earlier test has written."""
    monkeypatch.chdir(kept)
    monkeypatch.delenv("NO_COLOR", raising=False)
    shutil.rmtree("out", ignore_errors=True)
    Path("out").mkdir()
    return kept


USAGE = [
    ("", "MODEL is missing, expected an .onnx, .air or .accel file"),
    ("model.onnx --emit=program", "--emit=program is given without -o FILE"),
    ("model.onnx --output out.npz", "--output is given without --run, which computes what it would hold"),
    (
        "model.onnx -o out/../model.onnx",
        "-o out/../model.onnx would replace the file that is read, expected another name",
    ),
    (
        "model.accel --run good.npz --output good.npz",
        "--output good.npz would replace the file that is read, expected another name",
    ),
    (
        "model.onnx --calibration-data good.npz --report-json ./good.npz",
        "--report-json good.npz would replace the file that is read, expected another name",
    ),
    (
        "model.onnx --trace out/a.json --report-json out/a.json",
        "--trace out/a.json would replace what --report-json writes, expected another name",
    ),
    ("model.onnx --emit=nn --run good.npz", "--emit=nn stops before there is a program, which --run needs"),
    ("model.onnx --checked", "--checked is given without --run or --evaluate, which it would watch"),
    ("model.onnx --batch 0", "--batch is 0, expected at least 1"),
    (
        "model.onnx --input-shape input=1,a",
        "argument --input-shape: 'input=1,a', expected NAME=SIZE,SIZE,... with sizes of at least 1",
    ),
    (
        "model.onnx --input-shape 1,1,8,8",
        "argument --input-shape: '1,1,8,8', expected NAME=SIZE,SIZE,... with sizes of at least 1",
    ),
    (
        "model.onnx --input-shape input=1,1,8,8 --input-shape input=2,1,8,8",
        "--input-shape gives the shape of 'input' twice, expected once",
    ),
    ("model.onnx --print-ir-after nope", "--print-ir-after=nope: unknown pass, expected one of allocate-banks, "),
    ("model.onnx --skip-pass nope", "--skip-pass=nope: unknown pass, expected one of allocate-banks, "),
    (
        "model.onnx --pass-pipeline insert-quantization{seed=-1}",
        "option 'seed' of pass 'insert-quantization' is '-1', expected int, at least 0",
    ),
    ("model.onnx --pass-pipeline fold-constant", "unknown pass 'fold-constant'; did you mean 'fold-constants'?"),
    ("model.onnx -O7", "argument -O: invalid choice: 7"),
    ("model.onnx --precision int4", "argument --precision: invalid choice: 'int4'"),
    (
        "model.onnx --max-cycles-factor 2",
        "--max-cycles-factor is given for precision int8, expected --precision mixed",
    ),
    (
        "model.onnx --precision mixed --promote a --pareto a.csv",
        "--pareto is given beside --promote, which leaves nothing to choose",
    ),
    (
        "model.onnx --precision bf16 --load-calibration a.json",
        "--load-calibration is given for precision bf16, which has nothing to calibrate",
    ),
    ("model.onnx --precision bf16 --bf16-sums blas", "--bf16-sums blas is given without --run or --evaluate"),
    ("model.onnx --precision mixed --pareto a.txt", "--pareto a.txt: expected a name that ends in .json, .csv, .png"),
    ("model.onnx --precision mixed --max-cycles-factor nan", "--max-cycles-factor is nan, expected at least 1"),
    ("model.onnx --precision mixed --max-accuracy-loss -1", "--max-accuracy-loss is -1.0, expected 0 to 100 points"),
    ("model.onnx --target=", "--target is empty, expected a preset or a .toml file"),
    ("model.onnx -O3 --pass-pipeline O0", "-O is given beside --pass-pipeline"),
    ("model.onnx --emti nn", "unrecognized arguments: --emti"),
    ("model.accel --run good.npz --jobs 0", "--jobs is 0, expected at least 1"),
    ("model.onnx --jobs 2", "--jobs is given without --run or --evaluate, which it would speed up"),
]


@pytest.mark.parametrize(("line", "message"), USAGE, ids=[line or "nothing" for line, _ in USAGE])
def test_wrong_usage(place, capsys, line, message):
    assert run_cli(line.split()) == 2
    captured = capsys.readouterr()
    assert f"error: {message}" in captured.err
    assert captured.out == ""


def test_run_writes_the_outputs(place, capsys):
    assert run_cli(["model.accel", "--run", "good.npz", "--output", "out/a.npz"]) == 0
    assert run_cli(["model.accel", "--run", "doubles.npz", "--output", "out/b.npz", "--checked"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("out/a.npz").read_bytes() == Path("out/b.npz").read_bytes()
    (logits,) = read_npz(Path("out/a.npz")).values()
    assert logits.shape == (6, 10) and logits.dtype == np.float32


def test_outputs_and_report_do_not_depend_on_jobs(place, capsys):
    with np.load(EXAMPLES / "data" / "digits.test.npz") as data:
        np.savez("out/many.npz", input=data["input"][:150], labels=data["labels"][:150])
    results = []
    for jobs in ("1", "2", "7"):
        line = ["model.onnx", "-O0", "--evaluate", "out/many.npz", "--run", "out/many.npz", "--output", "out/o.npz"]
        assert run_cli([*line, "--report-json", "out/r.json", "--jobs", jobs]) == 0
        results.append((Path("out/o.npz").read_bytes(), Path("out/r.json").read_bytes(), capsys.readouterr()))
    assert results[0] == results[1] == results[2]


def test_run_prints_a_summary(place, capsys):
    assert run_cli(["model.accel", "--run", "good.npz"]) == 0
    assert capsys.readouterr().out.startswith("output: float32[6, 10], -")


def test_without_calibration_data_one_line_warns(place, capsys):
    assert run_cli(["model.onnx"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: no calibration data: ") and captured.err.count("\n") == 1
    assert captured.out.startswith("model on tile32: ") and captured.out.count("\n") == 1


def test_evaluate_compares_with_the_float_model(place, capsys):
    line = "model.onnx --calibration-data good.npz --evaluate good.npz --report-json out/report.json"
    assert run_cli(line.split()) == 0
    assert capsys.readouterr().out.startswith("top-1 ")
    facts = json.loads(Path("out/report.json").read_text())["accuracy"]
    assert facts["samples"] == 6 and facts["float"] >= 0.5 and facts["sqnr_db"] > 20
    assert facts["low"] <= facts["program"] - facts["float"] <= facts["high"]


def test_evaluate_of_a_program_has_no_float_model(place, capsys):
    assert run_cli(["model.accel", "--evaluate", "good.npz", "--report-json", "out/report.json"]) == 0
    assert "; no float model to compare with, which only the .onnx file holds" in capsys.readouterr().out
    facts = json.loads(Path("out/report.json").read_text())["accuracy"]
    assert facts["float"] is None and facts["flips"] is None and facts["samples"] == 6


@pytest.mark.parametrize("level", LEVELS)
def test_emitted_ir_can_be_read_run_and_compiled_on(place, level):
    module = read_module(Path(f"{level}.air"), CONTEXT)
    verify(module)
    assert LEVELS[level] in Path(f"{level}.air").read_text()
    image = read_npz(Path("good.npz"))["input"][:1]
    (logits,) = run(module, {"input": image}).values()
    line = [f"{level}.air", "--calibration-data", str(EXAMPLES / "data" / "digits.calibration.npz")]
    assert run_cli([*line, "-o", "out/again.accel"]) == 0
    assert run_cli(["out/again.accel", "--run", "good.npz", "--output", "out/again.npz"]) == 0
    assert run_cli(["model.accel", "--run", "good.npz", "--output", "out/model.npz"]) == 0
    assert Path("out/again.npz").read_bytes() == Path("out/model.npz").read_bytes()
    if level != "nn":
        np.testing.assert_array_equal(read_npz(Path("out/again.npz"))["output"][:1], logits)


def test_emitted_text_goes_to_standard_output(place, capsys):
    assert run_cli(["model.onnx", "--emit=nn"]) == 0
    captured = capsys.readouterr()
    assert "func @main(" in captured.out
    assert captured.err == "note: the data of large constants is left out here; -o FILE keeps it beside the text\n"
    Path("out/text.air").write_text(captured.out)
    assert run_cli(["out/text.air"]) == 1
    message = capsys.readouterr().err
    assert message.count("error: ") == 1 and "is missing beside the text, and so is that of " in message
    assert "note: a file written with -o or --print-ir-tree-dir has it in an .npz beside it; " in message
    assert run_cli(["model.accel", "--emit=asm"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("load ") and "; /features/0/conv/Conv" in printed
    assert run_cli(["model.accel", "--emit=asm", "-o", "out/model.s"]) == 0
    assert Path("out/model.s").read_text() == printed


def test_same_input_same_bytes(place):
    assert run_cli(["model.accel", "-o", "out/copy.accel"]) == 0
    assert Path("out/copy.accel").read_bytes() == Path("model.accel").read_bytes()
    line = ["model.onnx", "--calibration-data", str(EXAMPLES / "data" / "digits.calibration.npz")]
    assert run_cli([*line, "-o", "out/again.accel"]) == 0
    assert Path("out/again.accel").read_bytes() == Path("model.accel").read_bytes()


def test_watching_the_passes(place, capsys):
    line = "model.onnx -O0 --emit=nn -o out/nn.air --time-passes --verify-semantics --print-ir-tree-dir out/tree"
    assert run_cli([*line.split(), "--print-ir-after", "canonicalize", "--no-verify-each"]) == 0
    assert "canonicalize" in capsys.readouterr().err
    assert list(Path("out/tree").glob("*-canonicalize.air"))
    calibrated = f"model.onnx --calibration-data {EXAMPLES / 'data' / 'digits.calibration.npz'} -o out/model.accel"
    assert run_cli([*calibrated.split(), "--verify-semantics"]) == 0


def test_passes_can_be_left_out(place, capsys):
    line = ["model.onnx", "--emit=quant", "-o", "out/quant.air", "--time-passes"]
    assert run_cli([*line, "--skip-pass", "round-weights", "--skip-pass=equalize-channels"]) == 0
    seconds = capsys.readouterr().err
    assert "correct-bias" in seconds
    assert "round-weights" not in seconds
    assert "equalize-channels" not in seconds
    assert run_cli(["model.accel", "--skip-pass=correct-bias"]) == 1
    assert "already compiled, --skip-pass cannot change it" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["int8", "int16", "mixed --pareto out/a.csv"])
def test_a_program_has_its_precision(place, capsys, precision):
    assert run_cli(["model.accel", "--report", "--precision", *precision.split()]) == 1
    assert "already compiled, --precision cannot change it" in capsys.readouterr().err
    assert not Path("out/a.csv").exists()


def test_bf16_calibrates_nothing_and_labels_inexact_sums(place, capsys):
    assert run_cli(["model.onnx", "--precision", "bf16", "-o", "out/bf16.accel", "--report-json", "out/bf16.json"]) == 0
    assert capsys.readouterr() == ("", "")
    assert json.loads(Path("out/bf16.json").read_text())["precision"] == "bf16"
    run = ["out/bf16.accel", "--run", "good.npz", "--output"]
    assert run_cli([*run, "out/exact.npz", "--checked"]) == 0
    assert run_cli([*run, "out/blas.npz", "--bf16-sums", "blas"]) == 0
    assert "inexact: bf16 sums by BLAS" in capsys.readouterr().err
    (exact,), (blas,) = (read_npz(Path(f"out/{name}.npz")).values() for name in ("exact", "blas"))
    assert not exact.view(np.uint16)[..., 0::2].any(), "outputs are numbers of bf16"
    np.testing.assert_allclose(blas, exact, atol=0.1)


def test_print_ir_goes_to_standard_error(place, capsys):
    assert run_cli(["model.onnx", "--emit=nn", "-o", "out/nn.air", "--print-ir-before", "fold-batch-norm"]) == 0
    captured = capsys.readouterr()
    assert "nn.batch_norm" in captured.err and captured.out == ""


def test_report_is_readable_without_a_terminal(place, capsys):
    assert run_cli(["model.accel", "--report", "--color=never"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 118
    assert "\x1b" not in printed and not any(line.endswith(" ") for line in printed.splitlines())
    assert run_cli(["model.accel", "--report", "--color=always"]) == 0
    assert "\x1b[" in capsys.readouterr().out


def test_colour_on_a_terminal_unless_the_user_objects(place, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run_cli(["model.accel", "--report"]) == 0
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run_cli(["model.accel", "--report"]) == 0
    assert "\x1b[" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--list-targets", ["tile32 ", "array32 ", "4 of 32x32"]),
        (
            "--list-passes",
            ["insert-quantization", "method: one of auto, min-max, mean-min-max, percentile, mse, entropy", "O2 "],
        ),
        ("--list-ops", ["GlobalAveragePool", "nn.conv2d", "tile.matmul", "7 to "]),
    ],
)
def test_lists(capsys, option, expected):
    assert run_cli([option]) == 0
    printed = capsys.readouterr().out
    assert [word for word in expected if word not in printed] == []


def test_version(capsys):
    assert run_cli(["--version"]) == 0
    assert capsys.readouterr().out == f"accelc {__version__}\n"


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from accelc.compiler.cli import run_cli; status = run_cli(['--help'])\n"
        "print(status, [n for n in ('lark', 'networkx', 'numpy', 'onnx', 'rich') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
    assert "--calibration-data FILE.npz|DIR" in done.stdout


def test_a_closed_pipe_is_no_error(place):
    code = "from accelc.compiler.cli import main; main()"
    line = [sys.executable, "-c", code, "model.accel", "--emit=asm"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0

"""`accelc-reduce`: what is left of a model is small, valid, and fails as the whole did."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import graph_model
from onnx import helper

from accelc.compiler import reduce
from accelc.compiler.reduce import run_reduce
from accelc.compiler.reductions import is_valid, onnx_candidates

node = helper.make_node

# A stand-in for a compiler that fails on Tanh: fast, and it says what it met.
FAILS_ON_TANH = """
import sys, onnx
model = onnx.load(sys.argv[1])
found = [n for n in model.graph.node if n.op_type == "Tanh"]
print("met", len(found), "tanh")
sys.exit(3 if found else 0)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tanh.py").write_text(FAILS_ON_TANH)
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Add", ["b", "x"], ["c"]),
        node("Tanh", ["c"], ["d"]),
        node("MatMul", ["d", "w"], ["e"]),
        node("Sigmoid", ["e"], ["f"]),
        node("Concat", ["f", "b"], ["y"], axis=1),
    ]
    onnx.save(graph_model(nodes, {"x": (4, 8), "w": weight}, ["y", "b"]), "model.onnx")
    return tmp_path


def reduced(line: str, command: str) -> int:
    return run_reduce([*line.split(), "--", *shlex.split(command)])


def test_a_model_becomes_one_node(place, capsys):
    assert reduced("model.onnx", f"{sys.executable} tanh.py") == 0
    model = onnx.load("model.reduced.onnx")
    assert [each.op_type for each in model.graph.node] == ["Tanh"]
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 1]
    assert not model.graph.initializer and is_valid(model)
    printed = capsys.readouterr().out
    assert printed.startswith("model.reduced.onnx: 1 nodes, ") and "from 7 nodes" in printed


class Pair(reduce.Command):
    """A command in this process, that fails on a convolution beside a Gemm."""

    def fails(self, data):
        return {"Conv", "Gemm"} <= {each.op_type for each in onnx.load_model_from_string(data).graph.node}


def test_channels_that_belong_together_shrink_together(place):
    random = np.random.default_rng(1)
    nodes = [
        node("Conv", ["x", "w", "b"], ["a"], kernel_shape=[3, 3], group=2),
        node("Relu", ["a"], ["r"]),
        node("Reshape", ["r", "shape"], ["flat"]),
        node("Gemm", ["flat", "m", "n"], ["y"]),
    ]
    values = {name: random.standard_normal(shape).astype(np.float32) for name, shape in SIZES.items()}
    values |= {"shape": np.array([1, 24 * 16], np.int64), "x": (1, 16, 6, 6)}
    whole = graph_model(nodes, values, ["y"])
    search = reduce.Search(whole, onnx_candidates, lambda m: m.SerializeToString(deterministic=True), str)
    search.run(Pair((), ".onnx", place, 1.0, ""), place / "small.onnx")
    model = onnx.load("small.onnx")
    assert is_valid(model) and {each.op_type for each in model.graph.node} >= {"Conv", "Gemm"}
    elements = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert elements < sum(int(np.prod(shape)) for shape in SIZES.values()) / 20


SIZES = {"w": (24, 8, 3, 3), "b": (24,), "m": (24 * 16, 10), "n": (10,)}


def test_the_place_of_the_file_and_the_text_to_expect(place):
    command = f"{sys.executable} tanh.py {{}} ignored"
    assert reduced("model.onnx -o small.onnx --expect missing", command) == 1
    assert reduced("model.onnx -o small.onnx --expect met", command) == 0
    assert Path("small.onnx").is_file() and not Path("model.reduced.onnx").exists()


def test_the_model_itself_is_not_replaced(place, capsys):
    before = Path("model.onnx").read_bytes()
    assert reduced("model.onnx -o ./model.onnx", f"{sys.executable} tanh.py") == 2
    assert "-o model.onnx would replace the file that is read" in capsys.readouterr().err
    assert Path("model.onnx").read_bytes() == before


def test_a_command_that_does_not_fail(place, capsys):
    assert reduced("model.onnx", f"{sys.executable} -c pass") == 1
    assert capsys.readouterr().err == (
        "error: model.onnx: the command ends with 0, expected a model on which it fails\n"
    )
    assert reduced("model.onnx", "./no-such-command") == 1
    assert capsys.readouterr().err == "error: ./no-such-command: cannot be run: No such file or directory\n"
    assert run_reduce(["model.onnx"]) == 2
    assert "the command is missing" in capsys.readouterr().err
    assert sorted(path.name for path in place.iterdir()) == ["model.onnx", "tanh.py"]


def test_a_hang_is_a_failure_too(place):
    Path("hang.py").write_text("import sys, time\nif b'Tanh' in open(sys.argv[1], 'rb').read(): time.sleep(60)")
    nodes = [node("Relu", ["x"], ["a"]), node("Tanh", ["a"], ["y"])]
    onnx.save(graph_model(nodes, {"x": (1, 1)}, ["y"]), "hang.onnx")
    assert reduced("hang.onnx --timeout 5", f"{sys.executable} -S hang.py") == 0
    assert [each.op_type for each in onnx.load("hang.reduced.onnx").graph.node] == ["Tanh"]


def test_interrupted_leaves_the_best_so_far(place, monkeypatch, capsys):
    whole = reduce.Command.fails
    calls = iter(range(100))

    def interrupted_later(self, data):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, data)

    monkeypatch.setattr(reduce.Command, "fails", interrupted_later)
    assert reduced("model.onnx", f"{sys.executable} tanh.py") == 130
    assert "model.reduced.onnx is the smallest so far, " in capsys.readouterr().err
    assert 1 <= len(onnx.load("model.reduced.onnx").graph.node) < 7


TEXT = """const @w : tensor<2xf32> = dense<[1.0, 2.0]>
func @main(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %0 = nn.add %x, @w : (tensor<3x2xf32>, tensor<2xf32>) -> tensor<3x2xf32> loc("a")
  %1 = nn.relu %0 : tensor<3x2xf32> -> tensor<3x2xf32> loc("b")
  %2 = nn.tanh %1 : tensor<3x2xf32> -> tensor<3x2xf32> loc("c")
  %3 = nn.mul %2, %0 : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32> loc("d")
  return %3 : tensor<3x2xf32> -> ()
}
"""


def test_text_becomes_one_operation(place):
    Path("module.air").write_text(TEXT)
    Path("text.py").write_text(
        "import sys\nfrom accelc.compiler.opt import run_opt\n"
        "sys.exit(5 if run_opt([sys.argv[1]]) == 0 and 'nn.tanh' in open(sys.argv[1]).read() else 0)"
    )
    assert reduced("module.air", f"{sys.executable} text.py") == 0
    lines = Path("module.reduced.air").read_text().splitlines()
    assert [line.split()[2] for line in lines if " = nn." in line] == ["nn.tanh"]
    assert not any(line.startswith("const") for line in lines)

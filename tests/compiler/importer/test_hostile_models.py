"""Small files that describe enormous things are refused before anything is allocated."""

from __future__ import annotations

import resource
import subprocess
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import onnx
import pytest
from models import graph_model, node_model
from onnx import helper, numpy_helper

from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError

node = helper.make_node
LIMIT = 64 << 20
"""Bytes that an import of a small file may take while it finds out."""


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def added(nodes, inputs, opset=17):
    """A model whose nodes compute a constant `c`, which is added to its input."""
    return graph_model([*nodes, node("Add", ["x", "c"], ["y"])], {"x": (1,), **inputs}, ["y"], opset=opset)


def fill(size: str, result: str) -> onnx.NodeProto:
    return node("ConstantOfShape", [size], [result])


def sparse(count: int) -> onnx.ModelProto:
    model = node_model("Add", [(1,)])
    model.graph.node[0].input.append("s0")
    for index in range(count):
        values, places = numpy_helper.from_array(np.float32([5]), f"s{index}"), numpy_helper.from_array(ints(1), "i")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**26]))
    return model


BOMBS = {
    "Concat": added([fill("n", "a"), node("Concat", ["a"] * 1000, ["c"], axis=0)], {"n": ints(2**28)}),
    "Gather": added(
        [node("Gather", ["a", "i"], ["c"])], {"a": np.ones((1, 2**18), np.float32), "i": ints(*[0] * 2048)}
    ),
    "Einsum": added([fill("n", "a"), node("Einsum", ["a"] * 3, ["c"], equation="i,j,k->ijk")], {"n": ints(2**12)}),
    "OneHot": added(
        [node("OneHot", ["i", "n", "v"], ["c"])], {"i": ints(*[0] * 1000), "n": ints(2**40), "v": np.float32([0, 1])}
    ),
    "HannWindow": added([node("HannWindow", ["n"], ["c"])], {"n": np.array(2**40)}),
    "DFT": added([node("DFT", ["a", "n"], ["c"], axis=1)], {"a": np.ones((1, 4, 1), np.float32), "n": np.array(2**40)}),
    "CenterCropPad": added(
        [node("CenterCropPad", ["a", "n"], ["c"])], {"a": np.ones(4, np.float32), "n": ints(2**40)}, opset=18
    ),
    "Tile": added([node("Tile", ["a", "n"], ["c"])], {"a": np.ones(4, np.float32), "n": ints(2**40)}),
    "Range": added(
        [node("Range", ["a", "b", "s"], ["c"])], {"a": np.array(0), "b": np.array(2**40), "s": np.array(1)}
    ),
    "MatMul": added(
        [fill("n", "a"), fill("m", "b"), node("MatMul", ["a", "b"], ["c"])], {"n": ints(2**20, 1), "m": ints(1, 2**20)}
    ),
    "sparse tensors": sparse(40),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_allocate_little(name):
    data = BOMBS[name].SerializeToString()
    tracemalloc.start()
    try:
        with pytest.raises(CompileError, match=name):
            import_model(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LIMIT


def test_shape_inference_after_a_failure_takes_no_note_of_long_vectors(tmp_path):
    nodes = [node("Concat", ["x"] * 9, ["b"], axis=0), node("Det", ["b"], ["y"])]
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_model(nodes, {"x": (2**24,)}, ["y"]).SerializeToString())
    code = "import sys; from accelc.compiler.cli import run_cli; sys.exit(run_cli([sys.argv[1]]))"
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 2 and "note: Det 'Det:y': the operator is not supported on" in done.stderr


def test_many_results_on_constants_together_are_bounded(monkeypatch):
    monkeypatch.setattr("accelc.compiler.importer.importing.FOLDED_LIMIT", 1 << 20)
    names = ["c0", *(f"c{i}" for i in range(1, 9)), "c"]
    chain = [node("Exp", [a], [b], name=b) for a, b in pairwise(names)]
    with pytest.raises(CompileError, match="takes 1310720 bytes for the constants computed so far") as caught:
        import_model(added([fill("n", "c0"), *chain], {"n": ints(2**16)}))
    assert "'c5'" in str(caught.value)


def test_selections_are_bounded_by_their_inputs():
    model = added([node("NonZero", ["a"], ["i"]), node("Gather", ["b", "i"], ["d"]), node("ReduceSum", ["d"], ["c"])],
                  {"a": np.float32([1, 0, 2]), "b": np.float32([5, 6, 7])})  # fmt: skip
    module = import_model(model)
    assert [float(constant.array.sum()) for constant in module.constants.values()] == [12.0]


def test_strings_are_not_evaluated():
    model = added([node("StringConcat", ["a", "a"], ["c"])], {}, opset=20)
    model.graph.initializer.append(helper.make_tensor("a", onnx.TensorProto.STRING, [1], [b"a"]))
    with pytest.raises(CompileError, match="strings are not supported, not even on constants"):
        import_model(model)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("allowed", [False, True])
def test_what_crashes_shape_inference_is_refused(constant, allowed):
    data = np.ones((2, 2), np.float32) if constant else (2, 2)
    model = added([node("GatherND", ["a", "i"], ["c"], batch_dims=-2)], {"a": data, "i": ints(0).reshape(1, 1, 1)})
    with pytest.raises(CompileError, match=r"size of the result on constants|1 node is not supported"):
        import_model(model, allow_host=allowed)

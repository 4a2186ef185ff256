"""If with a condition that is known at import, and inputs that become constants."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from reference import reference_outputs

from accelc.compiler.cli import run_cli
from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, name=f"{kind}_{outputs[0]}", **attributes)


def branch(name, nodes, constants=()):
    return helper.make_graph(nodes, name, [], [value("result", None)], list(constants))


def model_of(nodes, inputs, opset=17):
    graph = helper.make_graph(nodes, "g", inputs, [value("y", None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def doubling_or_unsupported(condition):
    """Twice two times relu(x) and relu(x) again, or what nothing supports: only the other branch reads it."""
    two = numpy_helper.from_array(np.float32(2.0), "two")
    good = branch("good", [node("Mul", ["r", "two"], ["result"])], [two])
    bad = branch("bad", [node("Add", ["r", "outer"], ["result"])])
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("NonZero", ["x"], ["outer"]),
        *condition,
        node("If", ["c"], ["z"], then_branch=good, else_branch=bad),
        node("If", ["c"], ["w"], then_branch=good, else_branch=bad),
        node("Add", ["z", "w"], ["s"]),
        node("Add", ["s", "r"], ["y"]),
    ]
    return nodes


X = np.array([[1.0, -2.0, 3.0]], np.float32)


def test_a_condition_on_shapes_takes_its_branch_and_the_other_is_dropped():
    three = helper.make_tensor("three", TensorProto.INT64, [], [3])
    condition = [
        node("Shape", ["x"], ["shape"], start=1),
        node("Constant", [], ["three"], value=three),
        node("Squeeze", ["shape"], ["columns"]),
        node("Equal", ["columns", "three"], ["c"]),
    ]
    model = model_of(doubling_or_unsupported(condition), [value("x", [1, 3])])
    module = import_model(model)
    assert [op.name for op in module.main.body] == ["nn.relu", "nn.mul", "nn.mul", "nn.add", "nn.add", "return"]
    np.testing.assert_array_equal(*run(module, {"x": X}).values(), 5 * np.maximum(X, 0))
    np.testing.assert_array_equal(*reference_outputs(model, {"x": X}).values(), 5 * np.maximum(X, 0))


def test_nested_branches_and_a_bound_input():
    inner = node(
        "If",
        ["flag"],
        ["result"],
        then_branch=branch("up", [node("Exp", ["t"], ["result2"]), node("Neg", ["result2"], ["result"])]),
        else_branch=branch("down", [node("Neg", ["t"], ["result"])]),
    )
    outer = branch("outer", [node("Abs", ["x"], ["t"]), inner])
    other = branch("other", [node("NonZero", ["x"], ["result"])])
    nodes = [node("If", ["flag"], ["y"], then_branch=outer, else_branch=other)]
    model = model_of(nodes, [value("x", [1, 3]), value("flag", [], TensorProto.BOOL)])
    module = import_model(model, input_values={"flag": True})
    assert [argument.name for argument in module.main.arguments] == ["x"]
    np.testing.assert_allclose(*run(module, {"x": X}).values(), -np.exp(np.abs(X)), rtol=1e-6)
    with pytest.raises(CompileError, match="NonZero 'NonZero_result': the size of its result"):
        import_model(model, input_values={"flag": False})
    with pytest.raises(CompileError, match=r"If 'If_y': .*--input-value makes an input that decides it"):
        import_model(model)


@pytest.mark.parametrize(
    ("kind", "shape", "given", "expected"),
    [
        (TensorProto.INT64, [], 16000, np.array(16000, np.int64)),
        (TensorProto.INT64, [1], 16000, np.array([16000], np.int64)),
        (TensorProto.FLOAT, [2, 2], 0.5, np.full((2, 2), 0.5, np.float32)),
        (TensorProto.FLOAT, ["n"], [1, 2.5], np.array([1, 2.5], np.float32)),
        (TensorProto.BOOL, ["n", 1], 1, np.array([[True]])),
    ],
)
def test_values_take_the_type_and_shape_of_their_input(kind, shape, given, expected):
    nodes = [node("Identity", ["v"], ["k"]), node("Cast", ["k"], ["f"], to=1), node("Mul", ["f", "x"], ["y"])]
    model = model_of(nodes, [value("x", [2, 2]), value("v", shape, kind)])
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    (found,) = run(import_model(model, input_values={"v": given}), {"x": x}).values()
    np.testing.assert_array_equal(found, expected.astype(np.float32) * x)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 1}, "a value is given for input 'rate', which the model does not have; its inputs: 'x', 'n'"),
        ({"n": 1.5}, "the value given for input 'n' is 1.5, which int64 does not hold"),
        ({"n": "many"}, "the value given for input 'n' is 'many', expected numbers of type int64"),
        ({"n": float("nan")}, "the value given for input 'n' is nan, which int64 does not hold"),
        ({"n": [1, 2]}, r"the value given for input 'n' has the shape \[2\], the model has \[1\]"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, message):
    nodes = [node("Cast", ["n"], ["f"], to=1), node("Mul", ["f", "x"], ["y"])]
    model = model_of(nodes, [value("x", [2, 2]), value("n", [1], TensorProto.INT64)])
    with pytest.raises(CompileError, match=message):
        import_model(model, input_values=values)


def test_a_branch_may_read_what_nothing_else_reads():
    """The second half of a Split whose first half is imported before the If is reached."""
    part = branch("part", [node("Add", ["low", "high"], ["result"])])
    nodes = [
        node("Split", ["x"], ["low", "high"], axis=1),
        node("Relu", ["low"], ["r"]),
        node("If", ["c"], ["z"], then_branch=part, else_branch=part),
        node("Add", ["r", "z"], ["y"]),
    ]
    model = model_of(nodes, [value("x", [1, 4]), value("c", [], TensorProto.BOOL)])
    x = np.array([[1.0, -2.0, 3.0, 4.0]], np.float32)
    (found,) = run(import_model(model, input_values={"c": True}), {"x": x}).values()
    np.testing.assert_array_equal(found, [[5.0, 2.0]])


def test_malformed_branches_are_located():
    nodes = [node("If", ["c"], ["y"], then_branch=branch("a", [node("Relu", ["x"], ["result"])]))]
    model = model_of(nodes, [value("x", [1, 3]), value("c", [], TensorProto.BOOL)])
    with pytest.raises(CompileError, match="attribute 'else_branch' is missing"):
        import_model(model, input_values={"c": False})
    part = branch("part", [node("Relu", ["x"], ["result"])])
    nodes = [node("If", ["c"], ["y"], then_branch=part, else_branch=part)]
    model = model_of(nodes, [value("x", [1, 3]), value("c", [2], TensorProto.BOOL)])
    with pytest.raises(CompileError, match=r"the condition is bool\[2\], expected bool\[\] or bool\[1\]"):
        import_model(model, input_values={"c": False})


def test_the_command_line_binds_inputs(tmp_path, capsys):
    nodes = [node("Cast", ["n"], ["f"], to=1), node("Mul", ["f", "x"], ["y"])]
    path = tmp_path / "m.onnx"
    onnx.save(model_of(nodes, [value("x", [2, 2]), value("n", [1], TensorProto.INT64)]), path)
    assert run_cli([str(path), "--input-value", "n=3", "--emit=nn"]) == 0
    assert "3.0" in capsys.readouterr().out
    assert run_cli([str(path), "--input-value", "n=three"]) == 2
    assert "'n=three', expected NAME=VALUE" in capsys.readouterr().err
    assert run_cli([str(path), "--input-value", "n=1", "--input-value", "n=2"]) == 2
    assert "--input-value gives the value of 'n' twice" in capsys.readouterr().err
    assert run_cli([str(path), "--input-value", "m=1"]) == 1
    assert "a value is given for input 'm', which the model does not have" in capsys.readouterr().err

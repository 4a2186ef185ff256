"""Loop and Scan whose course is known at import: every iteration is imported, what is not known is refused."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from reference import assert_imports_exactly

from accelc.compiler.importer import import_model, importing
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run

INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(3)


def value(name, shape=None, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, name=f"{kind}_{outputs[0]}", **attributes)


def graph(nodes, inputs, outputs, **constants):
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return helper.make_graph(nodes, "g", inputs, outputs, tensors)


def model(nodes, inputs, outputs, **constants):
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph(nodes, inputs, outputs, **constants), opset_imports=opsets, ir_version=8)


WEIGHTS = RNG.standard_normal((3, 3)).astype(np.float32) / 2
CELL = [
    node("Gather", ["sequence", "index"], ["element"]),
    node("MatMul", ["state", "weights"], ["product"]),
    node("Add", ["product", "element"], ["sum"]),
    node("Tanh", ["sum"], ["next"]),
]
"""One step of a recurrent layer, as tf2onnx writes it: what it reads is around the loop."""
COUNTING = [node("Add", ["index", "one"], ["index.next"]), node("Less", ["index.next", "length"], ["goes on"])]


def recurrent(limit, going=True, length=4):
    """A while loop over the rows of x[4, 3]: the last state and all states."""
    body = graph(
        [*CELL, *COUNTING, node("Identity", ["next"], ["row"])],
        [value("iteration", [], INT64), value("going", [], BOOL), value("index", [], INT64), value("state", [1, 3])],
        [value("goes on", [], BOOL), value("index.next", [], INT64), value("next", [1, 3]), value("row", [1, 3])],
        one=np.int64(1),
    )
    nodes = [
        node("Relu", ["x"], ["sequence"]),
        node("Loop", ["limit", "going", "zero", "start"], ["last index", "last", "rows"], body=body),
        node("Neg", ["last"], ["y"]),
    ]
    constants = {"weights": WEIGHTS, "length": np.int64(length), "zero": np.int64(0), "start": np.zeros((1, 3), "f")}
    constants |= {"limit": np.int64(limit), "going": np.array(going)}
    return model(nodes, [value("x", [4, 3])], [value("y"), value("rows")], **constants)


@pytest.mark.parametrize(("limit", "length", "steps"), [(2**62, 4, 4), (4, 100, 4), (3, 100, 3), (2**62, 1, 1)])
def test_a_loop_is_imported_iteration_by_iteration(limit, length, steps):
    module = assert_imports_exactly(recurrent(limit, length=length))
    assert sum(op.name == "nn.tanh" for op in module.walk()) == steps
    assert len({op.operands[1] for op in module.walk() if op.name == "nn.matmul"}) <= 1


def test_a_loop_that_never_runs_passes_its_values_on():
    looped = recurrent(4, going=False)
    del looped.graph.output[1:]
    looped.graph.node[1].output[2] = ""
    looped.graph.node[2].input[0] = "sum"
    looped.graph.node.insert(2, node("Add", ["last", "x"], ["sum"]))
    module = import_model(looped)
    assert not any(op.name == "nn.tanh" for op in module.walk())
    x = RNG.standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_array_equal(*run(module, {"x": x}).values(), -x)
    looped = recurrent(4, going=False)
    with pytest.raises(CompileError, match="the result is empty: there is no iteration"):
        import_model(looped)


def test_a_branch_in_a_loop_is_chosen_in_each_iteration():
    """Even iterations double, odd ones negate: the branches read the carried value of their own iteration."""
    doubled = graph([node("Add", ["carried", "carried"], ["result"])], [], [value("result")])
    negated = graph([node("Neg", ["carried"], ["result"])], [], [value("result")])
    body = graph(
        [
            node("Mod", ["iteration", "two"], ["rest"]),
            node("Equal", ["rest", "zero"], ["even"]),
            node("If", ["even"], ["next"], then_branch=doubled, else_branch=negated),
            node("Identity", ["going"], ["goes on"]),
        ],
        [value("iteration", [], INT64), value("going", [], BOOL), value("carried", [2])],
        [value("goes on", [], BOOL), value("next", [2])],
    )
    nodes = [node("Loop", ["limit", "", "x"], ["y"], body=body)]
    constants = {"limit": np.int64(5), "two": np.int64(2), "zero": np.int64(0)}
    module = assert_imports_exactly(model(nodes, [value("x", [2])], [value("y", [2])], **constants))
    assert [op.name for op in module.main.body] == ["nn.add", "nn.neg", "nn.add", "nn.neg", "nn.add", "return"]


def test_computed_integers_stay_integers_through_a_loop():
    body = graph(
        [node("Add", ["carried", "carried"], ["next"]), node("Identity", ["going"], ["goes on"])],
        [value("iteration", [], INT64), value("going", [], BOOL), value("carried", [2], INT64)],
        [value("goes on", [], BOOL), value("next", [2], INT64)],
    )
    nodes = [
        node("ArgMax", ["x"], ["places"], axis=1, keepdims=0),
        node("Loop", ["limit", "", "places"], ["y"], body=body),
    ]
    assert_imports_exactly(model(nodes, [value("x", [2, 5])], [value("y", [2], INT64)], limit=np.int64(2)))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backward", [0, 1])
def test_a_scan_takes_its_sequence_apart(axis, backward):
    body = graph(
        [
            node("MatMul", ["state", "weights"], ["product"]),
            node("Add", ["product", "element"], ["sum"]),
            node("Tanh", ["sum"], ["next"]),
            node("Neg", ["next"], ["row"]),
        ],
        [value("state", [3]), value("element", [3])],
        [value("next", [3]), value("row", [3])],
    )
    attributes = {"scan_input_axes": [axis], "scan_input_directions": [backward], "scan_output_axes": [1]}
    attributes["scan_output_directions"] = [1 - backward]
    nodes = [node("Scan", ["start", "x"], ["last", "rows"], body=body, num_scan_inputs=1, **attributes)]
    shape = [4, 3] if axis == 0 else [3, 4]
    outputs = [value("last", [3]), value("rows", [3, 4])]
    scanned = model(nodes, [value("start", [3]), value("x", shape)], outputs, weights=WEIGHTS)
    module = assert_imports_exactly(scanned)
    assert sum(op.name == "nn.tanh" for op in module.walk()) == 4


@pytest.mark.parametrize("lengths", [[4, 4, 4], [2, 2, 2], [0, 3, 4]])
@pytest.mark.parametrize("time", [0, 1])
def test_sequences_of_known_lengths_are_reversed(lengths, time):
    shape = [4, 3, 2] if time == 0 else [3, 4, 2]
    nodes = [node("ReverseSequence", ["x", "lengths"], ["y"], time_axis=time, batch_axis=1 - time)]
    assert_imports_exactly(model(nodes, [value("x", shape)], [value("y", shape)], lengths=np.array(lengths)))


def as_input(looped, name, kind=TensorProto.FLOAT):
    """The model with an input in the place of a constant."""
    tensor = next(each for each in looped.graph.initializer if each.name == name)
    looped.graph.initializer.remove(tensor)
    looped.graph.input.append(value(name, list(tensor.dims), kind))
    return looped


def with_body(looped, change):
    change(next(each for each in looped.graph.node[1].attribute if each.name == "body").g)
    return looped


@pytest.mark.parametrize(
    ("looped", "message"),
    [
        (
            as_input(recurrent(3), "limit", INT64),
            "Loop_last index': .*where the number of iterations is computed",
        ),
        (as_input(recurrent(3), "going", BOOL), "where the end of a loop is computed at run time; --input-value"),
        (recurrent(2**62, length=2**62), "'Gather': index 4 is out of range for axis 0 of size 4"),
        (with_body(recurrent(3), lambda body: body.input.pop()), "'body' has 3 inputs, expected 4"),
        (with_body(recurrent(3), lambda body: [body.output.pop() for _ in range(2)]), "the body has 2 outputs for 2"),
        (with_body(recurrent(3), lambda body: body.node.pop()), "output 'row' of 'body' is not defined by any node"),
        (
            with_body(recurrent(3), lambda body: body.node.append(node("Exp", ["last"], ["row"]))),
            "defines 'row', which",
        ),
    ],
)
def test_a_course_that_is_not_known_is_refused(looped, message):
    with pytest.raises(CompileError, match=message):
        import_model(looped)


def test_a_loop_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(importing, "UNROLLED_LIMIT", 100)
    body = graph(
        [node("Tanh", ["carried"], ["next"]), node("Identity", ["going"], ["goes on"])],
        [value("iteration", [], INT64), value("going", [], BOOL), value("carried", [2])],
        [value("goes on", [], BOOL), value("next", [2])],
    )
    nodes = [node("Loop", ["", "", "x"], ["y"], body=body)]
    with pytest.raises(CompileError, match="all iterations of loops take more than 100 nodes"):
        import_model(model(nodes, [value("x", [2])], [value("y", [2])]))


def test_a_body_that_reads_what_the_loop_makes_is_refused():
    body = graph(
        [node("Add", ["carried", "after"], ["next"]), node("Identity", ["going"], ["goes on"])],
        [value("iteration", [], INT64), value("going", [], BOOL), value("carried", [2])],
        [value("goes on", [], BOOL), value("next", [2])],
    )
    nodes = [node("Loop", ["limit", "", "x"], ["y"], body=body), node("Neg", ["y"], ["after"])]
    with pytest.raises(CompileError, match="'Loop': depends on itself"):
        import_model(model(nodes, [value("x", [2])], [value("y", [2])], limit=np.int64(2)))


def test_a_failure_in_a_body_is_told_once():
    looped = with_body(recurrent(3), lambda body: body.node.append(node("Det", ["next"], ["last row"])))
    looped = with_body(looped, lambda body: setattr(body.output[3], "name", "last row"))
    with pytest.raises(CompileError) as error:
        import_model(looped)
    assert str(error.value).count("Det 'Det_last row': the operator is not supported on activations") == 1
    assert "1 node is not supported" in str(error.value)

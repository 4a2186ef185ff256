"""What is known at import is computed at import: shapes, the arithmetic around them, and other constants."""

import numpy as np
import pytest
from models import graph_model, node_model
from onnx import TensorProto, helper, numpy_helper
from reference import assert_close, assert_imports_exactly, random_inputs, reference_outputs

from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.parser import parse_module
from accelc.dialects.core.printer import elided_constants, print_module
from accelc.dialects.registry import CONTEXT

node = helper.make_node


def ints(*values):
    return np.array(values, np.int64)


def names(module):
    return [op.name for op in module.walk()]


def test_the_flatten_that_torch_writes_is_one_reshape():
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0))),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Unsqueeze", ["batch", "axes"], ["batches"]),
        node("Concat", ["batches", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    model = graph_model(nodes, {"x": ("N", 3, 4, 4), "axes": ints(0), "rest": ints(-1)}, ["y"])
    for batch in (1, 5):
        module = import_model(model, batch=batch)
        assert names(module) == ["nn.reshape", "return"]
        assert module.main.result_types[0].shape == (batch, 48)
        assert not module.constants
    inputs = random_inputs(module)
    assert_close(run(module, inputs), reference_outputs(model, inputs))


def test_the_channel_split_that_torch_writes_is_two_slices():
    nodes = [
        node("Shape", ["x"], ["shape"], start=1, end=2),
        node("Add", ["shape", "one"], ["sum"]),
        node("Div", ["sum", "two"], ["half"]),
        node("Mul", ["half", "one"], ["middle"]),
        node("Mul", ["half", "two"], ["end"]),
        node("Slice", ["x", "zero", "middle", "one"], ["a"]),
        node("Slice", ["x", "middle", "end", "one"], ["b"]),
        node("Concat", ["b", "a"], ["y"], axis=1),
    ]
    values = {"x": (2, 6, 3), "zero": ints(0), "one": ints(1), "two": ints(2)}
    assert names(assert_imports_exactly(graph_model(nodes, values, ["y"]))) == [
        *["nn.slice"] * 2,
        "nn.concat",
        "return",
    ]


def test_masks_and_positions_are_computed_at_import():
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Size", ["x"], ["size"]),
        node("Cast", ["size"], ["count"], to=TensorProto.FLOAT),
        node("Range", ["start", "limit", "step"], ["range"]),
        node("Cast", ["range"], ["positions"], to=TensorProto.FLOAT),
        node("Floor", ["positions"], ["floors"]),
        node("Equal", ["range", "three"], ["equal"]),
        node("Where", ["equal", "count", "floors"], ["chosen"]),
        node("Expand", ["chosen", "shape"], ["mask"]),
        node("ConstantOfShape", ["shape"], ["ones"], value=numpy_helper.from_array(np.float32([1]))),
        node("Sub", ["mask", "ones"], ["less"]),
        node("Mul", ["x", "less"], ["y"]),
    ]
    values = {"x": (2, 5), "start": np.array(0), "limit": np.array(5), "step": np.array(1), "three": np.array(3)}
    module = assert_imports_exactly(graph_model(nodes, values, ["y"]))
    assert names(module) == ["nn.mul", "return"]
    np.testing.assert_array_equal(module.constants["less"].array, np.float32([[-1, 0, 1, 9, 3]] * 2))


@pytest.mark.parametrize("opset", [7, 13, 17])
def test_old_forms_of_operators_fold_with_their_own_rules(opset):
    if opset < 13:
        split = node("Split", ["c"], ["a", "b"], split=[1, 2])
        squeeze = node("Squeeze", ["b"], ["s"], axes=[0])
        values = {}
    else:
        split = node("Split", ["c", "sizes"], ["a", "b"])
        squeeze = node("Squeeze", ["b", "axes"], ["s"])
        values = {"sizes": ints(1, 2), "axes": ints(0)}
    unsqueezed = node("Reshape", ["b", "row"], ["r"])
    nodes = [split, unsqueezed, node(squeeze.op_type, ["r", *squeeze.input[1:]], ["s"], **attributes(squeeze))]
    nodes.append(node("Add", ["x", "s"], ["y"]))
    values |= {"x": (2,), "c": np.float32([1, 2, 3]), "row": ints(1, 2)}
    assert names(assert_imports_exactly(graph_model(nodes, values, ["y"], opset=opset))) == ["nn.add", "return"]


def attributes(proto):
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}


def test_integer_inputs_may_be_asked_for_their_shape():
    nodes = [node("Shape", ["ids"], ["shape"]), node("Reshape", ["x", "shape"], ["y"])]
    model = graph_model(nodes, {"x": (6,), "ids": (2, 3)}, ["y"])
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT32
    module = import_model(model)
    assert [str(a.type) for a in module.main.arguments] == ["tensor<6xf32>", "tensor<2x3xi32>"]
    assert names(module) == ["nn.reshape", "return"]


def test_a_model_without_inputs_returns_constants():
    nodes = [node("Constant", [], ["c"], value_floats=[1.0, 2.0]), node("Add", ["c", "c"], ["y"])]
    module = import_model(graph_model(nodes, {}, ["y", "c"]))
    outputs = run(module, {})
    np.testing.assert_array_equal(outputs["y"], np.float32([2, 4]))
    np.testing.assert_array_equal(outputs["c"], np.float32([1, 2]))


def test_outputs_may_be_inputs_and_may_repeat():
    module = import_model(graph_model([node("Identity", ["x"], ["y"]), node("Relu", ["x"], ["z"])], {"x": (2,)}, "xyz"))
    assert module.main.output_names == ("x", "y", "z")
    outputs = run(module, {"x": np.float32([-1, 1])})
    assert [outputs[name].tolist() for name in "xyz"] == [[-1, 1], [-1, 1], [0, 1]]


def test_initializers_listed_as_inputs_are_constants():
    model = node_model("Add", [(2,), np.float32([1, 2])])
    model.graph.input.append(helper.make_tensor_value_info("x1", TensorProto.FLOAT, [2]))
    model.ir_version = 3
    assert [a.name for a in import_model(model).main.arguments] == ["x0"]


def test_shared_weights_become_one_constant():
    weight = np.ones((4, 4, 1, 1), np.float32)
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Conv", ["a", "w"], ["b"]), node("Add", ["b", "w"], ["y"])]
    module = assert_imports_exactly(graph_model(nodes, {"x": (4, 4, 2, 2), "w": weight}, ["y"]))
    assert {name: constant.type.shape for name, constant in module.constants.items()} == {
        "w": (1, 1, 4, 4),
        "w.1": (4, 4, 1, 1),
    }


def test_expensive_operators_on_constants_stay_in_the_graph():
    nodes = [node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2]), node("Add", ["x", "p"], ["y"])]
    values = {"x": (1, 1, 2, 2), "c": np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)}
    assert "nn.max_pool" in names(assert_imports_exactly(graph_model(nodes, values, ["y"])))


def test_functions_of_the_model_are_inlined():
    body = [node("Relu", ["a"], ["b"]), node("Add", ["a", "b"], ["c"])]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "Twice", ["a"], ["c"], body, imports)
    model = graph_model([node("Twice", ["x"], ["y"], domain="local")], {"x": (3,)}, ["y"])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    assert names(assert_imports_exactly(model)) == ["nn.relu", "nn.add", "return"]


def test_an_empty_part_of_a_split_joins_a_concat():
    nodes = [node("Split", ["x", "sizes"], ["a", "b", "unused"], axis=1), node("Concat", ["b", "a"], ["y"], axis=1)]
    values = {"x": (2, 5), "sizes": ints(3, 0, 2)}
    assert names(assert_imports_exactly(graph_model(nodes, values, ["y"]))) == ["nn.slice", "return"]


def test_names_that_the_text_form_cannot_hold():
    nodes = [node("Mul", ["x", 'a "b"\n'], ["t"]), node("Mul", ["t", "a _b__"], ["y"])]
    values = {"x": (2,), 'a "b"\n': np.arange(2, dtype=np.float32), "a _b__": np.ones(2, np.float32)}
    module = import_model(graph_model(nodes, values, ["y"]))
    assert list(module.constants) == ["a _b__", "a _b__.1"]
    text = print_module(module)
    again = parse_module(text, CONTEXT, file="text", constants=elided_constants(module))
    assert print_module(again) == text

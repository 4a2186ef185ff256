"""What users read when a model cannot be imported: one located message each, and one list for all unsupported nodes."""

import random
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from models import NEWEST, graph_model, node_model
from onnx import TensorProto, helper, numpy_helper

from accelc.compiler.importer import import_model, importing
from accelc.compiler.importer.refusals import reason_of
from accelc.compiler.importer.table import find_operator
from accelc.dialects.core.diagnostics import CompileError

IMAGE = (1, 4, 6, 6)
node = helper.make_node


def weights(*shape):
    return np.ones(shape, np.float32)


def ints(*values):
    return np.array(values, np.int64)


HOST_NOTE = re.compile(r"\nnote: --allow-host runs (it|them|\d+ of them) on the host, in float$")


def message(source, **options):
    """The whole text of the error that an import gives, but for the hint at the host, which has a test of its own."""
    with pytest.raises(CompileError) as caught:
        import_model(source, **options)
    assert len(caught.value.diagnostics) == 1
    return HOST_NOTE.sub("", str(caught.value))


KNOWN_ONLY = "the operator is not supported on activations, only on inputs that are known at import"
UNSUPPORTED = [  # one node, and the reason that stands behind its name
    (
        node_model("Hardmax", [(2, 3)]),
        KNOWN_ONLY,
    ),
    (node_model("Gelu", [(2, 3)]), "the operator exists from opset 20 on, the model uses 17"),
    (
        node_model("Frobnicate", [(2, 3)]),
        "the operator is not part of the ONNX standard: the exporter left it as it was, replace the layer it is from",
    ),
    (node_model("Relu", [(2, 3)], domain="com.vendor"), "the operator domain 'com.vendor' is not supported"),
    (
        node_model("RandomNormal", [], shape=[2, 3]),
        "random numbers are not supported: a program gives the same result for the same input",
    ),
    (node_model("Conv", [(1, 2, 3, 4, 5), weights(2, 2, 1, 1, 1)]), "3 spatial axes, expected 1 or 2"),
    (node_model("MaxPool", [IMAGE], outputs=2, kernel_shape=[2, 2]), "the output Indices is not supported"),
    (node_model("Dropout", [IMAGE], outputs=2), "the output mask is not supported"),
    (
        node_model("Dropout", [IMAGE, np.float32(0.5), np.array(True)]),
        "training_mode is true, expected false: export the model in evaluation mode",
    ),
    (
        node_model("BatchNormalization", [IMAGE, *[weights(4)] * 4], training_mode=1, outputs=3),
        "training_mode is 1, expected 0",
    ),
    (node_model("BatchNormalization", [IMAGE, *[weights(4)] * 4], opset=7, spatial=0), "spatial is 0, expected 1"),
    (
        node_model("BatchNormalization", [IMAGE, *[weights(4)] * 4], opset=9, outputs=5),
        "has the outputs of training, expected one output",
    ),
    (node_model("Pow", [(2, 3), (2, 3)]), "the exponent is computed at run time, expected a constant"),
    (
        node_model("Cast", [(2, 3)], to=TensorProto.STRING),
        "casts to a type that no number of a program stands for",
    ),
    (node_model("Add", [(2, 3), ints(1, 2, 3)]), "'x1' is int64, expected float32"),
    (node_model("Slice", [(2, 3), ints(2), ints(2)]), "the result is empty: 2 to 2 of 2 elements of axis 0"),
    (node_model("Slice", [(5,), ints(0), (1,)]), "input 'ends' is computed at run time, expected a constant"),
    (
        node_model("Pad", [(2, 3), ints(0, 0, -2, 0)]),
        "the result is empty: pads [0, 0, -2, 0] remove all of shape [2, 3]",
    ),
    (
        node_model("Pad", [(2, 3), ints(0, 0, 1, 0), np.float32(-np.inf)]),
        "the padding is -inf, expected a finite number",
    ),
    (node_model("Pad", [(2, 3), ints(0, 0, 2**40, 0)]), f"pads [0, 0, {2**40}, 0] are larger than 1048576"),
    (node_model("Gather", [(2, 3), np.zeros((0,), np.int64)]), "the result is empty: no indices"),
    (node_model("Constant", [], value_string="text"), "the value is a string, expected numbers"),
]


@pytest.mark.parametrize(("model", "reason"), UNSUPPORTED, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_unsupported(model, reason):
    op_type = model.graph.node[0].op_type
    assert message(model) == f"error: model: 1 node is not supported\nnote: {op_type} 'node': {reason}"


LOST = [  # what the handler of an operator does not know: anything but the default is refused
    (
        node_model("LayerNormalization", [(2, 3), weights(3), weights(3)], stash_type=TensorProto.FLOAT16),
        "the attribute 'stash_type' is 10, expected 1",
    ),
    (
        node_model("Resize", [IMAGE, None, np.float32([1, 1, 2, 2])], mode="linear", exclude_outside=1),
        "the attribute 'exclude_outside' is 1, expected 0",
    ),
    (
        node_model("QuantizeLinear", [(2, 3), np.float32(0.1), np.int8(0)], opset=23, precision=TensorProto.FLOAT16),
        "the attribute 'precision' is 10, expected 0",
    ),
]


@pytest.mark.parametrize(("model", "reason"), LOST, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_nothing_that_a_handler_does_not_read_is_lost(model, reason):
    assert f"'node': {reason}" in message(model)


def test_an_attribute_or_input_of_an_opset_to_come_is_refused(monkeypatch):
    rows = {
        ("", name): replace(find_operator(name), lower=lambda lowering: lowering.input(0)) for name in ("Gelu", "Add")
    }
    monkeypatch.setattr(importing, "find_operator", lambda name, domain="": rows[domain, name])
    known = node_model("Gelu", [(2, 3)], opset=20, approximate="none")
    assert import_model(known).main.output_names == ("y0",)
    new = node_model("Gelu", [(2, 3)], opset=20, approximate="tanh")
    assert "the attribute 'approximate' is tanh, expected none" in message(new)
    assert "the input 'B' is not supported" in message(node_model("Add", [(2, 3), (2, 3)]))


def test_what_changes_nothing_is_ignored():
    pooled = node_model("MaxPool", [IMAGE], kernel_shape=[2, 2], storage_order=1)
    resized = node_model("Resize", [IMAGE, None, np.float32([1, 1, 2, 2])], mode="nearest", cubic_coeff_a=-0.5)
    for model in (pooled, resized, node_model("Dropout", [IMAGE, np.float32(0.25)], opset=17, seed=3)):
        import_model(model)


def test_the_hint_at_the_host_counts_what_it_would_run():
    nodes = [node("Hardmax", ["x"], ["a"]), node("Frobnicate", ["x"], ["b"]), node("NonZero", ["x"], ["c"])]
    nodes += [node("ReduceProd", ["x"], ["d"]), node("Dropout", ["x"], ["e", "mask"])]
    model = graph_model(nodes, {"x": (2, 3)}, ["a", "b", "c", "d", "mask"])
    with pytest.raises(CompileError, match=r"5 nodes .*\n(note: .*\n){5}note: --allow-host runs 2 of them on the host"):
        import_model(model)
    with pytest.raises(
        CompileError, match=r"3 nodes .*\n.*Frobnicate.*\n.*the size of the result of 'NonZero' depends"
    ):
        import_model(model, allow_host=True)


MALFORMED = [  # one node that contradicts itself, and what is said about it
    (node_model("Flatten", [None]), "input 0 is missing"),
    (node_model("Relu", [(2,)], slope=1.0), "unknown attribute 'slope'"),
    (
        node_model("Relu", [(2,), (2,)]),
        "has 2 inputs, expected 1",
    ),
    (
        node_model("Conv", [IMAGE, weights(2, 3, 1, 1)]),
        "data has 4 channels, weight [2, 3, 1, 1] in 1 groups expects 3",
    ),
    (node_model("Conv", [IMAGE, weights(2, 4, 3)]), "weight has shape [2, 4, 3], expected rank 4"),
    (node_model("Conv", [IMAGE, weights(2, 4, 1, 1), weights(3)]), "bias has shape [3], expected [2]"),
    (
        node_model("Conv", [IMAGE, weights(2, 4, 1, 1)], kernel_shape=[3, 3]),
        "kernel_shape is [3, 3], the weight has [1, 1]",
    ),
    (
        node_model("Conv", [IMAGE, weights(2, 4, 7, 1)]),
        "the window covers 7 elements of axis 2, which has 6",
    ),
    (
        node_model("Conv", [IMAGE, weights(2, 4, 1, 1)], pads=[1, 1]),
        "pads [1, 1] are malformed, expected 4 numbers of at least 0",
    ),
    (
        node_model("Conv", [IMAGE, weights(2, 4, 1, 1)], strides=[1, 0]),
        "strides [1, 0] are malformed, expected 2 numbers of at least 1",
    ),
    (
        node_model("Conv", [IMAGE, weights(2, 4, 1, 1)], auto_pad="SAME"),
        "auto_pad is 'SAME', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID",
    ),
    (
        node_model("MaxPool", [IMAGE], kernel_shape=[2, 2], pads=[2, 0, 0, 0]),
        "pads [2, 0, 0, 0] are not smaller than the window [2, 2]",
    ),
    (node_model("MaxPool", [IMAGE], kernel_shape=[2]), "kernel [2] does not fit data with 2 spatial axes"),
    (node_model("MaxPool", [(2, 3)], kernel_shape=[2]), "data has rank 2, expected at least 3"),
    (node_model("BatchNormalization", [IMAGE, *[weights(3)] * 4]), "scale has shape [3], expected [4]"),
    (node_model("PRelu", [IMAGE, weights(3)]), "slope has shape [3], which does not broadcast to [1, 4, 6, 6]"),
    (node_model("Clip", [(2,), np.float32(np.nan)]), "a bound is NaN"),
    (node_model("Add", [(2, 3), (2, 4)]), "shapes [2, 3] and [2, 4] do not broadcast"),
    (node_model("MatMul", [(2, 3), (2, 4)]), "shapes [2, 3] and [2, 4] do not multiply"),
    (node_model("Gemm", [(2, 3), (2, 4)]), "A has 3 columns, B has 2 rows"),
    (node_model("Gemm", [(2, 3), (1, 2, 4)]), "B has shape [1, 2, 4], expected two axes"),
    (node_model("Gemm", [(2, 3), (3, 4), weights(3)]), "C has shape [3], which does not broadcast to [2, 4]"),
    (node_model("Reshape", [(2, 3), ints(4, -1)]), "6 elements of shape [2, 3] cannot take the shape [4, -1]"),
    (
        node_model("Reshape", [(2, 3), ints(2, 3, 0)]),
        "shape [2, 3, 0] copies an axis that data of shape [2, 3] does not have",
    ),
    (node_model("Flatten", [(2, 3)], axis=3), "axis 3 is out of range for a tensor of rank 2"),
    (node_model("Squeeze", [(2, 3), ints(1)]), "axis 1 has size 3, expected 1"),
    (node_model("Unsqueeze", [(2, 3), ints(1, 1)]), "axes [1, 1] name an axis twice"),
    (node_model("Transpose", [(2, 3)], perm=[0, 0]), "perm [0, 0] does not order the axes of a tensor of rank 2"),
    (node_model("Concat", [(2, 3), (3, 3)], axis=1), "input 1 has shape [3, 3], which does not join [2, 3] on axis 1"),
    (
        node_model("Split", [(5,), ints(2, 2)], outputs=2),
        "sizes [2, 2] do not split 5 elements of axis 0 into 2 outputs",
    ),
    (node_model("Split", [(5,)], outputs=2), "5 elements of axis 0 do not split into 2 equal parts"),
    (
        node_model("Slice", [(5,), ints(0, 1), ints(2)]),
        "2 starts, 1 ends, 2 axes and 2 steps do not fit a tensor of rank 1",
    ),
    (node_model("Slice", [(5,), ints(0), ints(2), ints(0), ints(0)]), "a step is 0"),
    (node_model("Slice", [(5,), ints(0), ints(2), ints(1)]), "axis 1 is out of range for a tensor of rank 1"),
    (node_model("Pad", [(5,), ints(0)]), "1 pads, expected 2"),
    (node_model("Pad", [(5,), ints(0, 5)], mode="reflect"), "reflects 5 elements of axis 0, which has 5"),
    (node_model("Gather", [(5,), ints(5)]), "index 5 is out of range for axis 0 of size 5"),
    (node_model("LRN", [IMAGE], size=0), "size is 0, expected at least 1"),
    (node_model("Mul", [(2,), np.float32([1, np.nan])]), "constant 'x1' holds nan at [1]"),
    (node_model("Conv", [IMAGE, weights(1, 4, 1, 1) * np.inf]), "constant 'x1' holds inf at [0, 0, 0, 0]"),
    (
        node_model("ConstantOfShape", [ints(2**20, 2**20)]),
        "the result on constants would have 1.1e+12 elements, at most 268435456 are accepted",
    ),
]


@pytest.mark.parametrize(("model", "fault"), MALFORMED, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_malformed(model, fault):
    op_type = model.graph.node[0].op_type
    assert message(model) == f"error: '{op_type}': {fault}\nnote: from ONNX node 'node'"


EMPTY = helper.make_graph([], "empty", [], [])


def test_all_unsupported_nodes_are_listed_and_nothing_that_only_follows_from_them():
    nodes = [
        node("Hardmax", ["x"], ["a"]),
        node("Conv", ["a", "w"], ["b"], name="conv"),
        node("MaxPool", ["b"], ["c", "indices"], kernel_shape=[2, 2], name="pool"),
        node("Shrink", ["c"], ["d"]),
        node("Reshape", ["d", "indices"], ["e"], name="reshape"),
        node("Fancy", ["e"], ["f"], domain="com.vendor", name="fancy"),
        node("Relu", ["f"], ["g"]),
        node("If", ["x"], ["h"], name="if", then_branch=EMPTY, else_branch=EMPTY),
        node("Sum", ["g", "h"], ["y"]),
        node("Hardmax", ["x"], ["unused"], name="unused"),
    ]
    assert message(graph_model(nodes, {"x": IMAGE, "w": weights(2, 4, 1, 1)}, ["y"])).splitlines() == [
        "error: model: 5 nodes are not supported",
        "note: Hardmax 'Hardmax:a': " + KNOWN_ONLY,
        "note: MaxPool 'pool': the output Indices is not supported",
        "note: Shrink 'Shrink:d': " + KNOWN_ONLY,
        "note: Fancy 'fancy': the operator domain 'com.vendor' is not supported",
        "note: If 'if': control flow is not supported where the condition is computed at run time; --input-value makes "
        "an input that decides it a constant",
    ]


def test_a_graph_for_every_tensor_of_a_sequence_is_refused_by_name():
    assert message(node_model("SequenceMap", [np.array(True)], body=EMPTY)).endswith(
        "note: SequenceMap 'node': " + reason_of("SequenceMap")
    )


def test_opsets_outside_the_range_are_refused_with_the_range():
    for opset in (6, NEWEST + 1):
        text = message(node_model("Relu", [(2,)], opset=opset))
        assert text == f"error: model: opset {opset} is not supported, expected 7 to {NEWEST}"
    model = node_model("Relu", [(2,)])
    model.ClearField("opset_import")
    assert message(model) == f"error: model: opset 1 is not supported, expected 7 to {NEWEST}"


# graphs


def test_a_cycle_is_named():
    nodes = [
        node("Add", ["x", "c"], ["a"], name="first"),
        node("Relu", ["a"], ["b"], name="second"),
        node("Neg", ["b"], ["c"], name="third"),
        node("Relu", ["c"], ["y"], name="last"),
    ]
    text = message(graph_model(nodes, {"x": (2,)}, ["y"]))
    assert text == "error: 'Add': depends on itself: second -> third -> first -> second\nnote: from ONNX node 'first'"


def test_nodes_out_of_order_are_sorted():
    nodes = [node("Relu", ["b"], ["y"]), node("Tanh", ["a"], ["b"]), node("Sigmoid", ["x"], ["a"])]
    module = import_model(graph_model(nodes, {"x": (2,)}, ["y"]))
    assert [op.name for op in module.walk()] == ["nn.sigmoid", "nn.tanh", "nn.relu", "return"]


GRAPHS = [
    ([node("Relu", ["z"], ["y"])], "'Relu': reads 'z', which nothing defines\nnote: from ONNX node 'Relu:y'"),
    ([node("Relu", ["x"], ["z"])], "model: output 'y' is not defined by any node"),
    (
        [node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])],
        "'Tanh': defines 'y', which node 'Relu:y' defines already\nnote: from ONNX node 'Tanh:y'",
    ),
    (
        [node("Relu", ["x"], ["x"])],
        "'Relu': defines 'x', which is an input or initializer of the model\nnote: from ONNX node 'Relu:x'",
    ),
]


@pytest.mark.parametrize(("nodes", "fault"), GRAPHS)
def test_a_graph_that_does_not_hang_together(nodes, fault):
    assert message(graph_model(nodes, {"x": (2,)}, ["y"])) == f"error: {fault}"


def test_a_model_without_outputs():
    assert message(graph_model([], {"x": (2,)}, [])) == "error: model: the graph has no outputs"


# inputs


def with_input_type(data_type, op_type="Relu"):
    model = node_model(op_type, [(2, 3)])
    model.graph.input[0].type.tensor_type.elem_type = data_type
    return model


def test_inputs_of_another_float_type():
    text = message(with_input_type(TensorProto.BFLOAT16))
    assert text == "error: model: input 'x0' is bfloat16, expected float32\nnote: convert the model to float32"


def test_inputs_of_other_types():
    assert message(with_input_type(TensorProto.STRING)) == "error: model: input 'x0' is string, expected float32"
    assert message(with_input_type(TensorProto.INT64, "Sigmoid")) == (
        "error: model: 1 node is not supported\nnote: Sigmoid 'node': reads 'x0', which is int64, expected float32"
    )
    model = node_model("Relu", [(2, 3)])
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(model.graph.input[0].type))
    assert message(model) == "error: model: input 'x0' is sequence_type, expected a tensor"


def test_input_names_that_the_text_form_cannot_hold():
    model = graph_model([node("Relu", ['a"b'], ["y"])], {'a"b': (2,)}, ["y"])
    assert message(model) == """error: model: input 'a"b' has a quote or control character in its name"""


# files


def test_files_that_are_no_model(tmp_path):
    path = tmp_path / "model.onnx"
    assert message(path) == f"error: {path}: cannot be read: No such file or directory"
    assert message(tmp_path) == f"error: {tmp_path}: cannot be read: Is a directory"
    path.write_bytes(b"")
    assert message(path) == f"error: {path}: not an ONNX model: it is empty"
    path.write_bytes(b"# a text\n" * 9)
    assert message(path) == f"error: {path}: not an ONNX model, or a damaged one: it cannot be decoded"
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    assert message(path) == f"error: {path}: not an ONNX model: it has no graph"
    path.write_bytes(node_model("Relu", [(2,)]).SerializeToString()[:-9])
    assert message(path) == f"error: {path}: not an ONNX model, or a damaged one: it cannot be decoded"


def test_a_tensor_of_the_wrong_size():
    model = node_model("Add", [(2, 2), weights(2, 2)])
    model.graph.initializer[0].dims[0] = 3
    expected = "error: model: tensor 'x1' is damaged: its shape [3, 2] takes 24 bytes, it has 16"
    assert message(model) == expected


def test_mutated_files_are_imported_or_refused():
    models = [model for model, _ in UNSUPPORTED + MALFORMED] + [
        node_model("Conv", [IMAGE, weights(2, 4, 3, 3)], pads=[1, 1, 1, 1]),
        node_model("AveragePool", [IMAGE], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node_model("Gather", [IMAGE, ints(1, 0)], axis=1),
    ]
    originals = [model.SerializeToString() for model in models]
    generator = random.Random(5)
    refused = 0
    for _ in range(1500):
        data = bytearray(generator.choice(originals))
        for _ in range(generator.choice((1, 1, 3))):
            place = generator.randrange(len(data))
            data[place] = generator.choice((data[place] ^ 1 << generator.randrange(8), generator.randrange(256)))
        try:
            import_model(bytes(data))
        except CompileError:
            refused += 1
    assert refused > 1000


# external data


def external_model(tmp_path, location, **entries):
    model = node_model("Add", [(2, 2), weights(2, 2)])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_read(tmp_path):
    module = import_model(external_model(tmp_path, "weights.bin", offset=8, length=16))
    np.testing.assert_array_equal(module.constants["x1"].array, np.float32([[2, 3], [4, 5]]))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path, location):
    path = external_model(tmp_path, location)
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    expected = f"error: {path}: tensor 'x1' has its data in '{location}', which is outside the folder of the model"
    assert message(path) == expected


def test_external_data_that_is_missing_or_short(tmp_path):
    path = external_model(tmp_path, "other.bin")
    start = f"error: {path}: tensor 'x1'"
    assert message(path) == f"{start} has its data in 'other.bin', which does not exist beside the model"
    external_model(tmp_path, "weights.bin", offset=20)
    assert message(path) == f"{start} needs 16 bytes at offset 20 of 'weights.bin' (declared length 0), which has 32"
    external_model(tmp_path, "weights.bin", offset="x")
    assert message(path).startswith(f"{start} has unreadable external data entries: invalid literal")
    assert message(onnx.load(path, load_external_data=False)) == (
        "error: model: tensor 'x1' has its data in the file 'weights.bin', import the model by its path to read it"
    )


def test_sparse_initializers():
    model = node_model("Add", [(2, 2)])
    model.graph.node[0].input.append("s")
    values = numpy_helper.from_array(np.float32([5, 6]), "s")
    indices = numpy_helper.from_array(ints(1, 2), "s.indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 2]))
    np.testing.assert_array_equal(import_model(model).constants["s"].array, np.float32([[0, 5], [6, 0]]))
    model.graph.sparse_initializer[0].dims[:] = [2, 2**40]
    expected = f"the sparse tensors have {2**41} elements in all, at most 268435456 are accepted"
    assert message(model) == f"error: model: {expected}"

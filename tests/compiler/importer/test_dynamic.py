"""Products that were quantized dynamically come in as float products with the stored weights."""

import numpy as np
import onnx
import pytest
from models import graph_model
from onnx import TensorProto, helper, numpy_helper
from reference import reference_outputs

from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run

RNG = np.random.default_rng(0)
DENSE = RNG.integers(-127, 128, (8, 6)).astype(np.int8)
KERNEL = RNG.integers(0, 256, (4, 2, 3, 3)).astype(np.uint8)


def dynamic_model(product, weight, offset, scale, shape, outputs=("y",), **attributes):
    """X -> relu -> dynamically quantized product -> bias of 1."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("DynamicQuantizeLinear", ["r"], ["q", "s", "z"], name="scales"),
        helper.make_node(product, ["q", "w", "z", "wz"], ["p"], name="product", **attributes),
        helper.make_node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["m"]),
        helper.make_node("Add", ["m", "one"], ["y"]),
    ]
    constants = {"w": weight, "wz": offset, "ws": scale, "one": np.ones(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("product", "weight", "offset", "scale", "shape", "attributes"),
    [
        ("MatMulInteger", DENSE, np.zeros(6, np.int8), np.linspace(0.01, 0.03, 6, dtype=np.float32), [2, 8], {}),
        ("MatMulInteger", DENSE, np.int8(5), np.float32(0.02), [1, 3, 8], {}),
        (
            "ConvInteger",
            KERNEL,
            np.uint8(117),
            np.float32(0.01),
            [1, 2, 7, 7],
            {"pads": [1, 1, 1, 1], "strides": [2, 2]},
        ),
    ],
)
def test_a_product_is_a_float_one_with_the_stored_weights(product, weight, offset, scale, shape, attributes):
    offset, scale = np.asarray(offset), np.asarray(scale)
    model = dynamic_model(product, weight, offset, scale, shape, **attributes)
    module = import_model(model)
    x = RNG.standard_normal(shape).astype(np.float32)
    (found,), (expected,) = run(module, {"x": x}).values(), reference_outputs(model, {"x": x}).values()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()  # the rounding of the activations


def test_a_product_of_two_activations_is_one_of_reals():
    """The scores of attention, by the product of both scales."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[1, 0]),
        helper.make_node("MatMulInteger", ["q", "t", "z", "z"], ["p"]),
        helper.make_node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "s"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    module = import_model(graph_model(nodes, {"x": (3, 4)}, ["y"]))
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_allclose(*run(module, {"x": x}).values(), x @ x.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", ["s", "q", "p", "both", "f", "z"])
def test_outputs_at_a_scale_of_the_run_are_refused(output):
    model = dynamic_model(
        "MatMulInteger", DENSE, np.array(0, np.int8), np.array(0.02, np.float32), [2, 8], ("y", output)
    )
    with pytest.raises(
        CompileError, match=f"'{output}' (is an output, whose|has a) scale (that )?depends on the data of a run"
    ):
        import_model(model)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("Add", ["f", "one"]),
        ("Mul", ["f", "one"]),
        ("Mul", ["f", "f"]),
        ("Relu", ["f"]),
        ("Exp", ["s"]),
        ("Identity", ["f", "f"]),
        ("Sub", ["q", "z"]),
        ("Concat", ["s", "one"]),
    ],
)
def test_whatever_depends_on_the_scale_is_refused(kind, inputs):
    model = dynamic_model("MatMulInteger", DENSE, np.array(0, np.int8), np.array(0.02, np.float32), [2, 8])
    attributes = {"axis": 0} if kind == "Concat" else {}
    model.graph.node.append(
        helper.make_node(kind, inputs[: 1 if kind == "Identity" else 2], ["v"], "reader", **attributes)
    )
    model.graph.output.append(onnx.ValueInfoProto(name="v"))
    with pytest.raises(CompileError, match="scale that depends on the data of a run"):
        import_model(model, allow_host=True)


def test_integers_that_were_quantized_statically_are_refused():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["p"], name="product"),
        helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
    ]
    model = graph_model(nodes, {"x": (2, 8), "s": np.float32(0.1), "z": np.uint8(128), "w": DENSE}, ["y"])
    with pytest.raises(
        CompileError, match="MatMulInteger 'product': reads 'q', expected the integers and zero point of Dyn"
    ):
        import_model(model)

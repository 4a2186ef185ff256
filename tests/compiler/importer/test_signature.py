"""How the inputs of a model get sizes: from the model, the batch, or the shapes that the user gives."""

import pytest
from models import node_model

from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError


def message(source, **options):
    """The whole text of the error that an import gives."""
    with pytest.raises(CompileError) as caught:
        import_model(source, **options)
    return str(caught.value)


def test_symbolic_dimensions():
    assert message(node_model("Relu", [("n", 3, "height")])) == (
        "error: model: input 'x0' has the dynamic dimension 'height' at axis 2, "
        "only the batch (axis 0) has a size without being given one\n"
        "note: give its shape, as in --input-shape 'x0=1,3,N' (from Python: input_shapes), "
        "or export the model with a fixed one"
    )
    assert "as in --input-shape 'x0=2,3,N'" in message(node_model("Relu", [(2, 3, "height")]))
    model = node_model("Relu", [(1, 3)])
    model.graph.input[0].type.tensor_type.shape.dim[1].ClearField("value")
    assert "input 'x0' has an unnamed dynamic dimension at axis 1" in message(model)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert message(model).startswith("error: model: input 'x0' has no shape\n")


def test_given_shapes_settle_symbolic_dimensions():
    model = node_model("Add", [("n", 3, "height"), ("n", 1, "height")])
    module = import_model(model, input_shapes={"x0": (2, 3, 8)})
    assert [argument.type.shape for argument in module.main.arguments] == [(2, 3, 8), (2, 1, 8)]
    module = import_model(model, batch=2, input_shapes={"x0": (2, 3, 8)})
    assert module.main.result_types[0].shape == (2, 3, 8)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert import_model(model, input_shapes={"x0": (2, 3, 8), "x1": (2, 1, 8)}).main.arguments[0].type.shape == (
        2,
        3,
        8,
    )


def test_one_name_has_one_size():
    text = "the shape [2, 3] given for input 'x0' makes dimension 'n' 3, which is 2 elsewhere"
    assert message(node_model("Relu", [("n", "n")]), input_shapes={"x0": (2, 3)}) == f"error: model: {text}"


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (
            {"x2": (1, 3)},
            "the shape [1, 3] is given for input 'x2', which the model does not have; its inputs: 'x0', 'x1'",
        ),
        ({"x0": (2, 4, 8)}, "the shape [2, 4, 8] is given for input 'x0', the model has [n, 3, height]"),
        ({"x0": (2, 3)}, "the shape [2, 3] is given for input 'x0', the model has [n, 3, height]"),
        ({"x0": (2, 3, 0)}, "the shape [2, 3, 0] is given for input 'x0', expected sizes of at least 1"),
        (
            {"x0": (2, 3, 2.5)},
            "the shape (2, 3, 2.5) is given for input 'x0', expected whole numbers, as in (1, 3, 224, 224)",
        ),
        (
            {"x0": "2,3,8"},
            "the shape '2,3,8' is given for input 'x0', expected whole numbers, as in (1, 3, 224, 224)",
        ),
        ({"x0": 3}, "the shape 3 is given for input 'x0', expected whole numbers, as in (1, 3, 224, 224)"),
        (
            {"x0": (2, 3, 8), "x1": (2, 1, 9)},
            "the shape [2, 1, 9] given for input 'x1' makes dimension 'height' 9, which is 8 elsewhere",
        ),
    ],
)
def test_shapes_that_do_not_fit(shapes, text):
    model = node_model("Add", [("n", 3, "height"), ("n", 1, "height")])
    assert message(model, input_shapes=shapes) == f"error: model: {text}"


def test_batches():
    model = node_model("Relu", [("n", 3)])
    assert message(model, batch=4, input_shapes={"x0": (2, 3)}) == (
        "error: model: the batch of input 'x0' is given as 2, it cannot be 4"
    )
    fixed = node_model("Relu", [(4, 3)])
    assert message(fixed, batch=2) == "error: model: the batch of input 'x0' is fixed at 4, it cannot be 2"
    assert message(fixed, batch=0) == "error: the batch is 0, expected at least 1"
    assert import_model(fixed).main.arguments[0].type.shape == (4, 3)
    assert import_model(fixed, batch=4).main.arguments[0].type.shape == (4, 3)
    assert message(node_model("Relu", [(2, 0)])) == "error: model: input 'x0' is empty: its shape is [2, 0]"

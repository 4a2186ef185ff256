"""LSTM, GRU and RNN: every form against onnxruntime or the evaluator of the onnx package, and what is refused."""

import numpy as np
import onnx
import pytest
from models import node_model
from onnx.reference import ReferenceEvaluator
from reference import assert_close, assert_imports_exactly, random_inputs

from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run

RNG = np.random.default_rng(5)
STEPS, ROWS, WIDTH, HIDDEN = 4, 2, 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SEQUENCE = (STEPS, ROWS, WIDTH)


def weights(*shape):
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def layer(kind, *more, directions=1, bias=True, sequence=SEQUENCE, **attributes):
    """A layer of one node with all its outputs; `more` are the inputs behind B."""
    gates = GATES[kind] * HIDDEN
    parameters = [weights(directions, gates, WIDTH), weights(directions, gates, HIDDEN)]
    parameters.append(weights(directions, 2 * gates) if bias else None)
    inputs = [sequence, *parameters, *more]
    return node_model(kind, inputs, outputs=3 if kind == "LSTM" else 2, hidden_size=HIDDEN, **attributes)


STATE = (1, ROWS, HIDDEN)
TWO = {"directions": 2, "direction": "bidirectional"}
LAYERS = {
    "rnn": layer("RNN"),
    "rnn without bias, reverse": layer("RNN", bias=False, direction="reverse"),
    "rnn of relu, both ways": layer("RNN", **TWO, activations=["Relu", "LeakyRelu"], activation_alpha=[0.2]),
    "gru": layer("GRU"),
    "gru that resets last": layer("GRU", linear_before_reset=1),
    "gru that resets last, without bias, reverse": layer("GRU", bias=False, linear_before_reset=1, direction="reverse"),
    "gru, both ways, from given states": layer("GRU", None, (2, ROWS, HIDDEN), linear_before_reset=1, **TWO),
    "gru from a constant state": layer("GRU", None, weights(*STATE)),
    "gru from zeros": layer("GRU", np.full(ROWS, STEPS, np.int32), np.zeros(STATE, np.float32)),
    "lstm": layer("LSTM"),
    "lstm, both ways": layer("LSTM", **TWO),
    "lstm from given states": layer("LSTM", None, STATE, STATE),
    "lstm with peepholes": layer("LSTM", None, None, None, weights(1, 3 * HIDDEN)),
    "lstm with peepholes from constant states": layer(
        "LSTM", None, weights(*STATE), weights(*STATE), weights(1, 3 * HIDDEN), direction="reverse"
    ),
    "lstm of other activations": layer("LSTM", activations=["HardSigmoid", "Softsign", "Elu"], activation_alpha=[0.3]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_written_out_step_by_step(name):
    assert_imports_exactly(LAYERS[name])


@pytest.mark.parametrize("kind", GATES)
def test_samples_may_come_first(kind):
    """Layout 1, which onnxruntime does not have and of whose outputs the evaluator knows the hidden ones."""
    states = [None, (ROWS, 1, HIDDEN)]
    model = layer(kind, *states, sequence=(ROWS, STEPS, WIDTH), layout=1)
    del model.graph.output[2:]
    module = import_model(model)
    inputs = random_inputs(module)
    expected = ReferenceEvaluator(model).run(None, inputs)
    assert_close(run(module, inputs), dict(zip(("y0", "y1"), expected, strict=True)))


def changed(model, index, array):
    """The model with other data in a constant."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    name = model.graph.node[0].input[index]
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (layer("LSTM", np.array([4, 3], np.int32)), r"sequences have lengths \[3, 4\], expected the full 4 steps"),
        (layer("GRU", clip=1.0), "the attribute 'clip' is 1.0, expected none"),
        (layer("LSTM", input_forget=1), "the attribute 'input_forget' is 1, expected 0"),
        (layer("RNN", activations=["Affine"]), "the activation 'Affine' is not supported, expected one of elu"),
        (layer("GRU", activations=["Tanh"]), "1 activations, expected 2"),
        (layer("RNN", direction="both"), "direction is 'both', expected forward, reverse, bidirectional"),
        (layer("RNN", sequence=(1025, 1, WIDTH)), "the sequence has 1025 steps, at most 1024 are written out"),
        (layer("RNN", sequence=(STEPS, WIDTH)), r"X and R have shapes \[4, 3\]"),
        (layer("RNN", None, (ROWS, 1, HIDDEN)), r"initial_h has shape \[2, 1, 5\], expected \[1, 2, 5\]"),
        (changed(layer("GRU"), 1, weights(1, 14, WIDTH)), r"W has shape \[1, 14, 3\], expected \[1, 15, 3\]"),
        (changed(layer("GRU"), 2, weights(1, 15, 4)), "hidden_size is 5, R has 4 columns"),
        (
            node_model("RNN", [SEQUENCE, (1, 5, 3), weights(1, 5, 5)], hidden_size=5),
            "input 'W' is computed at run time",
        ),
    ],
)
def test_what_a_step_cannot_say_is_refused(model, message):
    with pytest.raises(CompileError, match=message):
        import_model(model)

"""Steps of a recurrent layer share what they compute with: it is loaded once, however many there are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelc

HIDDEN, WIDTH = 8, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(kind: str, steps: int) -> onnx.ModelProto:
    random, gates = np.random.default_rng(0), GATES[kind]
    shapes = {"w": (1, gates * HIDDEN, WIDTH), "r": (1, gates * HIDDEN, HIDDEN), "b": (1, 2 * gates * HIDDEN)}
    weights = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        helper.make_node(kind, ["turned", "w", "r", "b"], ["", "y"], hidden_size=HIDDEN, name="layer"),
    ]
    ends = [("x", (1, steps, WIDTH)), ("y", (1, 1, HIDDEN))]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    graph = helper.make_graph(nodes, kind, [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("kind", GATES)
def test_more_steps_load_no_more_constants(kind: str) -> None:
    loads: list[int] = []
    for steps in (3, 5):
        samples = np.random.default_rng(1).normal(size=(24, steps, WIDTH)).astype(np.float32)
        program = accelc.compile(recurrent(kind, steps), calibration={"x": samples}, calibration_method="min-max")
        loads.append(program.report()["dram_bytes"]["read"] - samples[0].size)
    assert loads[0] == loads[1]

"""What exporters make of simple layers: shape arithmetic, layouts and constants in their own habits."""

import numpy as np
import pytest
from models import graph_model
from onnx import TensorProto, helper, numpy_helper
from reference import assert_close, random_inputs, reference_outputs

from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run
from accelc.passes.framework.environment import Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.pipelines import PIPELINES
from accelc.passes.registry import PASSES

RNG = np.random.default_rng(5)
GRAPH = PIPELINES["O2"].split(",rewrite-shuffles")[0]


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def node(op_type, inputs, output, **attributes):
    return helper.make_node(op_type, inputs.split(), output.split(), name=output.split()[0], **attributes)


def constant(name, array):
    return helper.make_node("Constant", [], [name], name=name, value=numpy_helper.from_array(np.asarray(array)))


def arithmetic(nodes, values, output, *, opset=17):
    """Compare with onnxruntime as imported and after the graph passes; the operations that compute, in order."""
    model = graph_model(nodes, values, [output], opset=opset)
    module = import_model(model)
    inputs = random_inputs(module)
    expected = reference_outputs(model, inputs)
    assert_close(run(module, inputs), expected)
    PassManager(parse_pipeline(GRAPH, PASSES)).run(module, Environment())
    assert_close(run(module, inputs), expected)
    moving = ("nn.transpose", "nn.reshape", "nn.slice", "nn.pad", "return")
    return [op.name for op in module.walk() if op.name not in moving]


def test_torch_flattens_by_computed_shapes_and_pads_by_a_chain_of_constants():
    nodes = [
        constant("zeros_shape", ints(4)),
        node("ConstantOfShape", "zeros_shape", "zeros", value=numpy_helper.from_array(ints(0))),
        node("Concat", "sides zeros", "eight", axis=0),
        node("Reshape", "eight minus_two", "pairs"),
        node("Slice", "pairs from to axis0 step", "reversed"),
        node("Transpose", "reversed", "turned", perm=[1, 0]),
        node("Reshape", "turned minus_one", "flat"),
        node("Cast", "flat", "pads", to=TensorProto.INT64),
        node("Pad", "x pads", "padded", mode="constant"),
        node("Conv", "padded w b", "conv", kernel_shape=[3, 3]),
        node("Relu", "conv", "relu"),
        node("Shape", "relu", "shape"),
        constant("zero", np.array(0)),
        node("Gather", "shape zero", "batch", axis=0),
        node("Unsqueeze", "batch axis0", "batch1"),
        node("Concat", "batch1 minus_one", "target", axis=0),
        node("Reshape", "relu target", "rows"),
        node("Gemm", "rows m c", "y", transB=1, alpha=0.5, beta=2.0),
    ]
    values = {"x": (1, 3, 5, 6), "w": weights(4, 3, 3, 3), "b": weights(4), "sides": ints(1, 2, 0, 1)}
    values |= {"minus_two": ints(-1, 2), "minus_one": ints(-1), "axis0": ints(0), "step": ints(-1)}
    values |= {"from": ints(-1), "to": ints(-(2**62)), "m": weights(5, 112), "c": weights(5)}
    assert arithmetic(nodes, values, "y") == ["nn.conv2d", "nn.matmul"]


def test_torch_dynamo_writes_axes_bounds_and_parts_as_inputs():
    nodes = [
        node("Conv", "x w", "conv", group=1),
        node("BatchNormalization", "conv s s s v", "norm"),
        node("Clip", "norm zero six", "clip"),
        node("Split", "clip", "left right", axis=1, num_outputs=2),
        node("Sigmoid", "right", "gate"),
        node("Mul", "left gate", "glu"),
        node("ReduceMean", "glu axes", "mean", keepdims=1),
        node("Reshape", "mean rows", "flat", allowzero=1),
        node("Gemm", "flat m c", "y", transB=1),
    ]
    values = {"x": (1, 3, 5, 6), "w": weights(8, 3, 1, 1), "s": weights(8), "v": RNG.uniform(0.5, 2, 8)}
    values = {name: v.astype(np.float32) if isinstance(v, np.ndarray) else v for name, v in values.items()}
    values |= {"zero": np.float32(0), "six": np.float32(6), "axes": ints(-1, -2), "rows": ints(1, 4)}
    values |= {"m": weights(5, 4), "c": weights(5)}
    assert arithmetic(nodes, values, "y", opset=18) == [
        "nn.conv2d",
        "nn.sigmoid",
        "nn.mul",
        "nn.average_pool",
        "nn.matmul",
    ]


def test_tensorflow_transposes_around_every_layer_and_adds_biases():
    nodes = [
        node("Transpose", "x", "first", perm=[0, 3, 1, 2]),
        node("Pad", "first pads", "padded"),
        node("Conv", "padded w", "conv", strides=[2, 2]),
        node("Transpose", "conv", "back", perm=[0, 2, 3, 1]),
        node("Add", "back bias", "biased"),
        node("Clip", "biased zero six", "relu6"),
        node("Transpose", "relu6", "second", perm=[0, 3, 1, 2]),
        node("Conv", "second d", "depthwise", group=4, auto_pad="SAME_UPPER"),
        node("Mul", "depthwise scale", "scaled"),
        node("Add", "scaled offset", "shifted"),
        node("Relu", "shifted", "relu"),
        node("GlobalAveragePool", "relu", "pool"),
        node("Squeeze", "pool spatial", "flat"),
        node("MatMul", "flat m", "product"),
        node("Add", "product c", "logits"),
        node("Softmax", "logits", "y", axis=-1),
    ]
    values = {"x": (1, 6, 8, 3), "pads": ints(0, 0, 0, 0, 0, 0, 1, 1), "w": weights(4, 3, 3, 3), "bias": weights(4)}
    values |= {"zero": np.float32(0), "six": np.float32(6), "d": weights(4, 1, 3, 3), "scale": weights(1, 4, 1, 1)}
    values |= {"offset": weights(1, 4, 1, 1), "spatial": ints(2, 3), "m": weights(4, 5), "c": weights(5)}
    expected = ["nn.conv2d", "nn.conv2d", "nn.average_pool", "nn.matmul", "nn.softmax"]
    assert arithmetic(nodes, values, "y") == expected


def test_keras_writes_dense_layers_of_attention_as_einsum():
    nodes = [
        node("Einsum", "x wq", "q0", equation="abc,cde->abde"),
        node("Add", "q0 bq", "q"),
        node("Mul", "q scale", "scaled"),
        node("Einsum", "x wk", "k", equation="abc,cde->abde"),
        node("Einsum", "x wv", "v", equation="abc,cde->abde"),
        node("Einsum", "k scaled", "scores", equation="aecd,abcd->acbe"),
        node("Softmax", "scores", "p", axis=-1),
        node("Einsum", "p v", "mixed", equation="acbe,aecd->abcd"),
        node("Einsum", "mixed wo", "y", equation="abcd,cde->abe"),
    ]
    values = {name: weights(6, 2, 4) for name in ("wq", "wk", "wv")}
    values |= {"x": (1, 5, 6), "bq": weights(2, 4), "scale": np.float32(0.5), "wo": weights(2, 4, 6)}
    assert arithmetic(nodes, values, "y") == [*["nn.matmul"] * 4, "nn.softmax", *["nn.matmul"] * 2]


@pytest.mark.parametrize("place", ["first", "after a dense layer", "after a concat"])
def test_batch_normalisation_stands_anywhere(place):
    norm = "s s s v"
    values = {"s": weights(6), "v": RNG.uniform(0.5, 2, 6).astype(np.float32), "w": weights(4, 6, 3, 3)}
    match place:
        case "first":
            nodes = [node("BatchNormalization", f"x {norm}", "n"), node("Conv", "n w", "y")]
            assert arithmetic(nodes, values | {"x": (1, 6, 5, 5)}, "y") == ["nn.conv2d", "nn.conv2d"]
        case "after a dense layer":
            nodes = [node("Gemm", "x m", "g"), node("BatchNormalization", f"g {norm}", "y")]
            assert arithmetic(nodes, {**values, "x": (1, 3), "m": weights(3, 6)}, "y") == ["nn.matmul"]
        case _:
            nodes = [
                node("Concat", "x x", "c", axis=1),
                node("BatchNormalization", f"c {norm}", "n"),
                node("Conv", "n w", "y"),
            ]
            found = arithmetic(nodes, values | {"x": (1, 3, 5, 5)}, "y")
            assert found == ["nn.concat", "nn.conv2d", "nn.conv2d"]


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "ReduceMean", "AveragePool"])
def test_global_pooling_is_one_operation_however_it_is_written(kind):
    options = {"AveragePool": {"kernel_shape": [5, 6]}, "ReduceMean": {"axes": [2, 3]}}.get(kind, {})
    nodes = [node("Conv", "x w", "conv"), node(kind, "conv", "y", **options)]
    values = {"x": (1, 3, 5, 6), "w": weights(4, 3, 1, 1)}
    assert arithmetic(nodes, values, "y") == ["nn.conv2d", "nn.average_pool"]

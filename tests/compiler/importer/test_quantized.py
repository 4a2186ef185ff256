"""Operators of quantized models, one at a time: the imported graph computes what onnxruntime computes."""

import numpy as np
import onnx
import pytest
from models import graph_model
from onnx import helper
from reference import random_inputs, reference_outputs

from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.verifier import verify
from accelc.dialects.quant.ops import DequantizeOp, QuantizeOp, ScaleOp
from accelc.dialects.quant.types import quantized_element

RNG = np.random.default_rng(0)
I8_WEIGHT = RNG.integers(-128, 128, (4, 3, 3, 3), dtype=np.int8)
U8_MATRIX = RNG.integers(0, 256, (6, 5), dtype=np.uint8)


def node(op_type, inputs, output, **attributes):
    return helper.make_node(op_type, inputs.split(), [output], name=f"node_{output}", **attributes)


def quantized_model(nodes, data, shapes=None, *, opset=17, runtime=False):
    """A model whose float inputs are `shapes`, with the tensors `data` beside them, and output `y`."""
    model = graph_model(nodes, {**(shapes or {"x": (1, 3, 5, 5)}), **data}, ["y"], opset=opset)
    if runtime:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def assert_agrees(model, *, steps=0.0):
    """Equal to onnxruntime without optimisations, up to `steps` of the output (ties and float32 sums) in few places."""
    module = import_model(model)
    verify(module)
    inputs = random_inputs(module)
    actual, expected = run(module, inputs)["y"], reference_outputs(model, inputs, optimize=False)["y"]
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=steps + 1e-6)
    assert np.mean(np.abs(actual - expected) > 1e-5) <= 0.01
    return module


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("opset", [10, 13, 21])
def test_conversions_of_activations_keep_scale_and_zero_point(dtype, opset):
    zero_point = np.array(131 if dtype == "uint8" else 3, dtype)
    data = {"s": np.float32(0.02), "z": zero_point}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    module = assert_agrees(quantized_model(nodes, data, opset=opset))
    (quantize,) = (op for op in module.main.body if isinstance(op, QuantizeOp))
    element = quantized_element(quantize.out.type)
    assert (element.scale, element.zero_point) == (float(np.float32(0.02)), 3)


def test_a_division_in_float32_may_be_asked_for():
    nodes = [node("QuantizeLinear", "x s", "q", precision=1), node("DequantizeLinear", "q s", "y")]
    model = quantized_model(nodes, {"s": np.float32(0.02)}, opset=23)
    assert any(isinstance(op, QuantizeOp) for op in import_model(model).main.body)


def test_a_missing_zero_point_is_that_of_uint8_unless_the_type_is_named():
    nodes = [node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q s", "y")]
    module = assert_agrees(quantized_model(nodes, {"s": np.float32(0.02)}))
    assert "!quant.i8<0.019999999552965164:-128>" in str(next(iter(module.main.body)).result.type)
    signed = [node("QuantizeLinear", "x s", "q", output_dtype=3), node("DequantizeLinear", "q s", "y")]
    module = assert_agrees(quantized_model(signed, {"s": np.float32(0.02)}, opset=21))
    assert "!quant.i8<0.019999999552965164:0>" in str(next(iter(module.main.body)).result.type)


@pytest.mark.parametrize("opset", [13, 21])
def test_weights_keep_their_integers_and_the_scales_of_their_axis(opset):
    scales = RNG.uniform(0.01, 0.02, 4).astype(np.float32)
    data = {"w": I8_WEIGHT, "ws": scales, "wz": np.zeros(4, np.int8)}
    data |= {"b": RNG.integers(-999, 999, 4).astype(np.int32), "bs": scales * np.float32(0.02)}
    nodes = [
        node("DequantizeLinear", "w ws wz", "weight", axis=0),
        node("DequantizeLinear", "b bs", "bias", axis=0),
        node("Conv", "x weight bias", "y"),
    ]
    module = assert_agrees(quantized_model(nodes, data, opset=opset))
    weight, bias = (op for op in module.main.body if isinstance(op, ScaleOp))
    np.testing.assert_array_equal(weight.data.array, I8_WEIGHT.transpose(2, 3, 1, 0))
    assert (weight.axis, bias.axis) == (3, 0)
    np.testing.assert_array_equal(bias.data.array, data["b"])


def test_one_scale_is_a_quantized_type_shifted_from_uint8():
    data = {"w": U8_MATRIX, "ws": np.float32(0.01), "wz": np.uint8(120)}
    nodes = [node("DequantizeLinear", "w ws wz", "weight"), node("Gemm", "x weight", "y", alpha=0.5)]
    module = assert_agrees(quantized_model(nodes, data, {"x": (2, 6)}))
    (weight,) = (op for op in module.main.body if isinstance(op, DequantizeOp))
    assert quantized_element(weight.data.type).zero_point == 120 - 128
    np.testing.assert_array_equal(weight.data.array, U8_MATRIX.astype(int) - 128)


def test_moved_weights_keep_their_integers():
    """As PyTorch exports linear layers: the float weight is quantized, dequantized and transposed in the graph."""
    data = {"w": RNG.standard_normal((5, 6)).astype(np.float32), "ws": RNG.uniform(0.01, 0.02, 5).astype(np.float32)}
    data["wz"] = np.zeros(5, np.int8)
    nodes = [
        node("QuantizeLinear", "w ws wz", "wq", axis=0),
        node("DequantizeLinear", "wq ws wz", "wd", axis=0),
        node("Transpose", "wd", "wt", perm=[1, 0]),
        node("MatMul", "x wt", "y"),
    ]
    module = assert_agrees(quantized_model(nodes, data, {"x": (2, 6)}))
    (weight,) = (op for op in module.main.body if isinstance(op, ScaleOp))
    assert weight.data.type.shape == (6, 5)
    assert weight.axis == 1


def activations(prefix, scale, zero_point):
    return {f"{prefix}s": np.float32(scale), f"{prefix}z": np.uint8(zero_point)}


Q = [node("QuantizeLinear", "x xs xz", "q")]
D = [node("DequantizeLinear", "r ys yz", "y")]
IMAGE = activations("x", 0.0213, 120) | activations("y", 0.0517, 131)
WEIGHT = {"w": I8_WEIGHT, "ws": RNG.uniform(0.01, 0.02, 4).astype(np.float32), "wz": np.zeros(4, np.int8)}
MATRIX = {"w": U8_MATRIX, "ws": np.float32(0.01), "wz": np.uint8(120)}
INTEGERS = {"b": RNG.integers(-999, 999, 4).astype(np.int32)}


def test_qlinear_conv():
    conv = node("QLinearConv", "q xs xz w ws wz ys yz b", "r", pads=[1, 1, 1, 1], strides=[2, 2])
    assert_agrees(quantized_model([*Q, conv, *D], IMAGE | WEIGHT | INTEGERS), steps=0.0518)


def test_qlinear_matmul():
    product = node("QLinearMatMul", "q xs xz w ws wz ys yz", "r")
    assert_agrees(quantized_model([*Q, product, *D], IMAGE | MATRIX, {"x": (2, 6)}), steps=0.0518)


CONTRIB = {
    "QLinearAdd": ("q xs xz q xs xz ys yz", {}),
    "QLinearMul": ("q xs xz q xs xz ys yz", {}),
    "QLinearAveragePool": ("q xs xz ys yz", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 0]}),
    "QLinearConcat": ("ys yz q xs xz q xs xz", {"axis": 1}),
    "QLinearGlobalAveragePool": ("q xs xz ys yz", {}),
    "QLinearLeakyRelu": ("q xs xz ys yz", {"alpha": 0.3}),
    "QLinearSigmoid": ("q xs xz ys yz", {}),
    "QLinearSoftmax": ("q xs xz ys yz", {"axis": 1, "opset": 13}),
}


@pytest.mark.parametrize("op_type", CONTRIB)
def test_operators_of_onnxruntime(op_type):
    inputs, attributes = CONTRIB[op_type]
    operator = node(op_type, inputs, "r", domain="com.microsoft", **attributes)
    data = IMAGE | activations("y", 1 / 256, 0) if op_type == "QLinearSoftmax" else IMAGE
    assert_agrees(quantized_model([*Q, operator, *D], data, runtime=True), steps=0.0518)


def test_qgemm_with_and_without_a_quantized_result():
    data = IMAGE | MATRIX | {"b": RNG.integers(-999, 999, 5).astype(np.int32)}
    inputs = ["q", "xs", "xz", "w", "ws", "wz", "b", "ys", "yz"]
    product = helper.make_node("QGemm", inputs, ["r"], "gemm", domain="com.microsoft", alpha=1.0)
    assert_agrees(quantized_model([*Q, product, *D], data, {"x": (2, 6)}, runtime=True), steps=0.0518)
    real = helper.make_node("QGemm", inputs[:7], ["y"], "gemm", domain="com.microsoft", alpha=1.0)
    assert_agrees(quantized_model([*Q, real], data, {"x": (2, 6)}, runtime=True))


@pytest.mark.parametrize("op_type", ["Transpose", "MaxPool", "Concat", "Identity", "Pad"])
def test_integers_may_be_moved_before_they_are_dequantized(op_type):
    attributes = {"MaxPool": {"kernel_shape": [2, 2]}, "Concat": {"axis": 1}, "Pad": {"mode": "constant"}}
    inputs = {"Concat": "q q", "Pad": "q p v"}.get(op_type, "q")
    data = IMAGE | {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "v": np.uint8(120)}
    nodes = [*Q, node(op_type, inputs, "r", **attributes.get(op_type, {})), node("DequantizeLinear", "r xs xz", "y")]
    assert_agrees(quantized_model(nodes, data))


def test_four_bit_weights():
    data = {"ws": np.float32(0.1)}
    nodes = [node("DequantizeLinear", "w ws", "weight"), node("MatMul", "x weight", "y")]
    model = quantized_model(nodes, data, {"x": (2, 2)}, opset=21)
    model.graph.initializer.append(helper.make_tensor("w", onnx.TensorProto.INT4, [2, 2], [-8, 7, 3, -1]))
    assert_agrees(model)


def refusal(nodes, data, shapes=None, *, opset=17):
    with pytest.raises(CompileError) as caught:
        import_model(quantized_model(nodes, data, shapes, opset=opset))
    return str(caught.value)


def test_dynamic_products_of_onnxruntime_are_refused_by_name():
    nodes = [helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["y"], "dynamic", domain="com.microsoft")]
    message = refusal(nodes, {"w": I8_WEIGHT, "s": np.float32(1)})
    assert "DynamicQuantizeMatMul 'dynamic': its scales depend on the data of a run: give the float model" in message


def test_what_is_refused_says_why():
    three = {"s": np.float32([0.1, 0.2, 0.3]), "z": np.zeros(3, np.int8)}
    channels = [node("QuantizeLinear", "x s z", "q", axis=1), node("DequantizeLinear", "q s z", "y", axis=1)]
    assert "3 scales of an activation, expected one for the whole tensor" in refusal(channels, three)
    other = [*Q, node("DequantizeLinear", "q ys yz", "y")]
    expected = "expected the scale and zero point that it was made with"
    assert expected in refusal(other, IMAGE)
    blocks = [node("DequantizeLinear", "w ws", "weight", block_size=2, axis=0), node("MatMul", "x weight", "y")]
    data = {"w": U8_MATRIX, "ws": np.ones((3, 5), np.float32)}
    assert "block_size is given" in refusal(blocks, data, {"x": (2, 6)}, opset=21)
    wide = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    assert "zero point is 5, expected 0 for i16" in refusal(wide, {"s": np.float32(0.1), "z": np.int16(5)}, opset=21)
    scales = [node("DequantizeLinear", "w ws", "weight", axis=1), node("MatMul", "x weight", "y")]
    message = refusal(scales, {"w": U8_MATRIX, "ws": np.ones(6, np.float32)}, {"x": (2, 6)})
    assert "scales and zero points do not fit 'w': shape [6] on axis 1 of [6, 5]" in message
    assert "node_weight" in message


def test_an_input_of_integers_is_refused():
    model = quantized_model([node("DequantizeLinear", "i s", "y")], {"s": np.float32(0.1)}, {})
    model.graph.input.append(helper.make_tensor_value_info("i", onnx.TensorProto.UINT8, [1, 4]))
    with pytest.raises(CompileError, match="reads 'i', an input of type u8, expected the result of QuantizeLinear"):
        import_model(model)


def test_a_shared_weight_is_stored_once():
    data = {"w": RNG.integers(-9, 9, (6, 6), dtype=np.int8), "ws": np.float32(0.1)}
    nodes = [
        node("DequantizeLinear", "w ws", "weight"),
        node("MatMul", "x weight", "h"),
        node("MatMul", "h weight", "y"),
    ]
    module = assert_agrees(quantized_model(nodes, data, {"x": (2, 6)}))
    assert len(module.constants) == 1

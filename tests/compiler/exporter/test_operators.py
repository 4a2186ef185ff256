"""Single operations in the exported model, and what cannot be exported."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from reference import reference_outputs

from accelc.compiler.cli import run_cli
from accelc.compiler.exporter import export_model
from accelc.compiler.exporter.products import weight_scales
from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.parser import parse_module
from accelc.dialects.quant.arithmetic import fixed_point
from accelc.dialects.quant.tables import softmax_table
from accelc.dialects.registry import CONTEXT
from accelc.passes.canonicalize import Canonicalize
from accelc.passes.fold_qdq import FoldQdq
from accelc.passes.framework.environment import CalibrationData, Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.pipelines import PIPELINES
from accelc.passes.quantization.legality import float_operations
from accelc.passes.registry import PASSES

TABLE = """
const @table : tensor<256xi8> = dense<{entries}>
func @main(%x: tensor<1x2x3xf32>) -> tensor<1x2x3xf32> {{
  %0 = quant.quantize %x : tensor<1x2x3xf32> -> tensor<1x2x3x!quant.i8<0.0625:3>>
  %1 = quant.lookup %0, @table : (tensor<1x2x3x!quant.i8<0.0625:3>>, tensor<256xi8>) -> tensor<1x2x3x!quant.i8<0.25:-7>>
  %2 = quant.dequantize %1 : tensor<1x2x3x!quant.i8<0.25:-7>> -> tensor<1x2x3xf32>
  return %2 : tensor<1x2x3xf32> -> ()
}}
"""


def test_a_table_is_a_function_of_the_model_and_exact():
    table = np.random.default_rng(0).permutation(256) - 128
    module = parse_module(TABLE.format(entries=table.tolist()), CONTEXT)
    proto = export_model(module)
    onnx.checker.check_model(proto)
    assert [(function.domain, function.name) for function in proto.functions] == [("accelc", "Lookup")]
    inputs = {"x": np.random.default_rng(1).standard_normal((1, 2, 3)).astype(np.float32)}
    (actual,), (expected,) = run(module, inputs).values(), reference_outputs(proto, inputs, optimize=False).values()
    np.testing.assert_array_equal(actual, expected)


def test_scales_of_weights_give_the_multipliers_of_the_factors_again():
    rng = np.random.default_rng(0)
    factors = np.exp(rng.uniform(-12, 2, 5000)).astype(np.float32)
    for data, result in ((0.0123, 0.7), (1.0, 1.0), (3.3e-5, 0.2)):
        data, result = float(np.float32(data)), float(np.float32(result))
        scales = weight_scales(factors, data, result)
        assert scales.dtype == np.float32
        again = (data * scales.astype(np.float64) / result).astype(np.float32)
        for wanted, found in zip(fixed_point(factors), fixed_point(again), strict=True):
            np.testing.assert_array_equal(wanted, found)


def test_what_has_no_form_is_listed():
    text = """
func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %0 = nn.relu %x : tensor<1x4xf32> -> tensor<1x4xf32> loc("one")
  %1 = nn.sigmoid %0 : tensor<1x4xf32> -> tensor<1x4xf32> loc("two")
  return %1 : tensor<1x4xf32> -> ()
}
"""
    with pytest.raises(CompileError) as caught:
        export_model(parse_module(text, CONTEXT))
    assert "'nn.relu': has no form in ONNX" in str(caught.value)
    assert "'nn.sigmoid': has no form in ONNX" in str(caught.value)
    assert len(caught.value.diagnostics) == 2


def test_the_command_writes_a_model(tmp_path, capsys):
    target = tmp_path / "digits.onnx"
    assert run_cli(["examples/models/digits_cnn.onnx", "--emit=onnx", "-o", str(target)]) == 0
    model = onnx.load(target)
    onnx.checker.check_model(model)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    assert [each.name for each in model.graph.input] == ["input"]
    assert run_cli(["examples/models/digits_cnn.onnx", "--emit=onnx"]) == 2
    assert "--emit=onnx is given without -o FILE" in capsys.readouterr().err


TYPES = {
    "left": "tensor<1x3x8x!quant.i8<0.0625:3>>",
    "right": "tensor<1x4x8x!quant.i8<0.03125:-5>>",
    "scores": "tensor<1x3x4x!quant.i8<0.25:10>>",
    "shares": "tensor<1x3x4x!quant.i8<0.00390625:-128>>",
    "more": "tensor<1x2x4x!quant.i8<0.00390625:-128>>",
    "all": "tensor<1x5x4x!quant.i8<0.00390625:-128>>",
}
SCORES = """
const @f : tensor<1xf32> = dense<{factor}>
const @table : tensor<256xi32> = dense<{table}>
const @mask : tensor<3x4xi8> = dense<[1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0]>
const @more : {more} = dense<7>
func @main(%x: tensor<1x3x8xf32>, %y: tensor<1x4x8xf32>) -> tensor<1x5x4xf32> {{
  %0 = quant.quantize %x : tensor<1x3x8xf32> -> {left}
  %1 = quant.quantize %y : tensor<1x4x8xf32> -> {right}
  %2 = nn.matmul %0, %1 {{transpose_rhs = true}} : ({left}, {right}) -> tensor<1x3x4xi32>
  %3 = quant.requantize %2, @f : (tensor<1x3x4xi32>, tensor<1xf32>) -> {scores}
  %4 = nn.masked_softmax %3, @mask, @table : ({scores}, tensor<3x4xi8>, tensor<256xi32>) -> {shares}
  %5 = nn.concat %4, @more {{axis = 1}} : ({shares}, {more}) -> {all}
  %6 = quant.dequantize %5 : {all} -> tensor<1x5x4xf32>
  return %6 : tensor<1x5x4xf32> -> ()
}}
"""


def test_scaled_and_masked_scores_come_back_as_the_same_integers():
    table = softmax_table(0.25, 4)
    module = parse_module(SCORES.format(factor=0.00123, table=table.tolist(), **TYPES), CONTEXT)
    proto = export_model(module)
    onnx.checker.check_model(proto)
    assert [node.op_type for node in proto.graph.node].count("Mul") == 1
    rng = np.random.default_rng(1)
    inputs = {name: rng.standard_normal((1, n, 8)).astype(np.float32) for name, n in (("x", 3), ("y", 4))}
    (expected,), (actual,) = run(module, inputs).values(), reference_outputs(proto, inputs, optimize=False).values()
    assert np.abs(actual - expected).max() <= 1.01 / 256
    again = import_model(proto)
    PassManager([Canonicalize(), FoldQdq()]).run(again, Environment())
    assert not float_operations(again.main)
    np.testing.assert_array_equal(*run(again, inputs).values(), expected)


@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_embeddings_root_mean_squares_and_indices_run_in_onnxruntime(precision):
    rng = np.random.default_rng(3)
    weight, gain = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 8), (8,)))
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("RMSNormalization", ["rows", "gain"], ["normal"], axis=-1),
        helper.make_node("Tanh", ["normal"], ["bent"]),
        helper.make_node("Pad", ["bent", "pads"], ["wide"]),
        helper.make_node("ReduceMean", ["wide", "axes"], ["mean"], keepdims=0),
        helper.make_node("ArgMax", ["mean"], ["best"], axis=-1, keepdims=0),
    ]
    constants = {"table": weight, "gain": gain, "pads": np.array([0, 0, 1, 0, 0, 0]), "axes": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 5])],
        [
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 9]),
            helper.make_tensor_value_info("best", TensorProto.INT64, [1]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    inputs = {"ids": np.array([[3, 8, 0, 1, 3]], np.int64)}
    module = import_model(model)
    passes = parse_pipeline(PIPELINES["O1"].partition(",lower-to-tile")[0], PASSES)
    PassManager(passes).run(module, Environment(calibration=CalibrationData(inputs), precision=precision))
    proto = export_model(module)
    onnx.checker.check_model(proto)
    assert proto.opset_import[0].version == (17 if precision == "int8" else 21)
    expected, actual = run(module, inputs), reference_outputs(proto, inputs, optimize=False)
    step = np.abs(expected["mean"]).max() / (127 if precision == "int8" else 32767)
    assert np.abs(actual["mean"] - expected["mean"]).max() <= 2.1 * step
    np.testing.assert_array_equal(actual["best"], expected["best"])

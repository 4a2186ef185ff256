"""Single operations in the exported model, and what cannot be exported."""

import numpy as np
import onnx
import pytest
from reference import reference_outputs

from accelc.compiler.cli import run_cli
from accelc.compiler.exporter import export_model
from accelc.compiler.exporter.operators import weight_scales
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.parser import parse_module
from accelc.dialects.quant.arithmetic import fixed_point
from accelc.dialects.registry import CONTEXT

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

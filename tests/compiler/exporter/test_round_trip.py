"""Exported models: onnxruntime runs them, and imported again they are the same integers."""

import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
from endtoend.networks import DIGITS, network
from hypothesis import HealthCheck, given, settings
from machine.networks import EXPRESSIBLE, networks
from machine.quantized import QuantizedNetwork
from models import shared_model
from reference import reference_outputs

import accelc
from accelc.backends.target import load_target
from accelc.compiler.driver import EXPORT, Settings, compile_module
from accelc.compiler.exporter import export_model
from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.types import TensorType
from accelc.dialects.core.verifier import verify
from accelc.dialects.nn import MatmulOp
from accelc.dialects.quant.ops import RequantizeOp
from accelc.dialects.quant.types import QuantizedType
from accelc.passes.fold_qdq import FoldQdq
from accelc.passes.framework.environment import Environment
from accelc.passes.quantization.legality import float_operations

TARGET = load_target("tile32")


def exported(model, calibration):
    module = compile_module(model, Settings(TARGET, calibration=calibration, stop=EXPORT)).module
    proto = export_model(module, "exported")
    onnx.checker.check_model(proto)
    return proto


@pytest.mark.parametrize("name", [*DIGITS, "resnet8_cifar10"])
def test_networks_come_back_as_the_same_integers_and_run_in_onnxruntime(name):
    """Measured with optimisations disabled: 0 to 2 % of the digits' outputs differ, each by one step."""
    if name not in DIGITS:
        shared_model(name)
    net = network(name)
    calibration = {net.input: net.calibration}
    proto = exported(net.model, calibration)
    samples = net.samples(8)
    program, again = accelc.compile(net.model, calibration=calibration), accelc.compile(proto)
    (actual,), (same,) = (each.run({net.input: samples}).values() for each in (program, again))
    np.testing.assert_array_equal(actual, same)
    assert not again.report()["warnings"]
    rows = [reference_outputs(proto, {net.input: row[None]}, optimize=False) for row in samples]
    expected = np.concatenate([next(iter(row.values())) for row in rows])
    (port,) = program.compiled.outputs
    steps = np.rint((actual - expected) / port.stored.element.scale)
    assert np.mean(steps != 0) <= 0.05
    assert np.abs(steps).max() <= (1 if name in DIGITS else 20)  # a softmax multiplies what its logits differ by


def single(type: TensorType) -> TensorType:
    element = type.element
    if not isinstance(element, QuantizedType):
        return type
    return type.with_element(replace(element, scale=float(np.float32(element.scale))))


def make_expressible(module):
    """ONNX has float32 scales, and no factors beside them where integers of two types meet."""
    for constant in module.constants.values():
        constant.type = single(constant.type)
    for op in module.main.body:
        for result in op.results:
            result.type = single(result.type)
    for op in [op for op in module.main.body if isinstance(op, RequantizeOp)]:
        source = op.data.defining_op
        values = [op.data] if isinstance(op.data.type.element, QuantizedType) else []
        if isinstance(source, MatmulOp) and not source.has_weights:
            values = [source.lhs, source.rhs]
        if values:
            scale = math.prod(value.type.element.scale for value in values) / op.out.type.element.scale
            op.set_operand(1, module.add_constant("ratio", np.array([scale], np.float32)))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(networks(all_widths=((8,),), steps=EXPRESSIBLE))
def test_random_networks_come_back_as_the_same_integers(net: QuantizedNetwork):
    module, inputs = net.module, net.samples()
    make_expressible(module)
    try:
        proto = export_model(module)
    except CompileError as error:
        assert all(diagnostic.location.nodes for diagnostic in error.diagnostics), error
        assert "form" in str(error)
        return
    onnx.checker.check_model(proto)
    again = import_model(proto)
    FoldQdq().run(again, Environment())
    assert not float_operations(again.main), [op.name for op in float_operations(again.main)]
    verify(again)
    verify(module)
    for name, array in run(module, inputs).items():
        np.testing.assert_array_equal(run(again, inputs)[name], array)

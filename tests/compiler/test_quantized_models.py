"""Models that onnxruntime quantized: the program computes with their integers what onnxruntime computes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from models import SHARED, shared_model
from reference import reference_outputs
from static_quantization import STYLES, calibration_of, quantized_tensors, statically_quantized

import accelc
from accelc.compiler.importer import import_model
from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.operation import Constant
from accelc.passes.fold_qdq import FoldQdq
from accelc.passes.framework.environment import Environment
from accelc.passes.quantization.legality import float_operations

EXAMPLES = Path(__file__).parents[2] / "examples"
DIGITS = EXAMPLES / "data"

CASES = [
    ("digits_depthwise", "qdq"),
    ("digits_depthwise", "qoperator-channels"),
    ("digits_shufflenet", "qdq-uint8"),
    ("digits_shufflenet", "qoperator"),
    ("digits_cnn", "qdq"),
    ("resnet8_cifar10", "qdq"),
]


def quantized(network, style):
    if network.startswith("digits"):
        path, data = EXAMPLES / "models" / f"{network}.onnx", DIGITS / "digits.calibration.npz"
    else:
        path, data = shared_model(network), SHARED / "data" / f"{network}.calibration.npz"
    return statically_quantized(path, calibration_of(data), style), calibration_of(data, 12)


@pytest.mark.parametrize(("network", "style"), CASES)
def test_every_tensor_is_that_of_onnxruntime_where_its_operands_are(network, style):
    """Each operation gets the integers that onnxruntime computed before it, with optimisations disabled.

    Measured: 8 to 270 elements in a million differ, each by one step: results next to a tie, where onnxruntime sums
    float32 products and this machine multiplies by 22-bit factors; most where a batch normalisation stands alone, whose
    offset is rounded to the steps of its input. Means of equal scales meet ties often (resnet8: 0.4 % of one tensor),
    and a softmax at another scale than 1/256 is rounded twice.
    """
    model, samples = quantized(network, style)
    names = quantized_tensors(model)
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    module, environment = import_model(model), Environment()
    FoldQdq().run(module, environment)
    assert not [remark for remark in environment.remarks if remark.kind == "missed"]
    main = module.main
    named = dict(zip(main.returns, main.output_names, strict=True))
    (argument,) = main.arguments
    different = total = 0
    for sample in samples[:4]:
        expected = reference_outputs(model, {argument.name: sample[None]}, optimize=False)
        values = {argument: sample[None]}
        for op in list(main.body)[:-1]:
            result = op.evaluate(*(v.array if isinstance(v, Constant) else values[v] for v in op.operands))
            if named.get(op.result) in names:
                theirs = expected[named[op.result]]
                theirs = (theirs.astype(np.int16) - (128 if theirs.dtype == np.uint8 else 0)).astype(np.int8)
                steps = np.abs(result.astype(int) - theirs)
                assert steps.max() <= 1, named[op.result]
                assert np.count_nonzero(steps) <= max(2, 0.02 * steps.size), named[op.result]
                different, total, result = different + np.count_nonzero(steps), total + steps.size, theirs
            values[op.result] = result
    assert total > 10_000
    assert different / total < 5e-4


@pytest.mark.parametrize("style", [style for style in STYLES if style != "qdq-uint8-weights"])
def test_a_program_agrees_with_onnxruntime(style):
    """The digits after all layers: single steps that differ early on move a few per cent of the outputs by one step."""
    model, samples = quantized("digits_cnn", style)
    program = accelc.compile(model, calibration={"input": samples} if "qoperator" in style else None)
    actual = program.run({"input": samples})["output"]
    expected = np.concatenate(
        [reference_outputs(model, {"input": row[None]}, optimize=False)["output"] for row in samples]
    )
    scale = np.abs(expected[expected != 0]).min()  # at most: the outputs are multiples of their step
    steps = np.rint((actual - expected) / scale)
    # A step of 16 bits is a 256th of one of 8, and as fine as the float32 sums that onnxruntime rounds.
    assert np.abs(steps).max() <= (20 if style == "qdq-int16" else 3)
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).all()
    if "qoperator" not in style:
        assert np.mean(steps != 0) <= 0.1 or style == "qdq-int16"
        assert not any("not kept" in remark for remark in program.report()["remarks"])


def test_weights_that_do_not_fit_are_told():
    model, _ = quantized("digits_cnn", "qdq-uint8-weights")
    remarks = accelc.compile(model).report()["remarks"]
    lost = [remark for remark in remarks if "the integers of the model are not kept: the weights reach from" in remark]
    assert lost
    assert all(remark.endswith("]") for remark in lost)


def test_partly_quantized_models_are_calibrated_where_they_are_float():
    model, samples = quantized("digits_cnn", "qoperator")
    module, environment = import_model(model), Environment()
    FoldQdq().run(module, environment)
    assert {op.name for op in float_operations(module.main)} == {"nn.conv2d", "nn.reduce_mean", "nn.transpose"}
    silent = accelc.compile(model)
    assert any("no calibration data" in warning for warning in silent.report()["warnings"])
    calibrated = accelc.compile(model, calibration={"input": samples})
    assert not calibrated.report()["warnings"]


def test_a_quantized_model_keeps_its_precision():
    model, _ = quantized("digits_cnn", "qdq")
    message = "precision is 'int16', the model is quantized already; give the float model"
    with pytest.raises(CompileError, match=message):
        FoldQdq().run(import_model(model), Environment(precision="int16"))

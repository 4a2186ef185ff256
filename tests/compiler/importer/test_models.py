"""Real networks: the imported graph computes what onnxruntime computes."""

import numpy as np
import onnx
import pytest
from light_networks import LIGHT_NAMES
from models import light_model, randomized_light_model, shared_model
from reference import assert_close, assert_imports_exactly, random_inputs, reference_outputs

from accelc.compiler.importer import import_model
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.verifier import verify

SHARED_NAMES = (
    "ad_autoencoder",
    "kws_dscnn",
    "resnet20_cifar10_bn",
    "resnet20_cifar10_rawtorch",
    "resnet8_cifar10",
    "shufflenetv1_cifar10_bn",
    "shufflenetv2_cifar10_bn",
    "shufflenetv2_cifar10_hardscale",
    "shufflenetv2_cifar10_rawtorch",
    "sww_streaming_wakeword",
    "tinyvit_cifar10",
    "vww_mobilenetv1_025_96",
)


@pytest.mark.parametrize("name", SHARED_NAMES)
def test_shared_models_match_onnxruntime(name):
    path = shared_model(name)
    module = assert_imports_exactly(path)
    declared = onnx.load(path).graph
    assert [a.name for a in module.main.arguments] == [value.name for value in declared.input]
    assert module.main.output_names == tuple(value.name for value in declared.output)


@pytest.mark.parametrize("name", ["resnet50", "squeezenet", "shufflenet"])
def test_light_models_with_random_weights_match_onnxruntime(name):
    model = randomized_light_model(name)
    module = import_model(model)
    verify(module)
    inputs = random_inputs(module)
    seen = []
    actual = run(module, inputs, observer=lambda op, results: seen.append(float(np.abs(results[0]).max())))
    expected = reference_outputs(model, inputs)
    assert_close(actual, expected)
    (probabilities,) = expected.values()
    assert probabilities.max() < 0.9 and probabilities.std() > 1e-5, "random weights must tell the classes apart"
    assert max(seen) < 1000, "activations must stay bounded"


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_light_models_with_constant_weights_match_onnxruntime_before_the_softmax(name):
    # Equal weights make equal logits, up to 1e9 in size: behind the softmax only their rounding errors would be left.
    model = onnx.load(light_model(name))
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    model.graph.output[0].name = softmax.input[0]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.node.remove(softmax)
    assert_imports_exactly(model)


@pytest.mark.parametrize("name", sorted(set(LIGHT_NAMES) - {"resnet50", "squeezenet", "shufflenet"}))
def test_all_light_models_import(name):
    model = onnx.load(light_model(name))
    module = import_model(model)
    (output,) = model.graph.output
    assert module.main.output_names == (output.name,)
    shape = tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim)
    assert module.main.result_types[0].shape == shape
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    assert sum(op.name == "nn.conv2d" for op in module.walk()) == convolutions


def test_random_weights_depend_on_the_seed_alone():
    first, again, other = (randomized_light_model("squeezenet", seed) for seed in (3, 3, 4))
    assert first.SerializeToString() == again.SerializeToString() != other.SerializeToString()


@pytest.mark.parametrize("name", ["resnet20_cifar10", "shufflenetv2_cifar10"])
def test_unclean_exports_become_the_graph_of_their_clean_twins(name):
    clean, raw = import_model(shared_model(f"{name}_bn")), import_model(shared_model(f"{name}_rawtorch"))
    inputs = random_inputs(clean)
    (expected,), (actual,) = run(clean, inputs).values(), run(raw, inputs).values()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert arithmetic(raw) == arithmetic(clean)


def arithmetic(module):
    """The operations that neither move data nor were folded into weights by the exporter, in order."""
    moving = ("nn.batch_norm", "nn.transpose", "nn.reshape", "nn.slice", "nn.concat", "nn.pad", "nn.gather", "return")
    return [op.name for op in module.walk() if op.name not in moving]

"""The float passes on real networks: transposes cancel, normalisations fold, names stay, the meaning stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
from models import light_model, randomized_light_model, shared_model

from accelc.compiler.importer.importing import import_model
from accelc.dialects.core.operation import BlockArgument, Module
from accelc.dialects.nn.movement import TransposeOp
from accelc.passes.framework.environment import Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.framework.semantics import VerifySemantics
from accelc.passes.registry import PASSES

FLOAT = (
    "canonicalize,fold-constants,propagate-layouts,canonicalize,fold-batch-norm,fuse-activations,fold-constants,"
    "eliminate-common-subexpressions,eliminate-dead-code"
)


def optimized(model: Path | onnx.ModelProto, *, check: bool) -> tuple[Module, Environment]:
    """The module after the float passes; checks that no ONNX name is lost, and every pass by running it."""
    module, environment = import_model(model), Environment()
    before = {name for op in module.walk() for name in op.location.nodes}
    watchers = [VerifySemantics()] if check else []
    PassManager(parse_pipeline(FLOAT, PASSES), instrumentation=watchers).run(module, environment)
    after = {name for op in module.walk() for name in op.location.nodes}
    assert before == after
    return module, environment


def counts(module: Module) -> Counter[str]:
    """How often each operation occurs."""
    return Counter(op.name for op in module.walk())


def assert_only_transpose_is_at_the_input(module: Module) -> None:
    """The one layout transpose left reads the network's input."""
    transposes = [op for op in module.walk() if isinstance(op, TransposeOp)]
    assert len(transposes) <= 1
    assert all(isinstance(op.data, BlockArgument) for op in transposes)


@pytest.mark.parametrize(
    ("name", "convolutions", "shuffles"),
    [
        ("resnet8_cifar10", 9, 0),
        ("resnet20_cifar10_bn", 19, 0),
        ("kws_dscnn", 9, 0),
        ("shufflenetv1_cifar10_bn", 22, 7),
        ("shufflenetv2_cifar10_bn", 32, 8),
    ],
)
def test_shared_network(name: str, convolutions: int, shuffles: int) -> None:
    module, environment = optimized(shared_model(name), check=True)
    found = counts(module)
    assert_only_transpose_is_at_the_input(module)
    assert found["nn.conv2d"] == convolutions
    assert found["nn.permute_channels"] == shuffles
    assert len([remark for remark in environment.remarks if remark.kind == "shuffle"]) == shuffles
    assert found["nn.matmul"] == 1
    assert found["nn.batch_norm"] + found["nn.reduce_mean"] + found["nn.mul"] == 0


@pytest.mark.parametrize(
    ("name", "total"),
    [("resnet50", 76), ("squeezenet", 42), ("shufflenet", 94), ("densenet121", 249), ("inception_v2", 92)],
)
def test_light_network(name: str, total: int) -> None:
    """`total` operations are left; DenseNet's and Inception's scales behind normalisations are among the folded."""
    module, _ = optimized(light_model(name), check=False)
    found = counts(module)
    assert_only_transpose_is_at_the_input(module)
    assert found["nn.batch_norm"] + found["nn.mul"] + found["nn.sub"] + found["nn.div"] == 0
    assert found.total() == total


def test_light_squeezenet_with_random_weights_keeps_its_meaning() -> None:
    optimized(randomized_light_model("squeezenet"), check=True)

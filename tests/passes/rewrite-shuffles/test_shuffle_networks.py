"""Real ShuffleNets: no permutation is left, and every channel-wise concat is written by the producers of its parts."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import randomized_light_model, shared_model

from accelc.compiler.importer.importing import import_model
from accelc.dialects.core.interpreter import run
from accelc.dialects.core.operation import Module
from accelc.dialects.core.printer import print_module
from accelc.dialects.nn.movement import ConcatOp, GatherOp, PermuteChannelsOp, SliceOp
from accelc.passes.framework.environment import Environment
from accelc.passes.framework.pass_manager import PassManager
from accelc.passes.framework.pipeline import parse_pipeline
from accelc.passes.registry import PASSES
from accelc.passes.rewrite_shuffles import RewriteShuffles

GRAPH_PASSES = (
    "canonicalize,fold-constants,propagate-layouts,canonicalize,fold-batch-norm,fuse-activations,fold-constants,"
    "eliminate-common-subexpressions,eliminate-dead-code"
)
EXAMPLES = Path(__file__).parents[3] / "examples" / "models"

V2_CONCATS = [2, 3, 4, 2, 3, 4, 5, 2]
"""One range for each earlier unit of the stage that still passes channels on: the least there can be."""

NETWORKS = {
    "shufflenetv2_cifar10_bn": (8, V2_CONCATS),
    "shufflenetv2_cifar10_rawtorch": (8, V2_CONCATS),
    "shufflenetv2_cifar10_hardscale": (8, V2_CONCATS),
    "shufflenetv1_cifar10_bn": (7, [2, *3 * [9], 2, *3 * [9]]),
    "light_shufflenet": (16, [16, 2, *4 * [16], 2, *8 * [16], 2, *3 * [16]]),
    "digits_shufflenet": (5, [16, 2, 3, 4, 5]),
}
"""Shuffles of the network, and how many ranges each concat may have."""


def network(name: str) -> Path | onnx.ModelProto:
    if name == "light_shufflenet":
        return randomized_light_model("shufflenet")
    return EXAMPLES / f"{name}.onnx" if name.startswith("digits") else shared_model(name)


def prepared(name: str) -> Module:
    module = import_model(network(name))
    PassManager(parse_pipeline(GRAPH_PASSES, PASSES)).run(module)
    return module


def channel_concats(module: Module) -> list[ConcatOp]:
    return [op for op in module.main if isinstance(op, ConcatOp) and op.axis == op.out.type.rank - 1]


@pytest.mark.parametrize("name", NETWORKS)
def test_all_shuffles_are_absorbed(name: str) -> None:
    module = prepared(name)
    shuffles, ranges = NETWORKS[name]
    assert sum(isinstance(op, PermuteChannelsOp | GatherOp) for op in module.main) == shuffles
    nodes = {node for op in module.main for node in op.location.nodes}
    random = np.random.default_rng(0)
    inputs = {str(a.name): random.standard_normal(a.type.shape).astype(np.float32) for a in module.main.arguments}
    expected, environment = run(module, inputs), Environment()

    PassManager([RewriteShuffles()]).run(module, environment)

    counts = Counter(type(op) for op in module.main)
    assert counts[PermuteChannelsOp] == counts[GatherOp] == 0
    concats = channel_concats(module)
    print(f"{name}: {shuffles} shuffles, ranges {[len(op.operands) for op in concats]}")
    assert [len(op.operands) for op in concats] == ranges
    for op in module.main:
        if isinstance(op, SliceOp):
            assert op.steps[-1] == 1 and not isinstance(op.data.defining_op, SliceOp | ConcatOp)
    assert not any(isinstance(value.defining_op, ConcatOp) for op in concats for value in op.operands)
    for output, array in run(module, inputs).items():
        np.testing.assert_allclose(array, expected[output], rtol=0, atol=1e-4 * np.abs(expected[output]).max())
    assert nodes == {node for op in module.main for node in op.location.nodes}

    assert [remark.data["outcome"] for remark in environment.remarks] == ["absorbed"] * shuffles
    assert all(remark.data["absorbed_into"] and remark.location.nodes for remark in environment.remarks)
    text = print_module(module)
    PassManager([RewriteShuffles()]).run(module)
    assert print_module(module) == text


def test_without_absorbing_every_shuffle_stays_one_permutation() -> None:
    module, environment = prepared("digits_shufflenet"), Environment()
    PassManager([RewriteShuffles(absorb=False)]).run(module, environment)
    assert sum(isinstance(op, PermuteChannelsOp) for op in module.main) == 5
    assert {remark.data["outcome"] for remark in environment.remarks} == {"moved"}


@pytest.mark.parametrize("name", ["resnet20_cifar10_bn", "kws_dscnn"])
def test_a_network_without_shuffles_is_left_alone(name: str) -> None:
    module, environment = prepared(name), Environment()
    text = print_module(module)
    PassManager([RewriteShuffles()]).run(module, environment)
    assert print_module(module) == text
    assert environment.remarks == []

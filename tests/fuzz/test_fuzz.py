"""A minute of what `python benchmarks/fuzzing.py` does for hours, and every file that it has ever stumbled over."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from fuzz.cases import KINDS, MUTATIONS, run_case
from fuzz.comparison import MismatchError, check_network, compare_floats
from fuzz.models import check_model
from fuzz.networks import random_network
from fuzz.programs import check_program
from fuzz.texts import check_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from accelc.backends.simulator.simulator import MODES
from accelc.compiler.importer import OPERATORS, import_model

INPUTS = sorted((Path(__file__).parent / "inputs").iterdir())
CHANGED = "changed-"
"""How the names of networks begin that may be refused, as their files were changed."""
REPEATS = 4
"""A regression runs at several levels and targets."""


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_random_networks_agree_end_to_end(random):
    check_network(random_network(random), random)


PRODUCT = [helper.make_node("MatMul", ["x", "w"], ["v"]), helper.make_node("ReduceProd", ["v", "axes"], ["y"])]
"""A product of numbers that cancelled."""
NORMALIZATION = [
    helper.make_node("Mul", ["x", "w"], ["p"]),
    helper.make_node("Add", ["p", "first"], ["q"]),
    helper.make_node("Add", ["q", "second"], ["v"]),
    helper.make_node("LayerNormalization", ["v", "one"], ["y"]),
]
"""The normalization of numbers of which little is left beside a constant that is added in two parts."""
SMALL = {"w": np.float32([1e-2, 2e-2, 3e-2, 5e-2]), "one": np.ones(4, np.float32)}
X = np.random.default_rng(3).uniform(1, 2, (1, 4)).astype(np.float32)


def cancelling() -> np.ndarray:
    """Weights [4, 16] of which the products with X are small beside their terms."""
    weights = 1e4 * np.random.default_rng(3).standard_normal((4, 16)).astype(np.float32)
    weights[3] = (X[0, 3] - X[0, :3] @ weights[:3]) / X[0, 3]
    return weights


def product_of(factor: float) -> onnx.ModelProto:
    factors = np.float32([factor, 1, 1, 1])[:, np.newaxis]
    return network_of(PRODUCT, w=cancelling() * factors, axes=np.array([1]))


def normalization_of(first: float, second: float, factor: float = 1.0) -> onnx.ModelProto:
    weights = SMALL["w"] * np.float32([factor, 1, 1, 1])
    return network_of(NORMALIZATION, **SMALL | {"w": weights}, first=np.float32([first]), second=np.float32([second]))


def network_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 4), ("y", None))]
    graph = helper.make_graph(nodes, "cancelling", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("model", "other", "differs"),
    [
        (product_of(1), product_of(1 + 2.0**-22), False),
        (product_of(1), product_of(1.1), True),
        (normalization_of(1000, 0), normalization_of(900.3, 99.7), False),
        (normalization_of(1000, 0), normalization_of(1000, 0, factor=1.5), True),
    ],
)
def test_floats_that_cancel_may_differ_by_what_that_costs_and_no_more(model, other, differs: bool) -> None:
    """What cancelled is off by more than float32 sums, but not as much as by a changed weight."""
    expectation = pytest.raises(MismatchError) if differs else nullcontext()
    with expectation:
        compare_floats(model, import_model(other, allow_host=True), {"x": X})


def test_random_networks_mostly_run():
    outcomes = Counter(run_case(KINDS["network"], seed) for seed in range(30))
    assert outcomes["ran"] > 20, outcomes


def test_most_operators_are_drawn():
    seen = {node.op_type for seed in range(800) for node in random_network(Random(seed)).graph.node}
    assert len(seen & {operator.op_type for operator in OPERATORS}) >= 50


@pytest.mark.parametrize("kind", MUTATIONS)
def test_changed_files_are_refused_or_sound(kind):
    outcomes = Counter(run_case(KINDS[kind], seed) for seed in range(150))
    assert len(outcomes) > 1, outcomes


@pytest.mark.parametrize("path", INPUTS, ids=[path.name for path in INPUTS])
def test_what_was_found_once(path):
    data = path.read_bytes()
    for repeat in range(REPEATS):
        random = Random(repeat)
        match path.suffix:
            case ".onnx":
                check_model(data)
                if not path.name.startswith(CHANGED):
                    check_network(onnx.load_model_from_string(data), random)
            case ".accel":
                check_program(data, MODES[repeat % len(MODES)])
            case _:
                check_text(data.decode())

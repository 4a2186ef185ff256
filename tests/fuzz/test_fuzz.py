"""A minute of what `python benchmarks/fuzzing.py` does for hours, and every file that it has ever stumbled over."""

from __future__ import annotations

from collections import Counter
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
REPEATS = 6
"""A regression runs at several levels and targets."""


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_random_networks_agree_end_to_end(random):
    check_network(random_network(random), random)


@pytest.mark.parametrize(("factor", "differs"), [(1 + 2.0**-22, False), (1.1, True)])
def test_floats_that_cancel_may_differ_by_what_that_costs_and_no_more(factor: float, differs: bool) -> None:
    """A product of numbers that cancelled is off by more than float32 sums, but not as much as a changed weight."""
    rng = np.random.default_rng(3)
    weights = 1e4 * rng.standard_normal((4, 16)).astype(np.float32)
    x = rng.standard_normal((1, 4)).astype(np.float32)
    weights[3] = (rng.uniform(1, 2, 16) - x[0, :3] @ weights[:3]) / x[0, 3]
    changed = weights.copy()
    changed[0] *= np.float32(factor)
    models = [product_of(weights), product_of(changed)]
    module = import_model(models[1], allow_host=True)
    if differs:
        with pytest.raises(MismatchError):
            compare_floats(models[0], module, {"x": x})
    else:
        compare_floats(models[0], module, {"x": x})


def product_of(weights: np.ndarray) -> onnx.ModelProto:
    """The product of the numbers of x @ weights."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["v"]),
        helper.make_node("ReduceProd", ["v", "axes"], ["y"]),
    ]
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([1]), "axes")]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 4]), ("y", [1, 1]))
    ]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


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

"""A minute of what `python benchmarks/fuzzing.py` does for hours, and every file that it has ever stumbled over."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import onnx
import pytest
from fuzz.cases import KINDS, MUTATIONS, run_case
from fuzz.comparison import check_network
from fuzz.models import check_model
from fuzz.networks import random_network
from fuzz.programs import check_program
from fuzz.texts import check_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelc.backends.simulator.simulator import MODES
from accelc.compiler.importer import OPERATORS

INPUTS = sorted((Path(__file__).parent / "inputs").iterdir())
CHANGED = "changed-"
"""How the names of networks begin that may be refused, as their files were changed."""
REPEATS = 6
"""A regression runs at several levels and targets."""


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_random_networks_agree_end_to_end(random):
    check_network(random_network(random), random)


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

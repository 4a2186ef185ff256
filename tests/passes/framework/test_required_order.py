"""A pipeline that a user writes must keep the order that the tables ask for."""

from __future__ import annotations

import pytest

from accelc.compiler.driver import parse_passes
from accelc.dialects.core.diagnostics import CompileError


def test_order_is_kept() -> None:
    names = [each.name for each in parse_passes("canonicalize,insert-quantization,lower-to-tile")]
    assert names == ["canonicalize", "insert-quantization", "lower-to-tile"]


def test_all_violations_are_named_with_reasons() -> None:
    with pytest.raises(CompileError) as caught:
        parse_passes("schedule,lower-to-tile,insert-quantization")
    assert [d.message for d in caught.value.diagnostics] == [
        "pipeline: 'insert-quantization' must run before 'lower-to-tile': instructions exist for integers only",
        "pipeline: 'lower-to-tile' must run before 'schedule': strips are cut from instructions",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("O2,O1", "'lower-to-tile' runs 2 times: tensors become instructions once; O0, O1, O2, O3 are whole pipelines"),
        ("O2,schedule", "'schedule' runs 2 times: layers are cut into strips once; .* are whole pipelines"),
        ("O2,insert-quantization", "'insert-quantization' must run before 'lower-to-tile': instructions exist"),
    ],
)
def test_a_whole_pipeline_is_not_run_on_instructions(text: str, problem: str) -> None:
    with pytest.raises(CompileError, match=problem):
        parse_passes(text)


@pytest.mark.parametrize("later", ["pad-channels", "lower-to-tile"])
@pytest.mark.parametrize("refinement", ["round-weights", "correct-bias"])
def test_layers_are_refined_before_they_stop_matching_the_float_network(refinement: str, later: str) -> None:
    with pytest.raises(CompileError, match=f"'{refinement}' must run before '{later}': layers are compared"):
        parse_passes(f"insert-quantization,{later},{refinement}")

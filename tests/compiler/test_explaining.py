"""`--explain`: the candidates of a layer with the winner, its worst bank conflicts, near matches for a wrong name."""

import json
from pathlib import Path

import pytest

from accelc.backends.target import load_target
from accelc.compiler.api import Program
from accelc.compiler.cli import run_cli
from accelc.compiler.driver import Settings, compile_module, emit
from accelc.compiler.explaining import explain, render_explanation
from accelc.dialects.core.diagnostics import CompileError

MODEL = Path(__file__).parents[2] / "examples" / "models" / "digits_cnn.onnx"


@pytest.fixture(scope="module")
def compiled():
    """A bundled network for a small machine, at every split."""
    return compile_module(MODEL, Settings(load_target("tile32"), opt_level=2))


def test_the_winner_is_the_cheapest_candidate(compiled):
    (found,) = explain(compiled, "/features/1/conv/Conv")
    prices = [candidate.cycles for candidate in found.candidates if candidate.cycles is not None]
    assert len(prices) > 3 and prices == sorted(prices)
    chosen = next(candidate for candidate in found.candidates if candidate.mapping == found.chosen)
    assert chosen.cycles == prices[0]
    assert found.chosen in found.why and f"{prices[0]:,.0f} cycles" in found.why
    assert "/features/1/act/Relu" in found.nodes


def test_the_winner_is_what_the_report_shows(compiled, capsys):
    assert run_cli([str(MODEL), "--explain", "/features/1/conv/Conv", "--report"]) == 0
    text = capsys.readouterr().out
    (found,) = explain(compiled, "/features/1/conv/Conv")
    assert f"* {found.chosen}" in text
    assert f"conv, {found.chosen[:6]}" in text


def test_layers_without_a_choice_say_so(compiled):
    (found,) = explain(compiled, "/features/2/MaxPool")
    assert found.candidates == () and "there is no choice" in found.why
    assert "there is no choice" in render_explanation(found)


def test_an_unknown_layer_is_an_error_with_near_matches(compiled):
    with pytest.raises(
        CompileError, match="layer '/features/1/conv/conf' is unknown, expected for instance '/features/1"
    ):
        explain(compiled, "/features/1/conv/conf")
    with pytest.raises(CompileError, match=r"layer '\?' is unknown, expected one of \d+ names that --report shows"):
        explain(compiled, "?")


def test_layers_that_stall_have_conflicts_with_names_and_remedies(compiled):
    report = Program(emit(compiled), None).measure()
    stalled = [layer for layer in report.layers if layer.bank_stall_cycles]
    assert stalled
    for layer in stalled:
        found = next(each for each in explain(compiled, layer.name) if each.layer == layer.name)
        assert found.conflicts
        assert all(conflict.cycles > 0 and conflict.buffers and conflict.remedy for conflict in found.conflicts)
        assert found.conflicts == tuple(sorted(found.conflicts, key=lambda conflict: -conflict.cycles))


def test_the_json_report_holds_it(tmp_path):
    path = tmp_path / "report.json"
    arguments = [str(MODEL), "--explain", "/features/1/conv/Conv", "--report-json", str(path)]
    assert run_cli(arguments) == 0
    (found,) = json.loads(path.read_text())["explanations"]
    assert found["candidates"][0]["mapping"] == found["chosen"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--emit=quant", "--explain", "x"], 2, "--emit=quant stops before there is a program, which --explain needs"),
        (["--explain", "x"], 1, "layer 'x' is unknown"),
    ],
)
def test_wrong_usage(capsys, arguments, status, message):
    assert run_cli([str(MODEL), *arguments]) == status
    assert message in capsys.readouterr().err

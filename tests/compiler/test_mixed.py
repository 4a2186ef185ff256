"""Mixed precision: what is kept of the trade-off, what is chosen of it, and that every row can be built again."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import accelc
from accelc.compiler.mixed import Goal, Row, choose, frontier
from accelc.compiler.pareto import records, table, write_pareto
from accelc.passes.quantization.mixing import Gain, promotion_order

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples/models/digits_depthwise.onnx"
CALIBRATION = ROOT / "examples/data/digits.calibration.npz"


def row(cycles: int, error: float, loss: float = 0.0) -> Row:
    return Row(("a",) * (cycles // 100), loss, error, cycles, None)


ROWS = (row(100, 0.1, 2.0), row(150, 0.05, 1.0), row(300, 0.01))


def test_layers_are_promoted_by_gain_for_each_added_cycle():
    gains = [Gain("dear", 5.0), Gain("cheap", 3.0), Gain("free", 1.0), Gain("harmful", -1.0)]
    order = promotion_order(gains, {"dear": 100.0, "cheap": 10.0, "free": 0.0, "harmful": 10.0})
    assert order == ["free", "cheap", "dear", "harmful"]


def test_the_frontier_holds_what_nothing_beats():
    beaten = (row(160, 0.06), row(300, 0.02), row(310, 0.01))
    assert frontier((*beaten, *ROWS)) == ROWS


@pytest.mark.parametrize(
    ("goal", "cycles", "warning"),
    [
        (Goal(), 300, None),
        (Goal(max_accuracy_loss=1.0), 150, None),
        (Goal(max_accuracy_loss=100.0), 100, None),
        (Goal(max_cycles_factor=1.5), 150, None),
        (Goal(max_cycles_factor=1.49), 100, None),
        (Goal(max_accuracy_loss=1.5, max_cycles_factor=2.0), 150, None),
        (
            Goal(max_accuracy_loss=0.5, max_cycles_factor=2.0),
            150,
            "the least loss is 1.00 points, expected at most 0.5",
        ),
    ],
)
def test_the_goal_decides(goal, cycles, warning):
    found, said = choose(ROWS, goal, base=100)
    assert found.cycles == cycles
    assert (said or "").startswith(warning or "") and bool(said) == bool(warning)


@pytest.mark.parametrize(
    ("goal", "message"), [({"max_accuracy_loss": -1.0}, "0 to 100"), ({"max_cycles_factor": 0.5}, "1")]
)
def test_goals_out_of_range_are_refused(goal, message):
    with pytest.raises(accelc.CompileError, match=f"expected (at least )?{message}"):
        Goal(**goal)


@pytest.fixture(scope="module")
def mixed() -> accelc.Program:
    data = dict(np.load(CALIBRATION))
    return accelc.compile(MODEL, precision="mixed", max_cycles_factor=1.6, calibration=data)


def test_a_program_is_chosen_from_the_trade_off(mixed):
    found = mixed.tradeoff
    assert found.rows[0].promoted == () and len(found.rows) > 2
    assert [r.cycles for r in found.rows] == sorted(r.cycles for r in found.rows)
    assert [r.error for r in found.rows] == sorted((r.error for r in found.rows), reverse=True)
    assert len(found.chosen.promoted) > 0
    assert mixed.report()["cycles"] == found.chosen.cycles <= 1.6 * found.rows[0].cycles
    assert mixed.report()["precision"] == "mixed"


def test_a_row_can_be_built_from_its_layers(mixed):
    data = dict(np.load(CALIBRATION))
    row = mixed.tradeoff.chosen
    again = accelc.compile(MODEL, precision="mixed", promoted=row.promoted, calibration=data)
    assert again.report()["cycles"] == row.cycles
    name, samples = next(iter(data.items()))
    outputs = (next(iter(program.run({name: samples[:4]}).values())) for program in (mixed, again))
    np.testing.assert_array_equal(*outputs)


def test_an_unknown_layer_is_refused():
    with pytest.raises(accelc.CompileError, match=r"no layer is called 'nope', expected some of '"):
        accelc.compile(MODEL, precision="mixed", promoted=["nope"])


def test_goals_need_mixed_precision():
    with pytest.raises(accelc.CompileError, match="expected precision 'mixed'"):
        accelc.compile(MODEL, max_accuracy_loss=1.0)


def test_the_trade_off_is_written(mixed, tmp_path):
    rows = records(mixed.tradeoff)
    write_pareto(tmp_path / "a.json", rows)
    write_pareto(tmp_path / "a.csv", rows)
    assert json.loads((tmp_path / "a.json").read_text()) == rows
    lines = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [int(line["cycles"]) for line in lines] == [r["cycles"] for r in rows]
    assert sum(r["chosen"] for r in rows) == table(mixed.tradeoff).count("<- chosen") == 1
    with pytest.raises(accelc.CompileError, match=r"suffix is '\.txt'"):
        write_pareto(tmp_path / "a.txt", rows)


def test_a_picture_is_drawn(mixed, tmp_path):
    pytest.importorskip("matplotlib")
    write_pareto(tmp_path / "a.png", records(mixed.tradeoff))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

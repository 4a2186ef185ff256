"""The trace: its events fill the run, their sums are those of the ledger, and the file opens in Perfetto."""

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from accelc.compiler.api import compile as compile_model
from accelc.compiler.cli import run_cli
from accelc.compiler.trace import trace
from accelc.dialects.tile.instruction import ENGINES

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module", params=["digits_cnn", "digits_shufflenet"])
def traced(request):
    """The trace and the report of a bundled network."""
    program = compile_model(EXAMPLES / "models" / f"{request.param}.onnx", target="tile32")
    return trace(program.compiled), program.measure()


def events(data, phase, **wanted):
    found = [event for event in data["traceEvents"] if event["ph"] == phase]
    return [event for event in found if all(event.get(key) == value for key, value in wanted.items())]


def test_the_array_is_accounted_for_in_every_cycle(traced):
    data, report = traced
    time = 0
    for event in sorted(events(data, "X", tid=ENGINES.index("array") + 1), key=lambda event: event["ts"]):
        assert event["ts"] == time
        time += event["dur"]
    assert time == report.cycles == data["otherData"]["cycles"]


def test_the_sums_are_those_of_the_ledger(traced):
    data, report = traced
    total, layers = Counter(), defaultdict(Counter)
    for event in events(data, "X", tid=ENGINES.index("array") + 1):
        arguments = event["args"]
        slots = arguments.get("slots") or {arguments["cause"]: event["dur"] * report.machine.slots_per_cycle}
        total.update(slots)
        layers[arguments["layer_index"]].update(slots)
    assert +total == +Counter(report.slots)
    found = {index: +slots for index, slots in sorted(layers.items()) if +slots}
    assert list(found.values()) == [+Counter(layer.slots) for layer in report.layers if +Counter(layer.slots)]


def test_transfers_and_instructions_are_those_of_the_report(traced):
    data, report = traced
    instructions = events(data, "X", cat="instruction")
    for engine, count in report.instructions.items():
        assert sum(event["tid"] == ENGINES.index(engine) + 1 for event in instructions) == count
    assert sum(event["args"].get("dram_read_bytes", 0) for event in instructions) == report.dram_read_bytes
    assert sum(event["args"].get("dram_write_bytes", 0) for event in instructions) == report.dram_write_bytes


def test_counters_integrate_to_the_bytes_that_cross_the_channel(traced):
    data, report = traced
    found = sorted(events(data, "C", name="DRAM bytes a cycle"), key=lambda event: event["ts"])
    for kind, expected in (("read", report.dram_read_bytes), ("write", report.dram_write_bytes)):
        spans = pairwise(found)
        assert sum(a["args"][kind] * (b["ts"] - a["ts"]) for a, b in spans) == pytest.approx(expected)
        assert found[-1]["args"][kind] == 0


def test_sram_in_use_ends_at_nothing_and_stays_within_the_peak(traced):
    data, report = traced
    used = [event["args"]["bytes"] for event in events(data, "C", name="SRAM bytes in use")]
    assert used[-1] == 0 and min(used) >= 0
    assert 0.5 * report.sram["lower_bound_bytes"] < max(used) <= report.sram["peak_bytes"]


def test_events_of_an_engine_do_not_overlap_and_waits_name_who_is_waited_for(traced):
    data, _ = traced
    for thread in range(1, len(ENGINES) + 1):
        end = 0
        for event in sorted(events(data, "X", tid=thread), key=lambda event: event["ts"]):
            assert event["ts"] >= end and event["dur"] > 0
            end = event["ts"] + event["dur"]
    waits = events(data, "X", cat="wait")
    assert waits and all("because_of" in event["args"] for event in waits)


def test_the_command_writes_it_for_a_model_and_for_a_program(tmp_path):
    model = EXAMPLES / "models" / "digits_depthwise.onnx"
    program, first, second = (tmp_path / name for name in ("p.accel", "a.json", "b.json"))
    assert run_cli([str(model), "--trace", str(first), "-o", str(program)]) == 0
    assert run_cli([str(program), "--trace", str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()
    data = json.loads(first.read_text())
    assert {event["args"]["name"] for event in events(data, "M", name="thread_name")} == set(ENGINES)


def test_a_trace_needs_a_program(capsys):
    assert run_cli(["model.onnx", "--emit=nn", "--trace", "t.json"]) == 2
    assert "--emit=nn stops before there is a program, which --trace needs" in capsys.readouterr().err

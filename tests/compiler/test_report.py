"""The report: its keys, its books, what it says of single layers, and the suggestions that it derives."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import accelc
from accelc.backends.target import load_target
from accelc.backends.timing.record import CAUSES
from accelc.compiler.advice import advise, fitting_channels
from accelc.compiler.notes import Notes, ShuffleNote, move_cycles, read_notes
from accelc.compiler.report import BlockMapping, Layer, Machine, Product, Report, write_report
from accelc.compiler.report_text import WORDS, accuracy_line, render_report, summary_line

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORKS = ("digits_cnn", "digits_depthwise", "digits_shufflenet")
KEYS = {
    "model": str,
    "target": str,
    "precision": str,
    "macs": int,
    "cycles": int,
    "seconds": float,
    "utilization": float,
    "blocks": int,
    "ledger": dict,
    "ledger_slots": dict,
    "bounds": dict,
    "sram": dict,
    "dram_bytes": dict,
    "instructions": int,
    "layers": list,
    "shuffles": list,
    "warnings": list,
    "remarks": list,
}
LAYER_KEYS = {
    "name": str,
    "nodes": list,
    "kind": str,
    "macs": int,
    "cycles": int,
    "utilization": float,
    "ledger": dict,
    "losses": list,
    "sram": dict,
    "dram_bytes": dict,
    "instructions": int,
}
MACHINE = Machine("box", 100.0, 32, 32, 4, 64, 1 << 20, 16.0)


@pytest.fixture(scope="module")
def programs():
    calibration = np.load(EXAMPLES / "data" / "digits.calibration.npz")
    return {
        (name, target): accelc.compile(EXAMPLES / "models" / f"{name}.onnx", target, calibration=calibration)
        for name in NETWORKS
        for target in ("tile32", "array32")
    }


CASES = [(name, target) for name in NETWORKS for target in ("tile32", "array32")]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_keys(programs, case):
    report = json.loads(json.dumps(programs[case].report(), allow_nan=False))
    assert {key: type(report.get(key)) for key in KEYS} == KEYS
    for layer in report["layers"]:
        assert {key: type(layer.get(key)) for key in LAYER_KEYS} == LAYER_KEYS
    names = {f"{name}_cycles" for name in ("compute", "tiling", "vector", "dram", "schedule")}
    assert set(report["bounds"]) == names
    assert all(set(layer["bounds"]) == names for layer in report["layers"])
    assert set(report["sram"]) >= {"peak_bytes", "lower_bound_bytes", "bank_stall_cycles", "spilled_bytes"}
    assert set(report["dram_bytes"]) == {"read", "write"}
    assert (report["model"], report["target"], report["precision"]) == (*case, "int8")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_books_balance(programs, case):
    program = programs[case]
    report, array = program.report(), program.target.array
    assert tuple(report["ledger"]) == CAUSES
    assert sum(report["ledger_slots"].values()) == report["cycles"] * report["blocks"] * array.lanes * array.columns
    assert sum(report["ledger"].values()) == report["cycles"] * report["blocks"]
    assert sum(layer["cycles"] for layer in report["layers"]) == report["cycles"]
    for cause in CAUSES:
        assert sum(layer["ledger"][cause] for layer in report["layers"]) == report["ledger"][cause]
    for layer in report["layers"]:
        lost = sum(loss["block_cycles"] for loss in layer["losses"])
        assert lost + layer["ledger"]["useful_mac"] == layer["cycles"] * report["blocks"]
    for key in ("macs", "instructions"):
        assert sum(layer[key] for layer in report["layers"]) == report[key]
    for way in ("read", "write"):
        assert sum(layer["dram_bytes"][way] for layer in report["layers"]) == report["dram_bytes"][way]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_bounds_are_bounds(programs, case):
    program = programs[case]
    report = program.report()
    assert 0 < max(report["bounds"].values()) <= report["cycles"]
    assert report["bounds"]["compute_cycles"] <= report["bounds"]["tiling_cycles"]
    assert report["bounds"]["compute_cycles"] == -(-report["macs"] // program.target.macs_per_cycle)
    assert report["utilization"] == pytest.approx(report["macs"] / report["cycles"] / program.target.macs_per_cycle)
    assert report["seconds"] == pytest.approx(report["cycles"] / program.target.frequency_mhz / 1e6)
    assert 0 < report["sram"]["lower_bound_bytes"] <= report["sram"]["peak_bytes"] <= program.target.sram_bytes


def test_the_awkward_convolution_fills_its_blocks_where_it_does_not_wait_for_weights(programs):
    tile32 = load_target("tile32")
    quick = replace(tile32, dma=replace(tile32.dma, bytes_per_cycle=4 * tile32.dma.bytes_per_cycle))
    other = accelc.compile(
        EXAMPLES / "models" / "digits_cnn.onnx",
        quick,
        calibration=np.load(EXAMPLES / "data" / "digits.calibration.npz"),
    )
    for program in (other, programs["digits_cnn", "array32"]):
        (layer,) = [x for x in program.report()["layers"] if (x["product"] or {}).get("in_channels") == 47]
        assert layer["product"] == {"in_channels": 47, "out_channels": 94, "groups": 1, "kernel": [3, 3], "rows": 64}
        assert layer["mapping"]["fold"] == "window"
        assert layer["lanes"] == 423 * 94 / (448 * 96) > 0.92
        assert layer["nodes"][0] == "/features/1/conv/Conv"
        (line,) = [
            x for x in render_report(program.measure()).splitlines() if "/features/1/conv/Conv" in x and "%  " in x
        ]
        assert " 92.5% " in line and "window" in line


def test_macs_are_those_of_the_model(programs):
    report = programs["digits_cnn", "tile32"].report()
    macs = {layer["nodes"][0]: layer["macs"] for layer in report["layers"] if layer["product"] and layer["macs"]}
    shapes = [layer["product"] for layer in report["layers"] if layer["product"] and layer["macs"]]
    expected = [s["rows"] * s["in_channels"] * s["out_channels"] * s["kernel"][0] * s["kernel"][1] for s in shapes]
    assert list(macs.values()) == expected


def test_shuffles_are_absorbed_and_priced(programs):
    report = programs["digits_shufflenet", "tile32"].report()
    assert len(report["shuffles"]) >= 4
    for shuffle in report["shuffles"]:
        assert shuffle["cycles_before"] > 0 and shuffle["cycles_after"] == 0
        assert shuffle["outcome"].startswith("absorbed") and shuffle["absorbed_into"]
    calibration = np.load(EXAMPLES / "data" / "digits.calibration.npz")
    model = EXAMPLES / "models" / "digits_shufflenet.onnx"
    moved = accelc.compile(model, opt_level=0, calibration=calibration).report()
    assert len(moved["shuffles"]) == len(report["shuffles"])
    assert sum(shuffle["cycles_after"] for shuffle in moved["shuffles"]) > 0
    assert {shuffle["outcome"] for shuffle in moved["shuffles"]} == {"moved (moves)"}


def test_a_shuffle_of_more_channels_costs_more():
    target = load_target("tile32")
    assert 0 < move_cycles((1, 8, 8, 32), 2, target) < move_cycles((1, 8, 8, 64), 2, target)
    assert move_cycles((1, 8, 8, 64), None, target) >= move_cycles((1, 8, 8, 64), 2, target)


def test_a_program_file_reports_the_same(programs, tmp_path):
    program = programs["digits_shufflenet", "tile32"]
    program.save(tmp_path / "kept.accel")
    assert accelc.load(tmp_path / "kept.accel").report() == program.report()
    write_report(tmp_path / "report.json", program.measure())
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == program.report()


def test_notes_survive_the_manifest(programs):
    program = programs["digits_shufflenet", "tile32"].compiled
    product = Product(3, 4, 2, (5, 6), 7)
    shuffle = ShuffleNote("s", ("a",), "moved", "moves", ("b", "c"), None)
    notes = Notes(1, "canonicalize", (("a", "b"), ()), {"peak_bytes": 5}, {"a": product}, (shuffle,), ("w",), ("r",))
    assert read_notes(replace(program, report=json.loads(json.dumps(notes.to_json())))) == notes
    assert read_notes(replace(program, report={})) == Notes()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("opt_level", "2", "manifest: 'report.opt_level' is '2', expected an integer from 0 to 3"),
        ("warnings", [1], "manifest: 'report.warnings' is [1], expected a list of texts"),
        ("shuffles", [{"name": 1}], "manifest: 'report.shuffles[0].name' is 1, expected text"),
        ("sram", {"peak_bytes": -1}, "manifest: 'report.sram.peak_bytes' is -1, expected an integer from 0 to"),
        ("products", [{"kernel": [3]}], "manifest: 'report.products[0].kernel' is [3], expected a list of 2 integers"),
    ],
)
def test_strange_notes_are_refused(programs, key, value, message):
    program = programs["digits_cnn", "tile32"].compiled
    noted = replace(program, report={**Notes().to_json(), key: value})
    with pytest.raises(accelc.CompileError) as caught:
        read_notes(noted)
    assert caught.value.diagnostics[0].message.startswith(message)


def test_text_names_every_cause(programs):
    assert set(WORDS) == set(CAUSES)
    report = programs["digits_depthwise", "tile32"].measure()
    for width in (100, 118, 160):
        text = render_report(report, width=width)
        assert max(map(len, text.splitlines())) <= width
        for layer in report.layers:
            assert f"{layer.cycles:,}" in text
        for cause, slots in report.slots.items():
            if slots:
                assert f"{WORDS[cause]:<15} " in text and f"{slots / report.machine.block_slots:,.1f}" in text
    assert summary_line(report).startswith("digits_depthwise on tile32: ")


def test_accuracy_in_words():
    facts = {"float": 0.9, "program": 0.89, "samples": 100, "flips": 3, "sqnr_db": 30.0, "low": -0.03, "high": 0.01}
    assert accuracy_line(facts) == (
        "top-1 89.00% of 100 samples in integers, 90.00% in float: -1.00 points (95 % interval -3.00 to +1.00), "
        "3 flips, SQNR 30.0 dB"
    )
    assert accuracy_line({**facts, "sqnr_db": None}).endswith("equal outputs")
    assert accuracy_line(None) == ""


@pytest.mark.parametrize(
    ("channels", "taps", "lanes", "expected"),
    [
        (47, 9, 32, (32, 49)),  # 423 of 448 lanes; 9 x 49 = 441 still fits
        (47, 1, 32, (32, 64)),
        (64, 1, 32, (32, 64)),
        (3, 9, 32, (0, 3)),
        (16, 4, 16, (12, 16)),
    ],
)
def test_fitting_channels(channels, taps, lanes, expected):
    assert fitting_channels(channels, taps, lanes) == expected


def loss(cause: str, product: Product | None, mapping: BlockMapping | None = None, **fields) -> list[str]:
    """The sentences about a report of one layer that loses half of its slots to one cause."""
    total = 1000 * MACHINE.slots_per_cycle
    slots = {"useful_mac": total // 2, cause: total // 2}
    layer = Layer("conv", ("conv",), "conv", total // 2, 1000, slots, 2, mapping=mapping, product=product, **fields)
    report = Report(
        "m", MACHINE, "int8", total // 2, 1000, slots, {"compute_cycles": 500}, {"array": 2}, (layer,), {}, 0, 0
    )
    return [advice.sentence for advice in advise(report)]


def test_advice_on_channels():
    product = Product(47, 94, 1, (3, 3), 64)
    assert loss("reduction_padding", product, BlockMapping("none", 1, 1, 4, False)) == [
        "47 input channels fill 73% of the lanes they take; 64 would take the same cycles, 32 would fill them"
    ]
    assert loss("column_padding", product, BlockMapping("none", 1, 1, 4, False)) == [
        "94 output channels fill 98% of 96 columns; 96 would take the same cycles, 64 would fill them"
    ]
    assert loss("column_padding", product, BlockMapping("none", 1, 4, 1, False)) == [
        "3 column tiles leave 1 of 4 block turns empty; 128 output channels would take the same cycles"
    ]
    (sentence,) = loss("reduction_padding", Product(3, 64, 1, (3, 3), 64), BlockMapping("none", 1, 1, 4, False))
    assert sentence.startswith("3 input channels fill 9% of the lanes they take; more channels a pixel (space-to-depth")


def test_advice_on_depthwise_and_rows():
    depthwise, diagonal = Product(1, 1, 64, (3, 3), 64), BlockMapping("none", 1, 2, 2, True)
    (sentence,) = loss("depthwise_diagonal", depthwise, diagonal)
    assert sentence.startswith("a depthwise convolution lies on the diagonal of the blocks and uses 1 of 32 weights")
    (sentence,) = loss("edge_rows", Product(64, 10, 1, (1, 1), 1), BlockMapping("none", 1, 1, 1, False))
    assert "a larger batch would give them rows" in sentence
    (sentence,) = loss("edge_rows", Product(64, 64, 1, (1, 1), 49), BlockMapping("none", 1, 1, 4, False))
    assert sentence == "49 output pixels are no multiple of the 4 blocks that share them"


def test_advice_on_memory():
    product, mapping = Product(64, 64, 1, (1, 1), 16), BlockMapping("none", 1, 1, 4, False)
    (sentence,) = loss("dma_wait", product, mapping, dram_read_bytes=100_000)
    assert sentence.startswith("moves 100,000 bytes for 2,048,000 MACs (20.5 a byte; full blocks need 256)")
    (sentence,) = loss("dma_wait", product, mapping, dram_read_bytes=160)
    assert sentence.startswith("moves 160 bytes (10 cycles at full bandwidth) and waits for the latency of the DRAM")
    (sentence,) = loss("vector_wait", None)
    assert sentence == "the conv runs on the vector unit while the blocks wait; leaving it out or fusing it frees them"


def test_small_losses_are_not_worth_a_sentence(programs):
    report = programs["digits_cnn", "tile32"].measure()
    for advice in advise(report):
        assert advice.cycles >= 0.01 * report.cycles
    assert loss("idle", None) == []
